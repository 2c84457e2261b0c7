"""Imports point downwards: from a package to those below it, and in no circle, be they lazy or for a type alone."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import flanx

ROOT = Path(flanx.__file__).parent

# From the bottom up; a package imports none of its own floor and none above. "" is flanx's single files.
FLOORS = (
    ("", "hardware"),
    ("user_code", "data", "sharding"),
    ("models",),
    ("registry", "decoding", "interop"),
    ("prep", "insight"),
    ("training", "evaluation"),
    ("plan",),
    ("studies",),
    ("cli",),
)
# Doors: what they hand out is imported when it is asked for, so that to import them costs nothing.
DOORS = ("flanx", "flanx.__main__")

# What is not so yet. These lists only shrink: what no longer occurs is to be removed.
UPWARD = {("evaluation", "training"), ("training", "evaluation"), ("interop", "training")}
CIRCLES = {
    ("flanx.evaluation.curves", "flanx.evaluation.summary"),
    ("flanx.data.vocabulary.huggingface", "flanx.data.vocabulary.loading"),
    (
        "flanx.models.decoder.config",
        "flanx.models.decoder.flops",
        "flanx.models.decoder.parameters",
    ),
    ("flanx.models.t5.config", "flanx.models.t5.flops", "flanx.models.t5.parameters"),
}


def modules() -> dict[str, Path]:
    """Files by module name."""
    names = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] in ("tasks", "mixtures"):  # as a wheel has them
            continue
        names[".".join(("flanx", *parts)).removesuffix(".__init__")] = file
    return names


def imported(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of flanx that a file imports, anywhere in it, or names in a call of `import_module`."""
    for node in ast.walk(ast.parse(file.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in known else str(node.module) for name in whole]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found = [one.value for one in node.args if isinstance(one, ast.Constant)]
        yield from (name for name in found if name.partition(".")[0] == "flanx")


def package(module: str) -> str:
    """The package of flanx that a module is in; "" for a single file."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else ""


@functools.cache
def graph() -> dict[str, set[str]]:
    """What each module but the doors imports."""
    known = modules()
    return {
        name: {one for one in imported(file, known) if one != name}
        for name, file in known.items()
        if name not in DOORS
    }


def upward(arrows: dict[str, set[str]]) -> dict[tuple[str, str], list[str]]:
    """Imports from one package to another that is not below it, by the two packages."""
    floors = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    found: dict[tuple[str, str], list[str]] = {}
    for module, targets in arrows.items():
        for target in targets - set(DOORS):
            pair = package(module), package(target)
            assert set(pair) <= floors.keys(), f"{pair} has a package without a place in FLOORS"
            if pair[0] != pair[1] and floors[pair[0]] <= floors[pair[1]]:
                found.setdefault(pair, []).append(f"{module} -> {target}")
    return found


def circles(arrows: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """Groups of modules that reach each other, as sorted tuples (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = set()

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in arrows.get(module, ()):
            if target not in order:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.add(tuple(sorted(group)))

    for module in arrows:
        if module not in order:
            visit(module)
    return found


def test_no_package_imports_one_above_it():
    found = upward(graph())
    new = {pair: arrows for pair, arrows in found.items() if pair not in UPWARD}
    assert not new, f"imports that run upwards: {new}"
    assert found.keys() >= UPWARD, f"remove from UPWARD: {UPWARD - found.keys()}"


def test_no_modules_import_each_other():
    found = circles(graph())
    assert not found - CIRCLES, f"circles: {found - CIRCLES}"
    assert found >= CIRCLES, f"remove from CIRCLES: {CIRCLES - found}"


def test_tasks_and_mixtures_are_imported_by_name_alone():
    known = modules()
    wrong = [
        f"{name} -> {one}"
        for name, file in known.items()
        for one in imported(file, known)
        if one.startswith(("flanx.tasks.", "flanx.mixtures."))
    ]
    assert not wrong


def test_what_the_walk_finds(tmp_path: Path):
    known = {"flanx.a": tmp_path, "flanx.a.b": tmp_path}
    file = tmp_path / "c.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flanx.a import b\n"
        "def f():\n    import flanx.d\n    from flanx.a import name\n    import_module('flanx.e')\n"
    )
    assert set(imported(file, known)) == {"flanx.a.b", "flanx.d", "flanx.a", "flanx.e"}
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set()}
    assert circles(arrows) == {("a", "b", "c")}
    wrong = upward({"flanx.data.store": {"flanx.cli.main"}, "flanx.cli.main": {"flanx.data.store"}})
    assert wrong == {("data", "cli"): ["flanx.data.store -> flanx.cli.main"]}
