"""Rules that no linter knows: small modules and functions, narrow excepts, no work at import, no dialect in the words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.modules import PACKAGES, ROOT, sources

SOURCES = sorted(sources(*PACKAGES, "benchmarks", "docs").values())
MAX_LINES = 300
MAX_FUNCTION_LINES = 50
# The modules that may catch every exception, at the top of a thread: to restart a stage, retry a sink or end the run.
SUPERVISION = ("edge/run/stream.py", "edge/run/workers.py", "edge/publish/queue.py", "edge/publish/mqtt/sink.py")
# The modules that may use threads: streams, workers, buffers, sinks beside the pipeline, and shared objects with locks.
THREADED = {
    "edge/analysis/streams/feed.py", "edge/analysis/opencv.py", "edge/analysis/streams/events.py",
    "edge/run/stream.py", "edge/run/workers.py", "edge/buffers.py", "edge/publish/queue.py", "edge/publish/mqtt/sink.py",
    "edge/publish/mqtt/spool.py", "edge/publish/metrics.py", "edge/capture/microphone.py", "edge/inference/openvino.py",
    "edge/dashboard/server.py", "edge/dashboard/replay.py", "edge/process.py", "edge/diagnostics/peers/naive.py",
}  # fmt: skip
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
# Words of an older dialect; CONTRIBUTING.md names the standard terms. Classes of a letter keep this file from matching itself.
DIALECT = re.compile(
    r"(begun|begin) [a]new|pace of [l]ife|is to be [h]ad|sign of [l]ife|time is [u]p|say what is [k]nown|what it [a]mounts to"
    r"|shall be [r]ight|misleads [i]t|forget_([s]ight|[s]ound|[s]aid)|unfit [f]ace|of one's [o]wn",
    re.IGNORECASE,
)
PROSE = [
    path
    for pattern in ("*.md", "docs/**/*.md", "edge/**/*.py", "train/**/*.py", "export/**/*.py", "benchmarks/**/*.py",
                    "docs/**/*.py", "configs/**/*.yaml", "Makefile", "bootstrap.sh", "tests/**/*.py")
    for path in sorted(ROOT.glob(pattern))
]  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler swallows any error. One that cleans up or translates, and raises, does not."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in kinds)
    return broad and not isinstance(handler.body[-1], ast.Raise)


def broad_excepts(source: str) -> list[int]:
    handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler)]
    return [handler.lineno for handler in handlers if catches_everything(handler)]


def calls_at_import(source: str) -> list[int]:
    """Return the lines of calls made for their effect when a module is imported."""
    statements = ast.parse(source).body
    return [node.lineno for node in statements if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]


def long_functions(source: str) -> list[str]:
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]


def test_there_are_sources():
    assert {"edge", "train", "export", "benchmarks", "docs"} == {name_of(path).split("/")[0] for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module(path: Path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES, f"{name_of(path)} is longer than {MAX_LINES} lines: split it by noun"
    assert long_functions(source) == [], f"{name_of(path)} has a function of more than {MAX_FUNCTION_LINES} lines"
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py"), f"{name_of(path)} names no noun"
    assert not UNFINISHED.search(source), f"{name_of(path)} is unfinished: file an issue instead"
    if name_of(path) not in SUPERVISION and path.parts[-2] != "benchmarks":
        assert broad_excepts(source) == [], f"{name_of(path)} swallows every error: name the expected ones"
    if name_of(path).startswith("edge/"):
        assert name_of(path) in THREADED or "import threading" not in source, f"{name_of(path)} must not use threads"
        assert calls_at_import(source) == [], f"{name_of(path)} does work when it is imported"


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_words(path: Path):
    found = [match.group() for match in DIALECT.finditer(path.read_text(encoding="utf-8"))]
    assert not found, f"{name_of(path)}: say it in standard terms (CONTRIBUTING.md)"


@pytest.mark.parametrize("words", [("begin ", "anew"), ("Is to be ", "had"), ("forget_", "said"), ("of one's ", "own")])
def test_planted_dialect_is_found(words: tuple[str, str]):
    assert DIALECT.search("".join(words))
    assert not DIALECT.search(words[0])


@pytest.mark.parametrize(
    "handler",
    ["except Exception:\n    x = 0", "except:\n    x = 0", "except (OSError, BaseException) as e:\n    x = 0"],
)
def test_a_planted_broad_except_is_found(handler: str):
    assert broad_excepts(f"try:\n    f()\n{handler}\n")


def test_a_narrow_except_and_one_that_raises_again_are_not_found():
    assert not broad_excepts("try:\n    f()\nexcept OSError:\n    pass\nexcept BaseException:\n    close()\n    raise\n")


def test_a_planted_call_at_import_is_found():
    assert calls_at_import("import cv2\ncv2.setNumThreads(1)\n") == [2]


def test_a_planted_long_function_is_found():
    assert long_functions("def f():\n" + "    x = 0\n" * MAX_FUNCTION_LINES) == ["f"]
