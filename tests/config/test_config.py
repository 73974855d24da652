"""Configuration: valid values are accepted; errors name the file, the key and a similar valid key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moodring.config import RANGES, Config, VideoConfig, load, parse
from moodring.config.checks import MIN_SNAPSHOT_HZ
from moodring.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def nested(key: str, value: object) -> dict:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def look_up(config: Config, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def leaves(section: object, prefix: str = "") -> dict[str, object]:
    found = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        found |= leaves(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else {prefix + field.name: value}
    return found


LEAVES = leaves(Config())


def test_an_empty_file_gives_all_defaults(tmp_path: Path):
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "comment.yaml").write_text("# nothing\n")
    assert load(tmp_path / "empty.yaml") == load(tmp_path / "comment.yaml") == parse({}, "x") == Config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_the_shipped_configurations_are_valid(path: Path):
    load(path)


def test_the_laptop_configuration_holds_the_defaults():
    (laptop,) = [path for path in CONFIGS if path.name == "laptop.yaml"]
    assert load(laptop) == Config()
    named = leaves_of_yaml(yaml.safe_load(laptop.read_text()))
    assert named == set(LEAVES), "laptop.yaml explains every key"


def leaves_of_yaml(data: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in data.items():
        found |= leaves_of_yaml(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key}
    return found


def test_the_settings_of_cameras_do_not_change_the_events_of_recordings():
    with_settings = Config(video=VideoConfig("x.mp4", 5.0, 1.0))
    assert repr(with_settings) == repr(Config(video=VideoConfig("x.mp4")))
    assert "video=InputConfig(source='x.mp4')" in repr(with_settings)


def test_every_number_has_a_range_that_contains_its_default():
    numbers = {key for key, value in LEAVES.items() if type(value) in (int, float)}
    assert numbers == set(RANGES)
    for key in numbers:
        low, high = RANGES[key]
        assert low <= LEAVES[key] <= high


@given(data=st.data())
def test_a_value_in_its_range_is_accepted_and_the_others_keep_their_defaults(data: st.DataObject):
    key = data.draw(st.sampled_from(sorted(RANGES)))
    low, high = RANGES[key]
    numbers = st.integers(int(low), int(high)) if isinstance(LEAVES[key], int) else st.floats(low, high)
    value = data.draw(numbers)
    assume(key != "video.snapshot_hz" or not 0 < value < MIN_SNAPSHOT_HZ)
    config = parse(nested(key, value), "x")
    assert look_up(config, key) == value
    assert leaves(config) == LEAVES | {key: value}


@given(data=st.data())
def test_a_value_outside_its_range_is_rejected_with_the_range(data: st.DataObject):
    key = data.draw(st.sampled_from(sorted(RANGES)))
    low, high = RANGES[key]
    whole = isinstance(LEAVES[key], int)
    value = data.draw(st.integers() if whole else st.floats(allow_infinity=True, allow_nan=True))
    assume(not low <= value <= high)
    with pytest.raises(ConfigError) as caught:
        parse(nested(key, value), "my.yaml")
    assert f"my.yaml: {key} must lie in {low}..{high}" in str(caught.value)


wrong_values = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=2), st.integers(), st.floats(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@given(key=st.sampled_from(sorted(LEAVES)), value=wrong_values)
def test_a_value_of_another_type_is_rejected_with_its_key(key: str, value: object):
    default = LEAVES[key]
    fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
    a_number_as_text = isinstance(default, str) and type(value) in (int, float)  # camera 0
    assume(not fits and not a_number_as_text and not (key == "streams" and value is None))
    with pytest.raises(ConfigError, match=f"my.yaml: {key} must be"):
        parse(nested(key, value), "my.yaml")


def test_an_integer_is_accepted_as_a_float_but_not_a_float_as_an_integer():
    assert parse({"face": {"rate_hz": 10}}, "x").face.rate_hz == 10.0
    with pytest.raises(ConfigError, match=r"inference\.threads must be a whole number, got 1\.5"):
        parse({"inference": {"threads": 1.5}}, "x")
    with pytest.raises(ConfigError, match=r"inference\.threads must be a whole number, got True"):
        parse({"inference": {"threads": True}}, "x")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fusionn": {}}, "unknown key fusionn; did you mean fusion?"),
        ({"fusion": {"rate": 5.0}}, "unknown key fusion.rate; did you mean fusion.rate_hz?"),
        ({"face": {"tracker": {"smalest_face": 0.1}}}, "did you mean face.tracker.smallest_face?"),
        ({"labels": {"merge-calm": True}}, "did you mean labels.merge_calm?"),
        ({"labels": {"zzz": True}}, "unknown key labels.zzz; known keys: labels.merge_calm"),
        ({1: 2}, "unknown key 1"),
        ({None: 2}, "unknown key None"),
        ({"a\x1b[2J": 2}, r"unknown key 'a\x1b[2J'"),
        ({"fusion": {"method": "magic"}}, "fusion.method must be one of feature, weighted, voting; got 'magic'"),
        ({"inference": {"precision": "int4"}}, "inference.precision must be one of auto, fp32, fp16, int8; got 'int4'"),
        ({"inference": {"backend": ["onnx"]}}, "inference.backend must be one of"),
        ({"streams": []}, "streams must be a mapping from stream names to their video and audio; got []"),
        ({"streams": {"a b": {}}}, "streams must be named with letters, digits, '-', '_' and '.'; got 'a b'"),
        ({"streams": {"-": {}}}, "streams must be named with letters"),
        ({"streams": {"hall": {}}}, "streams.hall has neither video.source nor audio.source; set at least one"),
        ({"streams": {"hall": 1}}, "streams.hall must be a mapping of keys, got 1"),
        ({"streams": {"hall": {"vidoe": {}}}}, "unknown key streams.hall.vidoe; did you mean streams.hall.video?"),
        ({"streams": {"hall": {"video": {"source": []}}}}, "streams.hall.video.source must be a text, got []"),
        (
            {"video": {"source": "0"}, "streams": {"hall": {"video": {"source": "1"}}}},
            "with streams, video and audio belong to each stream; remove them at the top level",
        ),
        ({"video": "default"}, "video must be a mapping of keys, got 'default'"),
        ({"video": 0}, "video must be a mapping of keys, got 0; write video: {source: ...}"),
        ([], "the configuration must be a mapping of keys, got []"),
        ("text", "the configuration must be a mapping of keys, got 'text'"),
    ],
)
def test_an_error_names_the_key(wrong: object, message: str):
    with pytest.raises(ConfigError) as caught:
        parse(wrong, "my.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("my.yaml: ")


def drop_a_letter(key: str, position: int) -> str:
    return key[: position % len(key)] + key[position % len(key) + 1 :]


@given(key=st.sampled_from(sorted(LEAVES)), position=st.integers(0, 100))
def test_a_key_with_a_missing_letter_gets_a_suggestion(key: str, position: int):
    section, _, name = key.rpartition(".")
    wrong = drop_a_letter(name, position)
    siblings = [k.rpartition(".")[2] for k in LEAVES if k.rpartition(".")[0] == section]
    assume(wrong and wrong not in siblings)
    with pytest.raises(ConfigError, match=f"did you mean {key}\\?"):
        parse(nested(f"{section}.{wrong}".lstrip("."), 1), "x")


@settings(max_examples=200)
@given(text=st.text(max_size=60) | st.text("[]{}:,-&*!|>'\"%@`#?\n\t 0123456789.eE_", max_size=60))
def test_any_text_gives_a_configuration_or_a_config_error(tmp_path_factory, text: str):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(load(path), Config)
    except ConfigError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"a: [",
        b"a: b: c",
        b"\tx",
        b"a: b\n\x1fx",
        b'a: "\\UFFFFFFFF"',
        b"? [a]\n: b",
        b"x: !!python/name:os {}",
        b"[" * 5000,
    ],
    ids=range(9),
)
def test_invalid_yaml_names_the_file(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"missing\.yaml cannot be read: No such file"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_streams_are_parsed_by_name():
    config = parse({"streams": {"hall": {"video": {"source": "0"}}, "door-2": {"audio": {"source": "USB"}}}}, "x")
    hall, door = config.streams["hall"], config.streams["door-2"]
    assert (hall.video.source, hall.audio.source) == ("0", "none")
    assert (door.video.source, door.audio.source) == ("none", "USB")
