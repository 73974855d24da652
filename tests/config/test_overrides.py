"""Layers of the configuration: defaults, file, environment, --set. Each replaces the keys of the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodring.config import Config, read, unread_variables
from moodring.config.checks import leaf_keys
from moodring.config.overrides import variable_of
from moodring.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text("fusion: {rate_hz: 1, method: voting}\npage: {port: 1000}\n")
    return path


def message(path: Path | None, *settings: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path, settings, environment)
    return str(caught.value)


def test_each_layer_replaces_the_one_before(path: Path):
    environment = {"MOODRING_FUSION__RATE_HZ": "2", "MOODRING_PAGE__PORT": "2000"}
    config = read(path, ["fusion.rate_hz=3"], environment)
    assert (config.fusion.rate_hz, config.page.port, config.fusion.method) == (3.0, 2000, "voting")
    assert read(path, [], environment).fusion.rate_hz == 2.0
    assert read(path).fusion.rate_hz == 1.0
    assert read(None) == Config()
    assert read(None, ["fusion.rate_hz=3"]).fusion.rate_hz == 3.0


def test_the_last_setting_of_a_key_counts(path: Path):
    assert read(path, ["fusion.rate_hz=3", "fusion.rate_hz=4"]).fusion.rate_hz == 4.0


def test_every_key_has_a_variable_and_no_two_share_one():
    keys = list(leaf_keys())
    assert len({variable_of(key) for key in keys}) == len(keys)
    for taken in ("MOODRING_DATA", "MOODRING_REQUIRE_DATA", "MOODRING_FER_PYTHON"):
        assert taken not in {variable_of(key) for key in keys}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mqtt.username=no", "no"),
        ("mqtt.username=null", "null"),
        ("mqtt.username=a=b", "a=b"),
        ("mqtt.username=a: b #c", "a: b #c"),
        ("mqtt.username=  x ", "  x "),
        ("mqtt.username=007", "007"),
    ],
)
def test_a_text_is_taken_as_it_stands(setting: str, value: str):
    assert read(None, [setting]).mqtt.username == value
    assert read(None, [], {"MOODRING_MQTT__USERNAME": value}).mqtt.username == value


def test_other_values_have_the_type_of_their_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = read(
        None, ["labels.merge_calm=yes", "inference.threads=2", "events.path=~/e.jsonl", "video.source=0", "events.fsync=second"]
    )
    assert (config.labels.merge_calm, config.inference.threads, config.events.path) == (True, 2, f"{tmp_path}/e.jsonl")
    assert (config.video.source, config.events.fsync) == ("0", "second")
    assert read(None, ["events.path=-"]).events.path == "-"


def test_streams_are_set_by_name(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text("streams:\n  Front-Door.2: &d {video: {source: 0}}\n  hall: *d\n")
    config = read(path, ["streams.Front-Door.2.audio.source=1"], {"MOODRING_STREAMS__FRONT_DOOR_2__VIDEO__SOURCE": "7"})
    assert list(config.streams) == ["Front-Door.2", "hall"]
    door, hall = config.streams.values()
    assert (door.video.source, door.audio.source) == ("7", "1")
    assert (hall.video.source, hall.audio.source) == ("0", "none")  # the alias keeps its own values
    camera = (
        read(path, ["streams.hall.video.frozen_s=7"], {"MOODRING_STREAMS__HALL__VIDEO__SNAPSHOT_HZ": "5"}).streams["hall"].video
    )
    assert (camera.source, camera.snapshot_hz, camera.frozen_s) == ("0", 5.0, 7.0)
    new = read(None, ["streams.a.video.source=0"], {"MOODRING_STREAMS__B__AUDIO__SOURCE": "1"})
    assert sorted(new.streams) == ["a", "b"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("fusion.rate_hz=fast", "--set fusion.rate_hz: fusion.rate_hz must be a number, got 'fast'"),
        ("fusion.rate_hz=99", "--set fusion.rate_hz: fusion.rate_hz must lie in 0.2..50.0, got '99'"),
        ("fusion.rate_hz=", "--set fusion.rate_hz: fusion.rate_hz must be a number, got ''"),
        ("mqtt.username=", "--set mqtt.username: mqtt.username must not be empty; write none"),
        ("fusion.rate_hz", "--set fusion.rate_hz: write KEY=VALUE, such as --set fusion.rate_hz=2"),
        ("", "--set : write KEY=VALUE"),
        ("fusion.rate=2", "--set fusion.rate: unknown key fusion.rate; did you mean fusion.rate_hz?"),
        ("rate_hz=2", "--set rate_hz: unknown key rate_hz; did you mean face.rate_hz or fusion.rate_hz?"),
        ("fusion=2", "--set fusion: fusion is a section; set one of its keys, such as fusion.method"),
        ("bundle.x=2", "--set bundle.x: unknown key bundle.x; did you mean"),
        ("=2", "--set : unknown key"),
        ("zzzzzzz=2", "`moodring config init` writes a file with every key"),
        ("streams.a b.video.source=2", "--set streams.a b.video.source: streams must be named with letters"),
        ("streams.a.video=2", "--set streams.a.video: unknown key streams.a.video"),
        ("streams.a.video.sauce=2", "--set streams.a.video.sauce: unknown key streams.a.video.sauce; did you mean"),
        ("streams.a.audio.frozen_s=2", "--set streams.a.audio.frozen_s: unknown key streams.a.audio.frozen_s"),
        ("streams.a.b.video.frozen_s=-1", "streams.a.b.video.frozen_s must lie in 0.0..3600.0, got '-1'"),
        ("streams.a.video.snapshot_hz=1", "streams.a.video.snapshot_hz must be at least 2, since a camera without a frame"),
        ("video.snapshot_hz=1.9", "--set video.snapshot_hz: video.snapshot_hz must be at least 2"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, expected: str):
    assert message(None, setting).startswith(expected) or expected in message(None, setting)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MOODRING_FUSION__RATE_HZ", "fast", "environment variable MOODRING_FUSION__RATE_HZ: fusion.rate_hz must be a number"),
        ("MOODRING_FUSION__RATE", "2", "unknown setting MOODRING_FUSION__RATE; did you mean MOODRING_FUSION__RATE_HZ?"),
        ("MOODRING_MQTT__URL", "", "environment variable MOODRING_MQTT__URL: mqtt.url must not be empty; write none"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, expected: str):
    assert expected in message(None, **{name: value})


def test_an_error_of_a_strange_name_stays_on_one_line():
    """The first line of each error names its place."""
    for text in (message(None, "a\nb=1"), message(None, "a\nb"), message(None, **{"MOODRING_A\n__B": "1"})):
        assert len(text.splitlines()) == 1
        assert r"a\nb" in text or r"MOODRING_A\n__B" in text
    assert len(message(None, "x" * 5000 + "=1")) < 400
    assert len(message(None, **{f"MOODRING_A__{'B' * 5000}": "1"})) < 400
    assert len(message(None, f"streams.{'x' * 5000}.video.source=1")) < 400


def test_variables_of_others_are_left_alone():
    others = {
        "MOODRING_DATA": "/x",
        "MOODRING_PORT": "tcp://10.0.0.1:80",
        "MOODRING_PAGE_PORT": "tcp://10.0.0.1",
        "HOME__X": "y",
    }
    assert read(None, [], others) == Config()
    assert unread_variables(others) == [
        "environment variable MOODRING_PAGE_PORT is not read: the one of this key is MOODRING_PAGE__PORT"
    ]


def test_errors_of_all_layers_are_reported_together(path: Path):
    path.write_text("fusion: 3\nface: {rate_hz: 0}\n")
    lines = message(path, "fusion.rate_hz=2", "x", MOODRING_PAGE__PORT="x").splitlines()
    assert len(lines) == 5
    assert any("my.yaml:1: fusion must be a mapping of keys, got 3; write fusion: {method: ...}" in line for line in lines)
    assert any("my.yaml:2: face.rate_hz must lie in" in line for line in lines)


def test_a_setting_repairs_a_wrong_value_of_the_file(path: Path):
    path.write_text("fusion: {rate_hz: fast}\nmqtt:\n")
    assert read(path, ["fusion.rate_hz=2", "mqtt.username=me"]).fusion.rate_hz == 2.0
