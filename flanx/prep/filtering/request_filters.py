"""A request's filters, handed to the work items that apply them."""

from collections.abc import Sequence
from dataclasses import replace

from flanx.data.filters import DUPLICATES, Decontaminate
from flanx.data.request import StoreRequest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.prep.filtering import overlap
from flanx.prep.filtering.overlap import Overlap
from flanx.prep.work_item import WorkItem
from flanx.registry import Selected


def with_filters(
    request: StoreRequest,
    selected: Sequence[Selected],
    items: Sequence[WorkItem],
    words: Vocabulary,
) -> tuple[tuple[WorkItem, ...], tuple[Overlap, ...]]:
    """The request's items with what its filters need of them.

    Args:
      request: the request.
      selected: its tasks.
      items: one a task.
      words: its vocabulary.

    Returns:
      The items, and what each Decontaminate compares with; `index_overlaps` has to run before the items do.

    Raises:
      UserError: two filters of one kind for duplicates, or evaluation tasks that are not there.
    """
    if not request.filters:
        return tuple(items), ()
    across = tuple(one for one in request.filters if isinstance(one, DUPLICATES))
    for kind in DUPLICATES:
        if sum(isinstance(one, kind) for one in across) > 1:
            raise UserError(
                f"'{request.mixture}' has several {kind.__name__} filters; keep the one that drops most"
            )
    rowwise = tuple(one for one in request.filters if not isinstance(one, DUPLICATES))
    overlaps = tuple(
        overlap.resolve(one, request, words, items[0])
        for one in rowwise
        if isinstance(one, Decontaminate)
    )
    sketched: set[str] = set()
    found = []
    for one, item in zip(selected, items, strict=True):
        first = one.dataset not in sketched
        sketched.add(one.dataset)
        paths = tuple(o.path for o in overlaps)
        found.append(replace(item, filters=rowwise, overlaps=paths, sketch=across if first else ()))
    return tuple(found), overlaps
