"""Every program in docs/examples, run as its usage line says."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from moodring.labels import LABELS
from moodring.publish.cloudevents import to_json
from tests.support.example_events import EVENT, NO_FACE_EVENT
from tests.support.servers.broker import Broker

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
NOTEBOOK = "batch_to_figure.ipynb"
TESTED = {"read_events.py", "count_labels.sh", "subscribe_mqtt.py", "run_pipeline.py", "plot_shares.py", NOTEBOOK}
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


def test_the_notebook_goes_from_a_folder_of_clips_to_a_figure(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'moodring[batch]'")
    cells = json.loads((EXAMPLES / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "cells.py").write_text("\n\n".join(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(face|face and voice|voice) +((?:\d\.\d+ *)+)$", done.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == ["face", "face and voice", "voice"]
    for _, numbers in rows:
        assert sum(map(float, numbers.split())) == pytest.approx(1.0, abs=0.01)
    figure = cv2.imread(str(tmp_path / "clips_to_figure" / "shares.png"))
    happy_bgr = (0x1D, 0x9A, 0xDD)
    assert np.all(figure == happy_bgr, axis=2).mean() > 0.1


def test_the_notebook_has_the_outputs_of_one_run():
    notebook = json.loads((EXAMPLES / NOTEBOOK).read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    (figure,) = [output["data"]["image/png"] for output in outputs if "data" in output]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(figure), np.uint8), cv2.IMREAD_COLOR) is not None
    assert str(Path.home()) not in json.dumps(notebook)
