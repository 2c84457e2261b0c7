"""The user's own filter, found by its name."""

from collections.abc import Callable
from typing import Any

from flanx.data.filters import Function
from flanx.errors import UserError, did_you_mean
from flanx.user_code.importing import import_users


def load(one: Function) -> Callable[..., Any]:
    """The user's function.

    Raises:
      UserError: there is no such module, or no such function in it.
    """
    module_name, _, name = one.name.partition(":")
    module = import_users(module_name, f"filter Function('{one.name}')")
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(
            f"filter Function('{one.name}'): module '{module_name}' has no function '{name}'"
            f"{did_you_mean(name, (n for n, v in vars(module).items() if callable(v)))}"
        )
    return found
