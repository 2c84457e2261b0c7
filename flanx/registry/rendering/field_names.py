"""Which fields a task has: known at registration wherever the code says so, so that a misspelt one is found there.

`fields` is a mapping `{name: column or function of the row}`, or a function of the row. The names that a function
gives are read from its source: a function whose every `return` is a dict display, `dict(...)` call, or a variable
bound to one, has names that are known; of any other they are known with the first row.
"""

import ast
import linecache
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

Row = Mapping[str, Any]
Fields = Callable[[Any], Mapping[str, Any]] | Mapping[str, str | Callable[[Any], Any]]

_known: dict[CodeType, frozenset[str] | None] = {}
_trees: dict[str, list[ast.Lambda | ast.FunctionDef]] = {}


def as_function(fields: Fields) -> Callable[[Row], Mapping[str, Any]]:
    """`fields` as a function of the row."""
    if not isinstance(fields, Mapping):
        return fields
    getters = dict(fields)

    def from_mapping(row: Row) -> dict[str, Any]:
        return {
            name: row[get] if isinstance(get, str) else get(row) for name, get in getters.items()
        }

    return from_mapping


def field_names(fields: Fields) -> frozenset[str] | None:
    """The names that `fields` gives, or None where only a row can tell."""
    if isinstance(fields, Mapping):
        return frozenset(fields)
    code = getattr(fields, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    if code not in _known:
        _known[code] = _names_in_source(code)
    return _known[code]


def _names_in_source(code: CodeType) -> frozenset[str] | None:
    node = _definition(code)
    if node is None:
        return None
    if isinstance(node, ast.Lambda):
        return _dict_keys(node.body)
    own = _own_statements(node)
    returned = [statement.value for statement in own if isinstance(statement, ast.Return)]
    names: set[str] = set()
    for value in returned:
        if value is not None and _is_none(value):
            continue  # leaves a row out
        if isinstance(value, ast.Name):
            keys = _keys_of_variable(value.id, own)
        else:
            keys = _dict_keys(value)
        if keys is None:
            return None
        names |= keys
    return frozenset(names) if names else None


def _dict_keys(node: ast.expr | None) -> frozenset[str] | None:
    """Keys of `{"a": ...}` or `dict(a=...)`; None where one of them is not plain."""
    if isinstance(node, ast.IfExp):
        nothing = [_is_none(node.body), _is_none(node.orelse)]
        if any(nothing):  # `{...} if ... else None`, which leaves a row out
            return None if all(nothing) else _dict_keys(node.orelse if nothing[0] else node.body)
        first, second = _dict_keys(node.body), _dict_keys(node.orelse)
        return None if first is None or second is None else first | second
    if isinstance(node, ast.Dict):
        names: set[str] = set()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:  # {**other}
                inner = _dict_keys(value)
                if inner is None:
                    return None
                names |= inner
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                names.add(key.value)
            else:
                return None
        return frozenset(names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            return None
        return frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
    return None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _keys_of_variable(variable: str, statements: list[ast.stmt]) -> frozenset[str] | None:
    """Keys of a dict bound to `variable` and then filled by `variable["x"] = ...` alone."""
    names: set[str] = set()
    bound = False
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id == variable:
                keys = _dict_keys(statement.value)
                if keys is None:
                    return None
                names |= keys
                bound = True
            elif (
                isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Name)
                and target.value.id == variable
            ):
                key = target.slice.value if isinstance(target.slice, ast.Constant) else None
                if not isinstance(key, str):
                    return None
                names.add(key)
    updated = any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == variable
        and node.func.attr in ("update", "setdefault")
        for statement in statements
        for node in ast.walk(statement)
    )
    return frozenset(names) if bound and not updated else None


def _own_statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """Statements of the function, without those of functions inside it."""
    found: list[ast.stmt] = []
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.stmt):
            found.append(node)
        waiting.extend(reversed(list(ast.iter_child_nodes(node))))
    return found


def _definition(code: CodeType) -> ast.Lambda | ast.FunctionDef | None:
    """The one lambda or def in the source file that compiled to `code`."""
    candidates = [
        node
        for node in _functions(code.co_filename)
        if _first_line(node) == code.co_firstlineno
        and (code.co_name == "<lambda>") == isinstance(node, ast.Lambda)
    ]
    if len(candidates) > 1:  # several lambdas on a line: the columns tell
        places = set(code.co_positions())
        candidates = [
            node
            for node in candidates
            if isinstance(node, ast.Lambda)
            and (
                node.body.lineno,
                node.body.end_lineno,
                node.body.col_offset,
                node.body.end_col_offset,
            )
            in places
        ]
    return candidates[0] if len(candidates) == 1 else None


def _first_line(node: ast.Lambda | ast.FunctionDef) -> int:
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        return node.decorator_list[0].lineno
    return node.lineno


def _functions(filename: str) -> list[ast.Lambda | ast.FunctionDef]:
    if filename not in _trees:
        try:
            tree = ast.parse("".join(linecache.getlines(filename)))
        except (SyntaxError, ValueError):
            tree = ast.Module(body=[], type_ignores=[])
        _trees[filename] = [
            node for node in ast.walk(tree) if isinstance(node, (ast.Lambda, ast.FunctionDef))
        ]
    return _trees[filename]
