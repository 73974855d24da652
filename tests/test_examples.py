"""The examples of docs/events.md: ten lines each at most, and they do what they say."""

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
from moodring.publish.cloudevents import to_json
from tests.support.example_events import EVENT, NO_FACE_EVENT

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")


def example(language: str, having: str) -> str:
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if having in code]
    return found


@pytest.mark.parametrize(("language", "having"), [("python", "EmotionEvent"), ("sh", "jq"), ("js", "mqtt")])
def test_an_example_has_ten_lines(language: str, having: str):
    assert len([line for line in example(language, having).splitlines() if line.strip()]) <= 10


def test_the_python_example_prints_an_event(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """With the client library replaced by one that delivers one message."""

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
    exec(compile(example("python", "EmotionEvent"), "docs/events.md", "exec"), {})  # noqa: S102  our own page
    assert capsys.readouterr().out == f"{EVENT.time_utc} ok happy 0.125\n"


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq: sudo apt-get install jq")
def test_the_shell_example_picks_the_sure_ones():
    sure = to_json(EVENT).replace('"confidence":0.125', '"confidence":0.9')
    code = example("sh", "jq").split("|\n", 1)[1]
    done = subprocess.run(
        ["sh", "-c", code], input="\n".join([to_json(EVENT), to_json(NO_FACE_EVENT), sure]), capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\thappy\t0.9\tface+speech\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node: sudo apt-get install nodejs")
def test_the_javascript_example_prints_an_event():
    code = example("js", "mqtt").replace('import mqtt from "mqtt";', "")
    events = json.dumps([to_json(EVENT)])
    fake = (
        "const mqtt = { connect: () => ({ subscribe() {}, on(what, f) {"
        f'if (what === "message") for (const event of {events}) f("topic", event); }} }}) }};'
    )
    done = subprocess.run(["node", "-e", fake + code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{EVENT.time_utc} ok happy 0.125\n"


def test_the_configuration_on_the_page_is_one(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(example("yaml", "mqtts"))
    assert load(path).mqtt.url == "mqtts://broker.example:8883"
