"""The source of a function as it runs, normalised: equal for two functions that differ in comments and layout alone.

A key must hang on the code that runs, and a file may be edited while a process that has imported it goes on. So a
source is taken only where compiling it gives the very code object of the function: first what `from_source` compiled
when the module was imported, then what is in the file now. Where neither does (code that `exec` made, a file that was
edited or removed, another interpreter's bytecode), there is no source, and `fingerprint` takes the bytecode instead.

Normalised means: the syntax tree without positions, docstrings, annotations of arguments and results, and without the
function's own name, decorators and defaults, which `fingerprint` follows as the objects they are. What differs between
Python 3.11 and 3.13 for one source is left out or evened out.
"""

import ast
import contextlib
import functools
import linecache
import os
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Of no effect on what a function returns, or not the same in every Python version for one source.
_LEFT_OUT = frozenset(("annotation", "returns", "type_comment", "type_params", "kind", "ctx"))
_WITH_DOCSTRING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _Module:
    """A module's source, and what it compiles to."""

    def __init__(self, source: bytes, file: str) -> None:
        self._functions: dict[tuple[str, int], list[Function]] = {}
        for node in ast.walk(ast.parse(source, file)):
            if isinstance(node, Function):
                self._functions.setdefault(_key_of_node(node), []).append(node)
        self._codes: dict[tuple[str, int], list[CodeType]] = {}
        waiting = [compile(source, file, "exec", dont_inherit=True)]
        while waiting:
            code = waiting.pop()
            self._codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
            waiting += [const for const in code.co_consts if isinstance(const, CodeType)]

    def find(self, code: CodeType) -> Function | None:
        """The function that compiles to `code`; None where there is none, or it cannot be told which of several."""
        key = (code.co_name, code.co_firstlineno)
        if code not in self._codes.get(key, ()):
            return None
        nodes = self._functions.get(key, [])
        return nodes[0] if len(nodes) == 1 else _around(nodes, code)


_imported: dict[str, bytes] = {}  # file -> the source that its module was compiled from
# By identity: code objects of two places may be equal, but which source is found must not hang on which came first.
_texts: dict[int, tuple[CodeType, str]] = {}


def remember(file: str, source: bytes) -> None:
    """Takes note of the source that a module is being imported from."""
    _imported[file] = source


def normalised(function: FunctionType) -> str | None:
    """The function's normalised source; None where what runs has none that is known."""
    code = function.__code__
    if id(code) not in _texts:
        for source in _sources(code.co_filename):
            module = _module(source, code.co_filename)
            node = module.find(code) if module is not None else None
            if node is not None:
                _texts[id(code)] = code, _function_text(node)
                break
        else:
            return None
    return _texts[id(code)][1]


def _sources(file: str) -> Iterator[bytes]:
    if file in _imported:
        yield _imported[file]
    if os.path.isfile(file):
        with contextlib.suppress(OSError), open(file, "rb") as handle:
            yield handle.read()
    elif file in linecache.cache:  # a notebook's cell
        yield "".join(linecache.getlines(file)).encode()


@functools.lru_cache(maxsize=256)
def _module(source: bytes, file: str) -> _Module | None:
    try:
        return _Module(source, file)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _key_of_node(node: Function) -> tuple[str, int]:
    """Name and first line, as the code object has them: of a decorated function, that of the first decorator."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min([node.lineno, *(one.lineno for one in node.decorator_list)])


def _around(nodes: list[Function], code: CodeType) -> Function | None:
    """Of lambdas that begin in one line, the smallest whose body holds all of the code's positions."""
    known = [place for place in code.co_positions() if None not in place]
    # Python's own first instructions stand at column 0 of the first line, whatever is there.
    places = [
        ((line, column), (last, end))
        for line, last, column, end in known
        if (column, end) != (0, 0)
    ]
    if not places:  # Python runs with -X no_debug_ranges; or, in 3.12, the body is a constant
        constant = [node for node in nodes if known and isinstance(node.body, ast.Constant)]
        return constant[0] if len(constant) == 1 else None
    first, last = min(begin for begin, _ in places), max(end for _, end in places)
    holding = [
        node
        for node in nodes
        if isinstance(node.body, ast.expr)
        and (node.body.lineno, node.body.col_offset) <= first
        and last <= (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    ]
    return max(holding, key=lambda node: (node.lineno, node.col_offset), default=None)


def _function_text(node: Function) -> str:
    taken = {name: value for name, value in ast.iter_fields(node.args) if "defaults" not in name}
    body = node.body if isinstance(node, ast.Lambda) else _without_docstring(node.body)
    awaits = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    arguments = ", ".join(f"{name}={_text(value)}" for name, value in taken.items())
    return f"{awaits}function({arguments}): {_text(body)}"


def _text(value: Any) -> str:
    """A syntax tree as text, the same in every Python version that reads it alike."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, ast.AST):
        return ascii(
            value
        )  # repr's choice of what to escape goes with the version's Unicode tables
    fields = dict(ast.iter_fields(value))
    if isinstance(value, _WITH_DOCSTRING):
        fields["body"] = _without_docstring(value.body)
    if isinstance(value, ast.JoinedStr):
        fields["values"] = _joined(value.values)
    shown = ", ".join(
        f"{name}={_text(inner)}"
        for name, inner in fields.items()
        if name not in _LEFT_OUT and inner is not None and inner != []
    )
    return f"{type(value).__name__}({shown})"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string; versions differ in where they cut the plain text between fields."""
    joined: list[ast.expr] = []
    for value in values:
        last = joined[-1] if joined else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            joined[-1] = ast.Constant(last.value + value.value)  # type: ignore[operator]
        else:
            joined.append(value)
    return [one for one in joined if not (isinstance(one, ast.Constant) and one.value == "")]
