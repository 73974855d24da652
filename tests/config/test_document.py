"""YAML files: every error names its file and line, all errors are reported, and no value is taken for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.config import Config, load
from moodring.config.document import MAX_BYTES
from moodring.errors import ConfigError

LAPTOP = (Path(__file__).resolve().parents[2] / "configs" / "laptop.yaml").read_bytes()


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that reads a configuration with this text."""

    def read_text(text: str | bytes) -> Config:
        path = tmp_path / "my.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path)

    return read_text


@pytest.fixture
def errors(read, tmp_path: Path):
    """Return a function that returns the lines of the error of a configuration with this text, without its folder."""

    def error_lines(text: str | bytes) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return error_lines


def test_every_error_is_reported_with_its_line_in_order(errors):
    text = """
fusion:
  rate_hz: fast
  methd: voting
face: {min_quality: 7}
page:
  port: 1.5
streams:
  a b: {}
  hall: {}
mute:
  camera: always
lables: {}
fusion: {rate_hz: 2}
"""
    assert errors(text) == [
        "the configuration has 9 errors:",
        "  my.yaml:3: fusion.rate_hz must be a number, got 'fast'",
        "  my.yaml:4: unknown key fusion.methd; did you mean fusion.method?",
        "  my.yaml:5: face.min_quality must lie in 0.0..1.0, got 7",
        "  my.yaml:7: page.port must be a whole number, got 1.5",
        "  my.yaml:9: streams must be named with letters, digits, '-', '_' and '.'; got 'a b'",
        "  my.yaml:10: streams.hall has neither video.source nor audio.source; set at least one",
        "  my.yaml:12: mute.camera: 'always' is not a period; write it like 22:00-07:00 or mon-fri 09:00-17:00",
        "  my.yaml:13: unknown key lables; did you mean labels?",
        "  my.yaml:14: the key fusion is given twice, first in line 2; join the two",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "fusion: {rate_hz: 2}\nface: {}\nfusion: {method: voting}",
            ["my.yaml:3: the key fusion is given twice, first in line 1"],
        ),
        ("fusion:\n  rate_hz: 2\n  rate_hz: 3", ["my.yaml:3: the key rate_hz is given twice, first in line 2"]),
        ('{bundle: a, "bundle": b}', ["my.yaml:1: the key bundle is given twice, first in line 1"]),
        ("streams:\n  on: {video: {source: 0}}\n  'on': {video: {source: 1}}", ["my.yaml:3: the key on is given twice"]),
        (
            "bundle: a\nbundle: b\nbundle: c",
            ["the configuration has 2 errors", "my.yaml:2: the key bundle", "my.yaml:3: the key bundle"],
        ),
        (
            "fusion:\n  rate_hz: 2\nfusion:\n  methd: 1",
            ["the configuration has 2 errors", "my.yaml:3: the key fusion", "my.yaml:4: unknown key fusion.methd"],
        ),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(errors, text: str, lines: list[str]):
    found = errors(text)
    assert len(found) == len(lines)
    for message, start in zip(found, lines, strict=True):
        assert message.strip().startswith(start)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("video: {source: 0}", "0"),
        ("video:\n  source: 2", "2"),
        ("video: {source: '0'}", "0"),
        ("video: {source: 007}", "007"),
        ("video: {source: 1:30}", "1:30"),
        ("video: {source: 1e3}", "1e3"),
        ("video: {source: 2024-01-01}", "2024-01-01"),
        ("video: {source: .inf}", ".inf"),
        ("video: {source: !!str 0}", "0"),
    ],
)
def test_a_text_may_look_like_a_number(read, text: str, value: str):
    assert read(text).video.source == value


def test_a_microphone_and_the_devices_of_streams_may_be_numbers(read):
    assert read("audio: {source: 1}").audio.source == "1"
    streams = read("streams: {no: {video: {source: 0}}, 7: {audio: {source: 3}}}").streams
    assert {name: (stream.video.source, stream.audio.source) for name, stream in streams.items()} == {
        "no": ("0", "none"),
        "7": ("none", "3"),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5.0), ("5.5", 5.5), ("+5", 5.0), ("1e1", 10.0), ("1.0e+1", 10.0), (".5e1", 5.0), ("0x10", 16.0), ("1_0", 10.0),
        ("!!int 5", 5.0), ("!!float 5", 5.0), ("0.5", 0.5), ("5.", 5.0),
    ],
)  # fmt: skip
def test_numbers_as_yaml_and_people_write_them(read, text: str, value: float):
    assert read(f"fusion: {{rate_hz: {text}}}").fusion.rate_hz == value


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("On", True), ("TRUE", True), ("off", False), ("no", False)])
def test_words_for_true_and_false(read, text: str, value: bool):
    assert read(f"labels: {{merge_calm: {text}}}").labels.merge_calm is value


@pytest.mark.parametrize("text", ["mqtt:\n#  url: none\n", "mqtt: ~", "mqtt: null\nstreams:\n", "mqtt:\n  spool:\n"])
def test_a_section_without_keys_has_its_defaults(read, text: str):
    assert read(text) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("events: {path: off}", "events.path must be a text, but YAML reads off as true or false; write none to switch it off"),
        ("mqtt: {username: no}", "mqtt.username must be a text, but YAML reads no as true or false; write none"),
        ("lsl: {name: on}", "lsl.name must be a text, but YAML reads on as true or false; write it in quotes: 'on'"),
        ("inference: {threads: 1:30}", "inference.threads must be a whole number, got 1:30; YAML reads colons as base 60"),
        ("fusion: {rate_hz: 1:30.5}", "fusion.rate_hz must be a number, got 1:30.5; YAML reads colons as base 60"),
        ("page: {port: 010}", "page.port must be a whole number, got 010; YAML reads a leading zero as octal; write"),
        ("fusion: {rate_hz: 010}", "fusion.rate_hz must be a number, got 010; YAML reads a leading zero as octal"),
        ("page: {port: 08737}", "leading zero"),
        ("fusion:\n  rate_hz: 0,5", "my.yaml:2: fusion.rate_hz must be a number, got '0,5'; write a decimal point: 0.5"),
        ("fusion: {rate_hz: 5 Hz}", "fusion.rate_hz must be a number, got '5 Hz'"),
        ('fusion: {rate_hz: "5"}', "fusion.rate_hz must be a number, got '5'; remove the quotes: 5"),
        ("fusion: {rate_hz: null}", "fusion.rate_hz must be a number, got null (null); write a value, or remove the key"),
        ("fusion:\n  rate_hz:\n", "my.yaml:2: fusion.rate_hz must be a number, got nothing (null); write a value, or remove"),
        ("fusion: {rate_hz: .nan}", "fusion.rate_hz must lie in 0.2..50.0, got '.nan'"),
        ("fusion: {rate_hz: .inf}", "fusion.rate_hz must lie in"),
        ("fusion: {rate_hz: -.Inf}", "fusion.rate_hz must lie in"),
        ("fusion: {rate_hz: [5]}", "fusion.rate_hz must be a number, got a list"),
        ("fusion: {rate_hz: {hz: 5}}", "fusion.rate_hz must be a number, got a mapping of keys"),
        ("inference: {threads: " + "9" * 5000 + "}", "inference.threads must be a whole number, got 99"),
        ("inference: {threads: 0x" + "f" * 5000 + "}", "inference.threads must lie in"),
        ("fusion: {rate_hz: 0x" + "f" * 5000 + "}", "fusion.rate_hz must be a number"),
        ("labels: {merge_calm: y}", "labels.merge_calm must be true or false, got 'y'"),
        ("labels: {merge_calm: 1}", "labels.merge_calm must be true or false, got 1; write true or false"),
        ("labels: {merge_calm: 'true'}", "labels.merge_calm must be true or false, got 'true'; write true or false"),
        ("bundle: ~", "bundle must be a text, got ~ (null)"),
        ("bundle: ''", "bundle must not be empty; remove the key"),
        ("mqtt: {username: ' '}", "mqtt.username must not be empty; write none"),
        ("bundle: |\n  folder\n", "bundle must be one line without control characters, got 'folder\\n'"),
        ('bundle: "a\\0b"', "bundle must be one line without control characters, got 'a\\x00b'"),
        ('bundle: "\\ud800"', "bundle must be one line without control characters"),
        ("events: {path: a, path2: b}", "unknown key events.path2; did you mean events.path?"),
        ("on: 1", "my.yaml:1: unknown key on"),
        ("? [a]\n: b", "my.yaml:1: a key must be a text, not a list or a mapping"),
        ("bundle: !mine x", "my.yaml:1: the tag !mine is not supported; remove it"),
        ("bundle: !!python/name:os.system x", "my.yaml:1: the tag !!python/name:os.system is not supported; remove it"),
        ("events: {fsync: Never}", "events.fsync must be one of never, second, always; got 'Never'"),
        ("bundle: !<tag:a%0Ab> x", r"my.yaml:1: the tag 'tag:a\nb' is not supported; remove it"),
        ("\n# text\ntext", "my.yaml:3: the configuration must be a mapping of keys, got 'text'"),
        (f"bundle: ~{'x' * 5000}/b", "names the home directory"),
        ("- bundle: x", "my.yaml:1: the configuration must be a mapping of keys, got a list"),
    ],
)  # fmt: skip
def test_a_value_that_can_be_misread_is_an_error_with_a_remedy(errors, text: str, message: str):
    (found,) = errors(text)
    assert found.startswith("my.yaml")
    assert message in found


def test_an_error_about_a_strange_key_stays_on_one_line(errors):
    header, *found = errors('{"a\\nb": 1, "a\\nb": 2}')
    assert header == "the configuration has 2 errors:"
    assert [line.partition(";")[0] for line in found] == [
        r"  my.yaml:1: the key 'a\nb' is given twice, first in line 1",
        r"  my.yaml:1: unknown key 'a\nb'",
    ]


def test_anchors_and_merge_keys(read):
    text = """
streams:
  hall: &camera
    video: &first {source: 0}
  door: {<<: *camera, audio: {source: 1}}
  gate: {<<: [{audio: {source: 2}}, {audio: {source: 3}}, *camera]}
"""
    streams = read(text).streams
    assert {name: (stream.video.source, stream.audio.source) for name, stream in streams.items()} == {
        "hall": ("0", "none"),
        "door": ("0", "1"),
        "gate": ("0", "2"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("streams: &s {a: *s}", "my.yaml:1: unknown key streams.a.a"),
        ("fusion: &f {<<: *f, rate_hz: x}", "my.yaml:1: fusion.rate_hz must be a number, got 'x'"),
        ("fusion: {<<: 3}", "my.yaml:1: << must name a mapping or a list of mappings"),
        ("fusion: *other", "my.yaml:1: the file is not valid YAML: found undefined alias"),
    ],
)
def test_an_alias_that_leads_nowhere(errors, text: str, message: str):
    (found,) = errors(text)
    assert found.startswith(message)


def test_aliases_do_not_multiply_the_work(errors):
    levels = [f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}" for i in range(1, 40)]
    found = errors("\n".join(["a0: &a0 {x: 1, x: 2}", *levels]))
    assert len(found) == 42  # the header, one repeated key, 40 unknown keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fusion: {\nrate_hz: 5\n", "my.yaml:3: the file is not valid YAML: expected ',' or '}'"),
        ("face: {}\nfusion:\n\trate_hz: 5\n", "with spaces, not with tabs"),
        ("mqtt:\n  topic: a: b\n", "my.yaml:2: the file is not valid YAML: mapping values are not allowed here; put a text"),
        ("bundle: a\n---\nbundle: b\n", "my.yaml:2: the file is not valid YAML: but found another document"),
        (b"face: {}\nbundle: caf\xe9\n", "my.yaml:2: the file is not UTF-8 text, so it is not valid YAML; save it as UTF-8"),
        ("bundle: a".encode("utf-16"), "my.yaml:1: the file is not UTF-8 text"),
        (b"face: {}\n\n\x07\n", "my.yaml:3: the file is not valid YAML: it contains the control character 0x7"),
        ("[" * 5000, "my.yaml:1: the file is not valid YAML: it is nested too deeply"),
        ("face: {}\nbundle: " + "[" * 5000, "my.yaml:2: the file is not valid YAML: it is nested too deeply"),
        ("#" * (MAX_BYTES + 1), "configuration my.yaml is larger than 256 kB"),
    ],
)
def test_a_file_that_is_not_yaml_names_the_line(errors, text: str | bytes, message: str):
    (found,) = errors(text)
    assert message in found
    assert "my.yaml" in found


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(read):
    assert read(b"\xef\xbb\xbffusion:\r\n  rate_hz: 2\r\n").fusion.rate_hz == 2.0


def test_an_error_does_not_show_the_text_of_the_file(errors):
    (found,) = errors("mqtt: {password: s3cret, url: none")
    assert "s3cret" not in found
    (found,) = errors("mqtt: {password: s3cret}")
    assert "unknown key mqtt.password; did you mean mqtt.password_file?" in found
    assert "s3cret" not in found


def test_a_home_directory_is_expanded_in_every_path(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = read(
        "bundle: ~/b\nbundle_key: ~/k\nvideo: {source: ~/v.mp4}\naudio: {source: ~/a.wav}\nevents: {path: ~/e.jsonl}\n"
        "mqtt: {password_file: ~/p, ca_file: ~/c, certificate_file: ~/d, key_file: ~/f, spool: {path: ~/s}}\n"
        "page: {token_file: ~/t}\nlsl: {name: ~/lsl}\n"
    )
    mqtt = config.mqtt
    found = [config.bundle, config.bundle_key, config.video.source, config.audio.source, config.events.path]
    found += [mqtt.password_file, mqtt.ca_file, mqtt.certificate_file, mqtt.key_file, mqtt.spool.path, config.page.token_file]
    assert found == [f"{tmp_path}/{name}" for name in ("b", "k", "v.mp4", "a.wav", "e.jsonl", "p", "c", "d", "f", "s", "t")]
    assert config.lsl.name == "~/lsl"
    source = read("streams: {a: {video: {source: ~root/v.mp4}}}").streams["a"].video.source
    assert source == os.path.expanduser("~root/v.mp4")  # noqa: PTH111
    assert read("audio: {source: ~usb}").audio.source == "~usb"  # a microphone


def test_an_unknown_home_directory_is_an_error(errors):
    (found,) = errors("bundle: default\nevents: {path: ~no-such-user/e.jsonl}")
    assert found.startswith("my.yaml:2: events.path names the home directory ~no-such-user, which is not known here")


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_gives_a_configuration_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    content = bytearray(LAPTOP)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\n", b"<<: *a", b"&a ", b"*a", b"!!", b"? ", b"- ", b"{", b'"', b"\t"])
        )
        content[at : at + data.draw(st.integers(0, 5))] = piece
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(load(path), Config)
    except ConfigError as error:
        assert "damaged.yaml" in str(error)  # noqa: PT017  either outcome is right
