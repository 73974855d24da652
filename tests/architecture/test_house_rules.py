"""House rules that no linter knows: small modules, narrow excepts, nothing left for later, no work at import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("edge", "train", "export") for path in (ROOT / package).rglob("*.py"))
LONGEST = 350
# The places that catch everything, each at the top of a thread: to restart a stage, to try a sink again, or to end the run.
SUPERVISION = ("edge/run/runtime.py", "edge/run/workers.py", "edge/publish/queue.py", "edge/publish/mqtt/sink.py")
# The only modules that know threads: runtime, its workers and buffers, the sinks that run beside the pipeline, and what streams
# share without being able to use it at once.
THREADED = {
    "edge/run/runtime.py", "edge/run/workers.py", "edge/buffers.py", "edge/publish/queue.py", "edge/publish/mqtt/sink.py",
    "edge/publish/mqtt/spool.py", "edge/publish/metrics.py", "edge/capture/microphone.py", "edge/inference/openvino.py",
    "edge/dashboard/server.py", "edge/dashboard/replay.py", "edge/interrupts.py",
}  # fmt: skip
LATER = re.compile(r"\b(TODO|FIXME|XXX)\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Say whether a handler swallows any error; one that cleans up or translates, and raises, does not."""
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


def test_there_are_sources():
    assert {"edge", "train", "export"} == {name_of(path).split("/")[0] for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module(path: Path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST, f"{name_of(path)} is longer than {LONGEST} lines: it has two nouns"
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py"), f"{name_of(path)} names no noun"
    assert not LATER.search(source), f"{name_of(path)} leaves something for later: file an issue instead"
    if name_of(path) not in SUPERVISION:
        assert broad_excepts(source) == [], f"{name_of(path)} swallows every error: name the ones meant"
    if name_of(path).startswith("edge/"):
        assert name_of(path) in THREADED or "import threading" not in source, f"{name_of(path)} is no place for threads"
        assert calls_at_import(source) == [], f"{name_of(path)} does work when it is imported"


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
