"""Every program in docs/examples, run as its usage line says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from moodring.labels import LABELS
from moodring.publish.cloudevents import to_json
from tests.support.example_events import EVENT, NO_FACE_EVENT
from tests.support.servers.broker import Broker

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TESTED = {"read_events.py", "count_labels.sh", "subscribe_mqtt.py", "run_pipeline.py", "plot_shares.py"}
STATES = ("no_signal", "no_face", "no_speech")


def run_example(name: str, *arguments: object) -> str:
    """Run an example to its end and return its standard output."""
    path = EXAMPLES / name
    command = [sys.executable, str(path)] if path.suffix == ".py" else [str(path)]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    """Return a file with two events with the label happy and one without a label."""
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f"{to_json(event)}\n" for event in (EVENT, NO_FACE_EVENT, EVENT)), encoding="utf-8")
    return path


def test_every_example_has_a_test_and_a_row_in_the_table():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {"README.md", *TESTED}
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"| [{name}]({name}) |" in table for name in TESTED)


def test_read_events_prints_each_event(event_file: Path):
    with_label, without = f"{EVENT.time_utc} ok happy 0.125\n", f"{EVENT.time_utc} no_face None None\n"
    assert run_example("read_events.py", event_file) == with_label + without + with_label


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq: sudo apt-get install jq")
def test_count_labels_counts_labels_and_states(event_file: Path):
    lines = run_example("count_labels.sh", event_file).splitlines()
    assert [line.split() for line in lines] == [["2", "happy"], ["1", "no_face"]]


@pytest.mark.live
def test_subscribe_mqtt_prints_an_event_from_a_real_broker(tmp_path: Path):
    with Broker(tmp_path) as broker:
        from paho.mqtt import publish  # noqa: PLC0415  an optional dependency

        # Retained, so that the order of publication and subscription does not matter.
        publish.single(
            "moodring/kitchen/live/events", to_json(EVENT), qos=1, retain=True, hostname="127.0.0.1", port=broker.port
        )
        command = [sys.executable, str(EXAMPLES / "subscribe_mqtt.py"), "127.0.0.1", str(broker.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            deadline = threading.Timer(30, process.kill)
            deadline.start()
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{EVENT.source} ok happy 0.125\n"
            finally:
                deadline.cancel()
                process.kill()


def test_run_pipeline_prints_five_events_a_second(talking_face: Path):
    rows = [
        re.fullmatch(r" *(\d+\.\d) s  (\w+) +(\d\.\d\d)", line)
        for line in run_example("run_pipeline.py", talking_face).splitlines()
    ]
    assert [row and row[1] for row in rows] == [f"{0.2 * (i + 1):.1f}" for i in range(len(rows))]
    assert len(rows) == 15  # in 3 s
    assert {row and row[2] for row in rows} <= {*LABELS, *STATES}
    assert any(row and row[2] in LABELS and float(row[3]) > 1 / len(LABELS) for row in rows)


def test_plot_shares_draws_shares_that_sum_to_one(talking_face: Path):
    rows = [re.fullmatch(r"(\w+) +(#*) +(\d+\.\d)%", line) for line in run_example("plot_shares.py", talking_face).splitlines()]
    assert {row and row[1] for row in rows} <= {*LABELS, *STATES}
    shares = [float(row[3]) for row in rows if row]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100.0, abs=0.1 * len(shares))
    assert [len(row[2]) for row in rows if row] == [pytest.approx(40 * share / 100, abs=0.6) for share in shares]
