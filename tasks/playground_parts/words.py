"""The playground's world: every word that its tasks and its pre-training text speak of.

Each content word stands in one list only, so that a list of words can be read without guessing which sense is meant.
"""

KINDS: dict[str, tuple[str, ...]] = {
    "animal": (
        *("fox", "cow", "hen", "dog", "cat", "pig", "goat", "horse", "lion", "tiger", "bear"),
        *("wolf", "frog", "duck", "mouse", "rabbit", "sheep", "zebra", "camel", "monkey"),
    ),
    "fruit": (
        *("apple", "banana", "cherry", "grape", "lemon", "mango", "melon", "peach", "pear"),
        *("plum", "fig", "kiwi", "lime", "papaya", "olive", "apricot"),
    ),
    "colour": (
        *("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple"),
        *("grey", "violet", "scarlet", "beige", "crimson"),
    ),
    "tool": (
        *("hammer", "saw", "drill", "spade", "rake", "axe", "wrench", "ladder", "chisel"),
        *("shovel", "brush", "needle", "knife", "hoe", "pump", "scissors"),
    ),
    "vehicle": (
        *("car", "bus", "train", "boat", "ship", "truck", "van", "tram", "bicycle", "plane"),
        *("taxi", "wagon", "canoe", "tractor", "ferry", "rocket"),
    ),
    "garment": (
        *("coat", "shirt", "scarf", "sock", "glove", "hat", "boot", "shoe", "skirt", "dress"),
        *("jacket", "belt", "sweater", "cap", "vest", "apron"),
    ),
}

KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
THINGS = tuple(KIND_OF)


def plural_kind(kind: str) -> str:
    """The kind's name for more than one: `animals`."""
    return kind + "s"


def a(noun: str) -> str:
    """The noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


PLURALS = {
    **{w: w + "s" for w in ("cow", "hen", "dog", "cat", "pig", "goat", "horse", "lion", "tiger")},
    **{w: w + "s" for w in ("bear", "frog", "duck", "rabbit", "zebra", "camel", "monkey")},
    **{w: w + "s" for w in ("apple", "banana", "grape", "lemon", "plum", "pear", "melon")},
    **{w: w + "s" for w in ("hammer", "saw", "drill", "spade", "ladder", "car", "train", "boat")},
    **{w: w + "s" for w in ("ship", "truck", "coat", "shirt", "sock", "glove", "hat", "boot")},
    "fox": "foxes",
    "bus": "buses",
    "peach": "peaches",
    "cherry": "cherries",
    "ferry": "ferries",
    "wolf": "wolves",
    "knife": "knives",
    "mouse": "mice",
    "sheep": "sheep",
    "scarf": "scarves",
    "brush": "brushes",
    "dress": "dresses",
}

_OPPOSITE_PAIRS = (
    *(("hot", "cold"), ("big", "small"), ("fast", "slow"), ("happy", "sad"), ("wet", "dry")),
    *(("full", "empty"), ("hard", "soft"), ("loud", "quiet"), ("early", "late")),
    *(("rich", "poor"), ("strong", "weak"), ("clean", "dirty"), ("thick", "thin")),
    *(("wide", "narrow"), ("near", "far"), ("deep", "shallow"), ("rough", "smooth")),
    *(("brave", "timid"), ("cheap", "expensive"), ("safe", "dangerous"), ("open", "closed")),
    *(("sharp", "blunt"), ("young", "old"), ("tall", "short")),
)
OPPOSITES = {
    **dict(_OPPOSITE_PAIRS),
    **{right: left for left, right in _OPPOSITE_PAIRS},
}

PAST = {
    **{w: w + "ed" for w in ("walk", "jump", "play", "cook", "paint", "climb", "wash", "call")},
    **{w: w + "ed" for w in ("help", "visit", "look", "push", "pull", "rest")},
    "sing": "sang",
    "run": "ran",
    "eat": "ate",
    "drink": "drank",
    "write": "wrote",
    "swim": "swam",
    "go": "went",
    "give": "gave",
    "find": "found",
    "buy": "bought",
    "fly": "flew",
    "sleep": "slept",
    "bring": "brought",
    "catch": "caught",
    "speak": "spoke",
    "sell": "sold",
}

YOUNG = {
    "dog": "puppy",
    "cat": "kitten",
    "cow": "calf",
    "horse": "foal",
    "sheep": "lamb",
    "duck": "duckling",
    "hen": "chick",
    "lion": "cub",
    "pig": "piglet",
    "goat": "kid",
    "frog": "tadpole",
    "fox": "kit",
}

SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "horse": "neighs",
    "sheep": "bleats",
    "duck": "quacks",
    "hen": "clucks",
    "lion": "roars",
    "pig": "grunts",
    "wolf": "howls",
    "frog": "croaks",
    "mouse": "squeaks",
}

# country: (capital, continent)
COUNTRIES = {
    "France": ("Paris", "Europe"),
    "Spain": ("Madrid", "Europe"),
    "Italy": ("Rome", "Europe"),
    "Germany": ("Berlin", "Europe"),
    "Greece": ("Athens", "Europe"),
    "Norway": ("Oslo", "Europe"),
    "Poland": ("Warsaw", "Europe"),
    "Austria": ("Vienna", "Europe"),
    "Ireland": ("Dublin", "Europe"),
    "Japan": ("Tokyo", "Asia"),
    "China": ("Beijing", "Asia"),
    "India": ("Delhi", "Asia"),
    "Thailand": ("Bangkok", "Asia"),
    "Vietnam": ("Hanoi", "Asia"),
    "Nepal": ("Kathmandu", "Asia"),
    "Egypt": ("Cairo", "Africa"),
    "Kenya": ("Nairobi", "Africa"),
    "Ghana": ("Accra", "Africa"),
    "Senegal": ("Dakar", "Africa"),
    "Morocco": ("Rabat", "Africa"),
    "Peru": ("Lima", "America"),
    "Cuba": ("Havana", "America"),
    "Chile": ("Santiago", "America"),
    "Canada": ("Ottawa", "America"),
}
CONTINENTS = ("Europe", "Asia", "Africa", "America")

NAMES = (
    *("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas"),
    *("Klara", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor"),
)
ROOMS = ("kitchen", "garden", "attic", "cellar", "garage", "hall", "office", "bedroom")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen", "twenty"),
)
LARGEST_NUMBER = 60

# comparative: (superlative, opposite comparative, opposite superlative)
ORDERS = {
    "taller": ("tallest", "shorter", "shortest"),
    "older": ("oldest", "younger", "youngest"),
    "faster": ("fastest", "slower", "slowest"),
    "richer": ("richest", "poorer", "poorest"),
}

# The opposite of every adjective above, and of its comparative and superlative where those are known.
ALL_OPPOSITES = {
    **OPPOSITES,
    **{more: less for more, (_, less, _) in ORDERS.items()},
    **{less: more for more, (_, less, _) in ORDERS.items()},
    **{most: least for most, _, least in ORDERS.values()},
    **{least: most for most, _, least in ORDERS.values()},
}

GOOD = ("lovely", "tasty", "great", "charming", "delightful", "pleasant", "superb", "wonderful")
BAD = ("awful", "boring", "horrid", "nasty", "dreadful", "ugly", "terrible", "unpleasant")
REVIEWED = ("film", "soup", "song", "hotel", "book", "game", "park", "meal")
