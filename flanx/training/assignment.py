"""Which array of a checkpoint each array of a model comes from, and one message for all that do not fit.

Rules are pairs `(pattern, source)`, as T5X's `RestoreCheckpointConfig.assignment_map`: the first pattern that matches
the whole name of a model's array decides, and `source` names the checkpoint's array, groups filled in (`\\1`); a name
that no pattern matches is looked up as it is. None for a source keeps the model's fresh initialisation, and leaves
arrays of the checkpoint that match the pattern unread:

    (("decoder/logits_dense/kernel", None), (r"encoder/layers_(\\d+)/(.*)", r"encoder/layers_\\1/\\2"))

Names are those of single layers ("encoder/layers_0/mlp/wo/kernel"), whether the model or the checkpoint stacks them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flanx.errors import UserError

Rules = Sequence[Sequence[str | None]]
Shapes = Mapping[str, tuple[int, ...]]
Odd = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # name -> shape there, shape here

_LAYER = re.compile(r"layers_(\d+)")
# The arrays whose length is the number of token ids, and their axis of it.
_VOCABULARY_AXIS = {"token_embedder/embedding": 0, "decoder/logits_dense/kernel": 1}


def check_rules(rules: Rules) -> None:
    """Rules as a user may have written them.

    Raises:
      UserError: one is not a pair, or its pattern no regular expression, or its source refers to a group that the
        pattern does not have, or has an escape that is none.
    """
    for rule in rules:
        pattern = rule[0] if len(rule) == 2 else None
        if pattern is None:
            raise UserError(
                f"ASSIGNMENT: {tuple(rule)!r} is not a rule: write (pattern, source), or (pattern, None)"
            )
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"ASSIGNMENT: '{pattern}' is no regular expression ({error})"
            ) from error
        try:
            compiled.sub(rule[1] or "", "")  # reads the template, whether anything matches or not
        except (re.error, IndexError) as error:
            raise UserError(
                f"ASSIGNMENT: '{rule[1]}' cannot be filled in from the groups of '{pattern}' ({error})"
            ) from error


PARTS = (
    "Give the checkpoint's MODEL, or say in ASSIGNMENT which arrays to leave out (pattern, None)"
)


def assign(
    wanted: Shapes, stored: Shapes, rules: Rules, where: str, mend: str = PARTS
) -> dict[str, str | None]:
    """The checkpoint's array for each of the model's; None for those that stay as initialised.

    Args:
      wanted: name -> shape of the model's arrays.
      stored: name -> shape of the checkpoint's.
      rules: see above.
      where: names the checkpoint in messages.
      mend: what to do about arrays that do not fit, where it is not a padded vocabulary alone.

    Raises:
      UserError: arrays that are missing, have another shape or are left over, all of them in one message; or a rule
        that matches nothing.
    """
    check_rules(rules)
    compiled = [(re.compile(str(pattern)), source) for pattern, source in rules]
    _check_used(compiled, [*wanted, *stored], where)
    sources = {name: _source(name, compiled) for name in wanted}
    missing = {n: s for n, s in sources.items() if s is not None and s not in stored}
    odd = {
        name: (stored[source], wanted[name])
        for name, source in sources.items()
        if source is not None and source in stored and stored[source] != wanted[name]
    }
    read = set(sources.values())
    extra = [
        name
        for name in stored
        if name not in read and not _accounted(name, name in wanted, compiled)
    ]
    if missing or odd or extra:
        rows = None if missing or extra else _rows_there(odd)
        if rows is not None:
            mend = f"Set the model's vocab_size = {rows}, the checkpoint's: rows beyond the vocabulary are padding"
        told = "; ".join(_faults(missing, odd, extra, stored))
        raise UserError(f"{where} does not fit this model: {told}. {mend}")
    return sources


def folded(names: Iterable[str]) -> list[str]:
    """Names with the layers of a stack folded into one: `encoder/layers_{0-3,5}/mlp/wo/kernel`, in order."""
    groups: dict[str, list[int]] = {}
    for name in names:
        found = _LAYER.search(name)
        if found is None:
            groups[name] = []
        else:
            key = f"{name[: found.start()]}layers_*{name[found.end() :]}"
            groups.setdefault(key, []).append(int(found.group(1)))
    return [
        key.replace("layers_*", f"layers_{_ranges(layers)}", 1) if layers else key
        for key, layers in groups.items()
    ]


def _source(name: str, rules: Iterable[tuple[re.Pattern[str], str | None]]) -> str | None:
    for pattern, source in rules:
        found = pattern.fullmatch(name)
        if found:
            return None if source is None else found.expand(source)
    return name


def _accounted(
    name: str, in_model: bool, rules: Iterable[tuple[re.Pattern[str], str | None]]
) -> bool:
    """Whether a rule says that the checkpoint's array may go unread: it is refused, or another takes its place."""
    for pattern, source in rules:
        if pattern.fullmatch(name):
            return source is None or in_model
    return False


def _check_used(
    rules: Iterable[tuple[re.Pattern[str], str | None]], names: Sequence[str], where: str
) -> None:
    for pattern, _ in rules:
        if not any(pattern.fullmatch(name) for name in names):
            raise UserError(
                f"ASSIGNMENT: '{pattern.pattern}' matches the whole name of no array, neither of the model nor of "
                f"{where} (names look like 'encoder/layers_0/mlp/wo/kernel')"
            )


def _faults(
    missing: Mapping[str, str], odd: Odd, extra: Sequence[str], stored: Shapes
) -> Iterator[str]:
    """Each kind of fault with the number of arrays and all their names."""
    if missing:
        names = [f"{n} (from {s})" if n != s else n for n, s in missing.items()]
        yield f"{_arrays(len(missing))} missing: {_listed(names)}"
    if odd:
        names = [f"{name} {then} there and {now} here" for name, (then, now) in odd.items()]
        yield f"{_arrays(len(odd))} of another shape: {_listed(names)}"
    if extra:
        yield f"{_arrays(len(extra))} too many: {_listed(f'{n} {stored[n]}' for n in extra)}"


def _rows_there(odd: Odd) -> int | None:
    """The checkpoint's number of token ids, where arrays differ in that alone."""
    rows = {_rows(name, then, now) for name, (then, now) in odd.items()}
    return rows.pop() if len(rows) == 1 else None


def _rows(name: str, then: tuple[int, ...], now: tuple[int, ...]) -> int | None:
    """The checkpoint's number of token ids where that is all in which an array differs, else None."""
    axis = _VOCABULARY_AXIS.get(name)
    if axis is None or len(then) != len(now):
        return None
    differ = [i for i, (a, b) in enumerate(zip(then, now, strict=True)) if a != b]
    return then[axis] if differ == [axis] else None


def _arrays(count: int) -> str:
    return f"{count:,} array" if count == 1 else f"{count:,} arrays"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(folded(names))


def _ranges(numbers: Iterable[int]) -> str:
    """`3` or `{0-3,5}`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return "{" + ",".join(texts) + "}" if "-" in texts[0] or len(texts) > 1 else texts[0]
