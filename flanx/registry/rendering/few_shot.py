"""Few-shot examples: how many exemplars stand before the query, in what dress, and how many fit.

As Flan 2022 does it (Longpre et al. 2023; google-research/FLAN): five exemplars of one template, or two or three of
the query's own, kept while their tokens fit the inputs beside the query, the example dropped where none fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flanx.errors import UserError
from flanx.registry.rendering.template import placeholders

# In the key of every few-shot store. Raise it when the same rows are given other exemplars, or the same exemplars are
# shown otherwise. `exemplars` belongs to it.
VERSION = 1


@dataclass(frozen=True)
class FewShot:
    """How a dataset's few-shot types are made.

    Attributes:
      max_exemplars: exemplars of the form that shows one drawn template.
      own: numbers of exemplars, one drawn, of the form that shows the query's own template.
      counts: numbers of exemplars, one drawn, in place of the two forms above; None for them.
      reserve: tokens of the inputs kept free, for what joins the pieces; at most a quarter of the inputs' length,
        so that short inputs still take exemplars.
      exemplars: field with the row's own exemplars, a list of field mappings; None: exemplars are other rows of the
        train split.
      items: forms of one exemplar in which fields stand in braces, input and output in one text; one is drawn of those
        whose fields all exemplars have. Without any, exemplars are shown by the task's templates.
      separators: what stands between exemplars that `items` show; one is drawn.
      pool: train rows that exemplars are drawn from, at most; a random subset of that size of a larger split.
    """

    max_exemplars: int = 5
    own: tuple[int, ...] = (2, 3)
    counts: tuple[int, ...] | None = None
    reserve: int = 128
    exemplars: str | None = None
    items: tuple[str, ...] = ()
    separators: tuple[str, ...] = ("\n\n",)
    pool: int = 2048

    def __post_init__(self) -> None:
        for name in ("own", "items", "separators", "counts"):
            value = getattr(self, name)
            if isinstance(value, (str, int)):
                raise UserError(f"FewShot: {name} is {value!r}; give a list, [{value!r}] say")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        numbers = (self.max_exemplars, *self.own, *(self.counts or ()))
        for number in (*numbers, self.reserve, self.pool):
            if isinstance(number, bool) or not isinstance(number, int):
                raise UserError(f"FewShot: {number!r} is no whole number")
        if self.pool < 1 or self.reserve < 0:
            raise UserError("FewShot: pool must be at least 1, and reserve at least 0")
        if min(numbers) < 1:
            raise UserError(f"FewShot: {min(numbers)} exemplars; a few-shot example has at least 1")
        if not self.own or not self.separators or self.counts == ():
            raise UserError("FewShot: `own`, `counts` and `separators` must not be empty")
        for item in self.items:
            placeholders(item)

    @property
    def from_row(self) -> bool:
        """Exemplars come with the row, so that no train split is needed."""
        return self.exemplars is not None

    def budget(self, inputs_length: int, query_tokens: int) -> int:
        """Tokens that exemplars may take."""
        return inputs_length - min(self.reserve, inputs_length // 4) - query_tokens


@dataclass(frozen=True)
class Dress:
    """How exemplars and query are told apart: marks before inputs and targets, and what joins them.

    `{n}` in a mark counts exemplars and query from 1.
    """

    input_mark: str
    target_mark: str
    between: str
    separator: str

    def exemplar(self, n: int, inputs: str, targets: str) -> str:
        gap = " " if self.target_mark and not self.target_mark.endswith("\n") else ""
        return (
            f"{self.input_mark.format(n=n)}{inputs}{self.between}"
            f"{self.target_mark.format(n=n)}{gap}{targets}"
        )

    def query(self, n: int, inputs: str) -> str:
        """The query, up to the mark that the target is to follow."""
        end = f"{self.between}{self.target_mark.format(n=n)}" if self.target_mark else ""
        return f"{self.input_mark.format(n=n)}{inputs}{end}"


DRESSES = (
    Dress("", "", "\n", "\n\n"),
    Dress("", "", "\n\n", "\n\n\n"),
    Dress("", "", " ", "\n\n"),
    Dress("", "", "\n", "\n\n***\n\n"),
    Dress("Q: ", "A:", "\n", "\n\n"),
    Dress("Q: ", "A:", "\n", "\n---\n"),
    Dress("Question: ", "Answer:", "\n", "\n\n"),
    Dress("question: ", "answer:", " ", "\n"),
    Dress("Input: ", "Output:", "\n", "\n\n"),
    Dress("INPUT:\n", "OUTPUT:", "\n", "\n\n"),
    Dress("input: ", "target:", "\n", "\n\n\n"),
    Dress("Problem: ", "Solution:", "\n", "\n\n"),
    Dress("[{n}] ", "=>", " ", "\n\n"),
    Dress("Example {n}:\n", "Answer:", "\n", "\n\n"),
    Dress("{n}. ", "->", "\n", "\n\n"),
    Dress("User: ", "Assistant:", "\n", "\n\n"),
    Dress("Task: ", "Result:", "\n\n", "\n\n\n"),
    Dress("<<< ", ">>>", "\n", "\n\n"),
)


def fitting(texts: Sequence[str], budget: int | None, tokens: Callable[[str], int]) -> list[int]:
    """Places of the texts kept, in order, while their token sum stays within `budget` (None: all)."""
    if budget is None:
        return list(range(len(texts)))
    kept = []
    for place, text in enumerate(texts):
        size = tokens(text)
        if size <= budget:
            budget -= size
            kept.append(place)
    return kept
