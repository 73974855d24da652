"""`python -m benchmarks fuzz`: every seed passes its check, and each kind of fault is found, kept and repeated."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from benchmarks.fuzz import harness, run
from benchmarks.fuzz.documents import mutate_document
from benchmarks.fuzz.harness import HARNESSES
from benchmarks.fuzz.supervisor import fuzz
from moodring.config import document
from moodring.errors import ConfigError
from tests.support import planted_faults

PLANTED = planted_faults.__name__


@pytest.mark.parametrize("name", HARNESSES)
def test_the_seeds_and_some_mutations_of_them_pass(name: str, tmp_path: Path):
    made = harness.make(HARNESSES[name], tmp_path)
    rng = random.Random(1)
    assert len(made.seeds) >= 5
    for seed in made.seeds:
        assert len(seed) <= made.max_bytes
        made.check(seed)
        made.check(made.mutate(seed, rng) if made.mutate else seed[: len(seed) // 2])


@pytest.mark.parametrize(
    ("fault", "kind", "summary"),
    [
        ("signal", "crash", "deadly signal"),
        ("killed", "killed", "exit code -9"),
        ("hang", "timeout", "timeout after"),
    ],
)
def test_a_fault_is_found_and_the_harness_restarted(
    fault: str, kind: str, summary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("atheris", reason="atheris is not installed")
    monkeypatch.setenv("MOODRING_PLANTED", fault)
    outcome = fuzz(PLANTED, 4.0, tmp_path / "run", seed=1, limit_s=1)
    (found,) = outcome.findings
    assert (found.kind, summary in found.summary) == (kind, True), found
    assert Path(found.path).read_bytes() == fault.encode()
    assert outcome.failure == ""
    assert outcome.restarts == 1
    assert outcome.executions > 0


def test_the_command_prints_each_finding_and_returns_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("atheris", reason="atheris is not installed")
    monkeypatch.setenv("MOODRING_PLANTED", "exception")
    monkeypatch.setitem(HARNESSES, "planted", PLANTED)
    file = tmp_path / "fuzz.json"
    assert run.main(["planted", "--seconds", "3", "--folder", str(tmp_path / "fuzz"), "--json", str(file)]) == 1
    figures = json.loads(file.read_text())
    found = figures["harnesses"]["planted"]["findings"]
    assert figures["findings"] == len(found) == 1
    assert figures["command"].startswith("python -m benchmarks fuzz planted --seconds 3")
    printed = capsys.readouterr().err
    assert f"planted: crash: KeyError: b'exception'; File \"{Path(planted_faults.__file__)}" in printed
    assert f"python -m benchmarks fuzz planted --input {found[0]['path']}" in printed
    assert base64.b64encode(b"exception").decode() in printed


def test_a_finding_is_repeated_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "input"
    path.write_bytes(b"video: {source: 0}\n")
    assert run.main(["config", "--input", str(path)]) == 0
    assert "no finding" in capsys.readouterr().out

    def fail(*_: object) -> None:
        raise ConfigError("somewhere")

    monkeypatch.setattr(document, "read_node", fail)
    with pytest.raises(harness.BrokenRuleError, match="no place in 'somewhere'"):
        run.main(["config", "--input", str(path)])


def test_a_mutator_that_raises_is_a_failure_of_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("atheris", reason="atheris is not installed")
    monkeypatch.setenv("MOODRING_PLANTED", "mutator")
    outcome = fuzz(PLANTED, 4.0, tmp_path / "run", seed=1, limit_s=1)
    assert outcome.findings == []
    assert "KeyError: 'the mutator'" in outcome.failure


def test_mutated_documents_never_contain_themselves():
    rng, values = random.Random(3), ([1, 8], {"a": [1]})
    before = json.dumps(values)
    for _ in range(30):
        documents: dict[str, object] = {"a": [{"b": 1}, [2]], "c": {"d": []}}
        for _ in range(60):
            mutate_document(documents, rng, values)
        json.dumps(documents)
    assert json.dumps(values) == before
