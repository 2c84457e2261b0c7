"""`flanx.mixture`: registers a mixture, with every mistake found there and then."""

import re
from collections.abc import Sequence

from flanx.errors import UserError
from flanx.registry import table
from flanx.registry.mixtures.parts import Mixture, Part, check_positive
from flanx.registry.spec import caller

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def mixture(
    name: str,
    parts: Sequence[Part | str],
    *,
    cap: int | None = None,
    temperature: float | None = None,
) -> None:
    """Registers a mixture. Its patterns are looked up when it is used, not now.

    Args:
      name: letters, digits, `_` and dots.
      parts: `Part`s; a plain text is `Part(text)`.
      cap: most examples that count for a task's weight: min(cap, n), the rest is still used.
      temperature: a task of n examples weighs min(cap, n)**(1 / temperature); 1 unless given.

    Raises:
      UserError: the name is taken or malformed, no parts, shares on some parts alone, or a cap or temperature that is
        not above 0.
    """
    place = caller()
    if not _NAME.fullmatch(name):
        raise UserError(f"mixture '{name}' ({place}): a name has letters, digits, '_' and dots")
    if isinstance(parts, (str, Part)):
        parts = (parts,)
    made = tuple(Part(part) if isinstance(part, str) else part for part in parts)
    if not made:
        raise UserError(f"mixture '{name}' ({place}): no parts; give flanx.Part('collection.*')")
    for part in made:
        if not isinstance(part, Part):
            raise UserError(f"mixture '{name}' ({place}): {part!r} is no flanx.Part")
    shared = [part for part in made if part.share is not None]
    if shared and len(shared) < len(made):
        bare = next(part.pattern for part in made if part.share is None)
        raise UserError(
            f"mixture '{name}' ({place}): part '{bare}' has no share, but '{shared[0].pattern}' has; "
            "give every part a share, or none"
        )
    for what, value in (("cap", cap), ("temperature", temperature)):
        check_positive(f"mixture '{name}' ({place})", what, value)
    table.add_mixture(Mixture(name, made, cap, place, temperature))
