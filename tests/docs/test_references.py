"""References in the pages: links, paths of files, make targets and benchmark names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.modules import FOLDERS, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
REPOSITORY_PATH = re.compile(rf"`((?:{'|'.join((*FOLDERS, 'configs'))})/[\w./-]+)`")
MAKE = re.compile(r"(?:^|`)(?:\$ )?make ([a-z][a-z-]*)", re.MULTILINE)
BENCHMARK = re.compile(r"python -m benchmarks ([a-z_0-9]+)")


RECORDED = re.compile(r"^\| \[\w+\.json\].*$", re.MULTILINE)  # the command that made a committed file, at its commit


def text_of(page: Path) -> str:
    return RECORDED.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_exist(page: Path):
    targets = [
        page.parent / target for target in LINK.findall(text_of(page)) if "://" not in target and "mailto:" not in target
    ]
    paths = [ROOT / path for path in REPOSITORY_PATH.findall(text_of(page))]
    assert not [str(path) for path in [*targets, *paths] if not path.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert not [target for target in MAKE.findall(text_of(page)) if target not in targets]
    names = {path.stem for path in (ROOT / "benchmarks").rglob("*.py")} | {
        path.name for path in (ROOT / "benchmarks").iterdir()
    }
    assert not [name for name in BENCHMARK.findall(text_of(page)) if name not in names]


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120
