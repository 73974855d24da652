"""Write docs/structure.md and docs/structure.svg: module sizes, import chains and layers, now and at an earlier commit.

usage: python -m docs.generate.structure DOCS_DIR [--before COMMIT]
"""

from __future__ import annotations

import argparse
import ast
import html
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.architecture import modules as now

FOLDERS = ("edge", "train", "export", "benchmarks", "docs")
FOLDERS_IN_0_1_0 = {folder: folder for folder in FOLDERS}  # every folder was a package of its own name
CHAINS = 10
BOX_W, BOX_H, GAP_X, GAP_Y = 128, 34, 12, 34


@dataclass(frozen=True, slots=True)
class Tree:
    """The modules of one checkout with their imports, and the names that they define."""

    title: str
    packages: dict[str, str]
    files: dict[str, Path]
    edges: dict[str, set[str]]
    names: frozenset[str]
    functions: list[int]


def read_tree(root: Path, packages: dict[str, str], title: str) -> Tree:
    """Return the modules below a folder. `packages` maps top-level folders to package names."""
    files = {
        now.dotted(path.relative_to(root).as_posix(), packages): path
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files.values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    return Tree(title, packages, files, now.graph(files), frozenset(_defined(nodes)), lengths)


def _defined(nodes: list[ast.AST]) -> set[str]:
    """Return the names that are defined: functions, classes, parameters, variables and attributes."""
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def checkout(commit: str, folder: Path) -> None:
    """Extract the sources of a commit."""
    archive = subprocess.run(["git", "archive", commit, *FOLDERS], cwd=now.ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def longest_chains(edges: dict[str, set[str]], count: int = CHAINS) -> list[list[str]]:
    """Return the longest import chains, one for each module that starts one. Circles are cut where they close."""
    sys.setrecursionlimit(10_000)

    @cache
    def chain(module: str, seen: frozenset[str]) -> tuple[str, ...]:
        onward = [chain(target, seen | {module}) for target in sorted(edges[module] - seen - {module})]
        return (module, *max(onward, key=len, default=()))

    in_circles = {module for circle in now.circles(edges) for module in circle}
    found = [list(chain(module, frozenset(in_circles & {module}))) for module in sorted(edges)]
    return sorted(found, key=len, reverse=True)[:count]


def part_of(module: str, packages: dict[str, str]) -> str:
    """Return the part that a module belongs to: a top-level module or folder of the runtime, or another package."""
    runtime = packages["edge"]
    for name in ("train", "export", "benchmarks", "docs"):
        if module == packages.get(name, name) or module.startswith(packages.get(name, name) + "."):
            return name
    return module.removeprefix(runtime).strip(".").partition(".")[0]


def layers_of(parts: dict[str, set[str]]) -> list[list[str]]:
    """Return the parts in layers, top first: each stands above all parts that it imports."""

    def depth(part: str, seen: frozenset[str] = frozenset()) -> int:
        return 1 + max((depth(target, seen | {part}) for target in parts[part] - seen - {part}), default=-1)

    depths = {part: depth(part) for part in parts}
    return [sorted(part for part in parts if depths[part] == level) for level in sorted(set(depths.values()), reverse=True)]


def part_graph(tree: Tree) -> dict[str, set[str]]:
    """Return which parts each part imports."""
    parts: dict[str, set[str]] = {}
    for module, targets in tree.edges.items():
        part = part_of(module, tree.packages)
        if part:
            names = {part_of(target, tree.packages) for target in targets}
            parts.setdefault(part, set()).update(names - {part, ""})
    return parts


def draw(trees: list[Tree]) -> str:
    """Return an SVG with the parts of each tree in layers and an arrow for each import; upward arrows are red."""
    pieces: list[str] = []
    left, height = 0, 0
    for tree in trees:
        body, width, tall = _draw_tree(tree, left)
        pieces += body
        left += width + 4 * GAP_X
        height = max(height, tall)
    style = "text{font:12px sans-serif;fill:#222}rect{fill:#eef3f8;stroke:#7a8ca0}line{stroke:#7a8ca0;stroke-opacity:.35}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left} {height}" width="{left}" height="{height}">'
    return "\n".join(
        [head, f"<style>{style}</style>", '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>', *pieces, "</svg>"]
    )


def _draw_tree(tree: Tree, left: int) -> tuple[list[str], int, int]:
    parts = part_graph(tree)
    layers = layers_of(parts)
    width = max(len(layer) for layer in layers) * (BOX_W + GAP_X)
    place: dict[str, tuple[float, float]] = {}
    for row, layer in enumerate(layers):
        start = left + (width - len(layer) * (BOX_W + GAP_X)) / 2
        for column, part in enumerate(layer):
            place[part] = (start + column * (BOX_W + GAP_X), 40 + row * (BOX_H + GAP_Y))
    lines, boxes = [], [f'<text x="{left}" y="22" style="font-weight:bold">{html.escape(tree.title)}</text>']
    for part, targets in sorted(parts.items()):
        for target in sorted(targets):
            (x, y), (u, v) = place[part], place[target]
            colour = ' style="stroke:#c00;stroke-opacity:1"' if v <= y else ""
            lines.append(f'<line x1="{x + BOX_W / 2}" y1="{y + BOX_H}" x2="{u + BOX_W / 2}" y2="{v}"{colour}/>')
    sizes = {part: [0, 0] for part in parts}
    for module, path in tree.files.items():
        if (part := part_of(module, tree.packages)) in sizes:
            sizes[part][0] += 1
            sizes[part][1] += len(path.read_text(encoding="utf-8").splitlines())
    for part, (x, y) in sorted(place.items()):
        count, size = sizes[part]
        boxes.append(f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="4"/>')
        boxes.append(f'<text x="{x + 6}" y="{y + 14}">{part}</text>')
        boxes.append(f'<text x="{x + 6}" y="{y + 28}" style="font-size:10px">{count} modules, {size} lines</text>')
    return [*lines, *boxes], width, 40 + len(layers) * (BOX_H + GAP_Y)


def sizes_row(name: str, lengths: list[int]) -> str:
    """Return one row of the table of sizes."""
    return f"| {name} | {len(lengths)} | {np.median(lengths):.0f} | {np.percentile(lengths, 90):.0f} | {max(lengths)} |"


def page(trees: list[Tree]) -> str:
    """Return docs/structure.md."""
    lines = [
        "# Structure",
        "",
        "Generated by `python -m docs.generate.structure docs --before 4cec626`. Tests in `tests/architecture` hold the rules.",
        "",
    ]
    lines += [
        "![Parts and imports](structure.svg)",
        "",
        "Each box stands above all parts that it imports; red arrows point up.",
        "",
    ]
    lines += ["| | count | median lines | 90th percentile | largest |", "|---|---:|---:|---:|---:|"]
    for tree in trees:
        lines.append(
            sizes_row(f"modules, {tree.title}", [len(p.read_text(encoding="utf-8").splitlines()) for p in tree.files.values()])
        )
        lines.append(sizes_row(f"functions, {tree.title}", tree.functions))
    if len(trees) == 2:
        old, new = (tree.names for tree in trees)
        lines += ["", f"Of {len(old)} names defined at {trees[0].title}, {len(old - new)} are gone; {len(new - old)} are new."]
    for tree in trees:
        circles = [" and ".join(circle) for circle in now.circles(tree.edges)]
        lines += [
            "",
            f"## Import chains, {tree.title}",
            "",
            f"Import circles: {'; '.join(circles) or 'none'}. The longest chains:",
            "",
        ]
        lines += [f"- {len(chain)}: {' > '.join(chain)}" for chain in longest_chains(tree.edges)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--before", metavar="COMMIT", help="compare with the sources of this commit")
    options = parser.parse_args()
    trees = [read_tree(now.ROOT, now.PACKAGES, "now")]
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        if options.before:
            checkout(options.before, Path(folder))
            trees.insert(0, read_tree(Path(folder), FOLDERS_IN_0_1_0, options.before))
        (options.docs / "structure.md").write_text(page(trees), encoding="utf-8")
        (options.docs / "structure.svg").write_text(draw(trees), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
