"""The examples in docs/events.md and README.md: the programs print the right events, the JSON and YAML are valid."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from moodring.config import load
from moodring.publish.cloudevents import to_document, to_json
from tests.support.example_events import EVENT, NO_FACE_EVENT

ROOT = Path(__file__).resolve().parents[1]


def example(language: str, text: str, page: str = "docs/events.md") -> str:
    """Return the only code block of a page in this language that contains `text`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [code for code in blocks if text in code]
    return found


@pytest.mark.parametrize(("language", "text"), [("python", "EmotionEvent"), ("sh", "jq"), ("js", "mqtt")])
def test_example_has_at_most_ten_lines(language: str, text: str):
    assert len([line for line in example(language, text).splitlines() if line.strip()]) <= 10


def test_python_example_prints_an_event(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Replace the client library with one that delivers one message."""

    class Client:
        def __init__(self, *_: object) -> None:
            pass

        def connect(self, host: str) -> None:
            assert host == "localhost"

        def subscribe(self, topic: str, qos: int) -> None:
            assert (topic, qos) == ("moodring/+/+/events", 1)

        def loop_forever(self) -> None:
            self.on_connect(self)
            self.on_message(self, None, types.SimpleNamespace(payload=to_json(EVENT).encode()))

    fake = types.SimpleNamespace(Client=Client, CallbackAPIVersion=types.SimpleNamespace(VERSION2=2))
    for name, module in (("paho", fake), ("paho.mqtt", fake), ("paho.mqtt.client", fake)):
        monkeypatch.setitem(sys.modules, name, module)
    fake.mqtt = types.SimpleNamespace(client=fake)
    exec(compile(example("python", "EmotionEvent"), "docs/events.md", "exec"), {})  # noqa: S102  code of this repository
    assert capsys.readouterr().out == f"{EVENT.time_utc} ok happy 0.125\n"


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq: sudo apt-get install jq")
def test_shell_example_prints_confident_events():
    confident = to_json(EVENT).replace('"confidence":0.125', '"confidence":0.9')
    code = example("sh", "jq").split("|\n", 1)[1]
    done = subprocess.run(
        ["sh", "-c", code],
        input="\n".join([to_json(EVENT), to_json(NO_FACE_EVENT), confident]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "7\thappy\t0.9\tface+speech\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node: sudo apt-get install nodejs")
def test_javascript_example_prints_an_event():
    code = example("js", "mqtt").replace('import mqtt from "mqtt";', "")
    events = json.dumps([to_json(EVENT)])
    fake = (
        "const mqtt = { connect: () => ({ subscribe() {}, on(name, callback) {"
        f'if (name === "message") for (const event of {events}) callback("topic", event); }} }}) }};'
    )
    done = subprocess.run(["node", "-e", fake + code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{EVENT.time_utc} ok happy 0.125\n"


def test_configuration_example_is_valid(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(example("yaml", "mqtts"))
    assert load(path).mqtt.url == "mqtts://broker.example:8883"


def test_readme_event_has_published_field_names():
    """The event in README.md is shortened: it may lack fields, but has no others."""

    def assert_fields(shown: object, published: object) -> None:
        if isinstance(shown, dict):
            assert isinstance(published, dict)
            assert shown.keys() <= published.keys()
            for name, value in shown.items():
                assert_fields(value, published[name])
        elif isinstance(shown, list):
            assert isinstance(published, list)
            for value in shown:
                assert_fields(value, published[0])

    shown = json.loads(example("json", "specversion", page="README.md"))
    assert_fields(shown, to_document(EVENT))
    assert shown["id"] == f"{shown['source']}/{shown['data']['seq']}"
