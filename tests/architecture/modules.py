"""The modules of the project, their dotted names and the imports between them, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folder -> the package that it is. The distribution installs the first three.
PACKAGES = {"edge": "moodring", "train": "moodring.train", "export": "moodring.export"}
FOLDERS = (*PACKAGES, "benchmarks", "docs", "tests")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the module that makes it, the line, and the name that is imported."""

    importer: str
    line: int
    name: str
    in_function: bool


def dotted(path: str, packages: dict[str, str] = PACKAGES) -> str:
    """Return the dotted name of a module from its path in the repository."""
    folder, _, rest = path.removesuffix(".py").removesuffix("/__init__").partition("/")
    return ".".join([packages.get(folder, folder), *(rest.split("/") if rest else [])])


def sources(*folders: str) -> dict[str, Path]:
    """Return the files of all modules in these folders by dotted name."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return {dotted(path.relative_to(ROOT).as_posix()): path for path in paths}


def package_of(module: str) -> str:
    """Return moodring.train, moodring.export, moodring (the runtime), benchmarks, docs or tests; else the top-level name."""
    for package in ("moodring.train", "moodring.export"):
        if module == package or module.startswith(package + "."):
            return package
    return module.partition(".")[0]


def imports(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yield all imports of a module: by statement, or by importlib with a literal name. Type-checking blocks are left out."""
    tree = ast.parse(source)
    skipped = {id(inner) for node in ast.walk(tree) if _is_type_checking(node) for inner in ast.walk(node)}
    local = {id(inner) for node in ast.walk(tree) if isinstance(node, FUNCTIONS) for inner in ast.walk(node)}
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        for name in _names(node, parents):
            yield Import(module, getattr(node, "lineno", 0), name, id(node) in local)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _names(node: ast.AST, parents: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = (
            [*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])]
            if node.level
            else [node.module]
        )
        return [".".join([*map(str, base), alias.name]) for alias in node.names]
    if (
        isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__"):
            return [node.args[0].value]
        if called == "lazy":  # of moodring.cli
            return [f"moodring.{node.args[0].value}"]
    return []


def resolve(name: str, modules: dict[str, Path]) -> str | None:
    """Return the module that an imported name is, or lies in; None for a library."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Return which modules each module imports, wherever in it."""
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        found = imports(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
        targets = {resolve(one.name, modules) for one in found}
        edges[module] = {target for target in targets if target is not None and target != module}
    return edges


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in edges[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component: list[str] = []
            while not component or component[-1] != module:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for module in edges:
        if module not in index:
            visit(module)
    return found
