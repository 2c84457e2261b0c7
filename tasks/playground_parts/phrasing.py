"""How the playground asks: a few families of frames, shared by all tasks, each filled with a task's own words.

Sharing frames is what lets a task that was never trained on be understood: its frame and each of its words are known,
only their combination is new. A task gets one template a frame, its wordings taken in turn.
"""

from collections.abc import Sequence

# {text}: the list or story; <np>: a noun phrase such as "the last animal".
NAME_IN_TEXT = (
    "{text}\n\nWhat is <np>?",
    "What is <np> in this list?\n\n{text}",
    "List: {text}\nName <np>.",
    "Give <np> of this list: {text}",
    "Here is a list: {text}. Write <np>.",
    "Find <np>: {text}",
    "Words: {text}\n\nAnswer with <np>.",
    "Look at this list and tell me <np>.\n{text}",
)
# <do>: what is to be done with the list, such as "keep only the animals".
DO_WITH_TEXT = (
    "{text}\n\nNow <do>.",
    "Take this list and <do>: {text}",
    "List: {text}\nPlease <do>.",
    "Your job is to <do>.\n\n{text}",
    "Here is a list: {text}. Now <do> and write the result.",
    "Words: {text}\n\nWhat do you get when you <do>?",
    "I want you to <do>: {text}",
    "Look at this list and <do>.\n{text}",
)
# <ask>: a whole question, "How many animals are there"; its first word comes in small letters too.
ASK_OF_TEXT = (
    "{text}\n\n<Ask>?",
    "<Ask>?\n\n{text}",
    "Text: {text}\nQuestion: <ask>?",
    "Read this: {text}\n<Ask>?",
    "Question: <ask>?\nText: {text}\nAnswer:",
    "Here is what we know. {text} Now tell me, <ask>?",
    "Look at this and answer: <ask>?\n{text}",
    "{text} So, <ask>?",
)
# The same without a text.
NAME = (
    "What is <np>?",
    "Name <np>.",
    "Give <np>.",
    "Tell me <np>.",
    "Question: what is <np>?\nAnswer:",
    "I am looking for <np>. What is it?",
    "Write <np>.",
    "Answer with <np>.",
)
ASK = (
    "<Ask>?",
    "Question: <ask>?",
    "Question: <ask>?\nAnswer:",
    "Tell me, <ask>?",
    "Please answer: <ask>?",
    "Here is a question: <ask>?",
    "I want to know: <ask>?",
    "So, <ask>?",
)


def phrased(frames: Sequence[str], *wordings: str) -> tuple[str, ...]:
    """One template text a frame, the wordings in turn; a wording may hold fields of its own."""
    return tuple(_fill(frame, wordings[i % len(wordings)]) for i, frame in enumerate(frames))


def _fill(frame: str, wording: str) -> str:
    capital = wording[0].upper() + wording[1:]
    for mark in ("<np>", "<do>", "<ask>"):
        frame = frame.replace(mark, wording)
    return frame.replace("<Ask>", capital)
