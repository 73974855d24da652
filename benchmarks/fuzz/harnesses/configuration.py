"""Configuration: any bytes as a YAML file, with any texts of --set and any environment.

Rules: only ConfigError; each of its lines names where the error is, as FILE:LINE, an option or an environment variable; the
message has no control characters.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.fuzz.harness import Harness, require
from moodring import config
from moodring.config.checks import leaf_keys
from moodring.config.overrides import variable_of
from moodring.errors import ConfigError, MoodringError, message_line, printable
from tests.architecture.modules import ROOT

SEPARATOR = b"\n%%\n"  # between the file, and each --set or NAME=VALUE of the environment
SET = "--set "
COUNT = re.compile(r"the configuration has \d+ errors:|  and \d+ more")
MAX_MESSAGE_CHARS = 100_000
FILE_NAME = "fuzzed.yaml"

YAML_SEEDS = (
    b"bundle: ~" + b"x" * 300 + b"/b\nevents: {path: " + b"y" * 300 + b"}\n",
    b"video: {source: 0}\naudio:\n  source: none\nfusion: {rate_hz: 2, method: feature}\n",
    b"streams:\n  door: &a {video: {source: 'rtsp://u:p@10.0.0.7/x'}}\n  b.c: {<<: *a, audio: {source: none}}\n",
    b"video: {source: 1}\nvideo: {source: 2}\nfusion:\n  rate_hz: fast\n  rate_hz: 1:30\n",
    b"mute: {camera: '22:00-06:00 Mo-Fr', microphone: none}\nface: {tracker: {hold_s: .inf, confirm_hits: 010}}\n",
    b"mqtt:\n  url: mqtts://h:8883\n  spool: {path: ~/x, max_mb: 1e3}\n  home_assistant: {enabled: on}\npage:\n",
    b"events: !!python/object:os.system {path: [1, 2]}\n? [a]\n: b\n? |\n  two\n  lines\n: 3\n",
    b"face: {rate_hz: 15.0, min_quality: '0.5'}\nlabels: {merge_calm: yes}\n---\nmore: 1\n",
)
OVERRIDE_SEEDS = (
    [b"--set fusion.rate_hz=2", b"MOODRING_FUSION__RATE_HZ=3", b"MOODRING_STREAMS__DOOR__VIDEO__SOURCE=0"],
    [b"--set streams.a.video.source=/dev/video0", b"MOODRING_PORT=1", b"MOODRING_BUNDLE=x", b"--set video", b"--set rate_hz=1"],
    [b"MOODRING_A__B=1", b"--set =", b"--set events.path=", b"MOODRING_FUSION_RATE_HZ=1", b"--set video.source="],
)


def split(data: bytes) -> tuple[bytes, list[str], dict[str, str]]:
    """Return the file, the texts of --set and the environment of an input."""
    file, *texts = data.split(SEPARATOR)
    settings: list[str] = []
    environment: dict[str, str] = {}
    for text in (raw.replace(b"\0", b"").decode("utf-8", "surrogateescape") for raw in texts):  # a process gets no null byte
        name, equals, value = text.partition("=")
        if text.startswith(SET):
            settings.append(text.removeprefix(SET))
        elif equals:
            environment[name] = value
    return file, settings, environment


def _check_message(error: MoodringError, path: Path, settings: list[str], environment: dict[str, str]) -> None:
    message = str(error)
    file = re.escape(str(path))
    place = re.compile(rf"(?:  )?(?:{file}:\d+: |--set |environment variable |configuration {file} is larger)")
    for line in message.split("\n"):
        require(bool(COUNT.fullmatch(line) or place.match(line)), f"no place in {line!r} of {settings} {environment}")
    require(len(message) <= MAX_MESSAGE_CHARS, f"the message has {len(message)} characters")
    require(
        message.isprintable() or all(line.isprintable() for line in message_line(message).split("\n")), "control characters"
    )


def make(folder: Path) -> Harness:
    """Return the harness."""
    path = folder / FILE_NAME

    def check(data: bytes) -> None:
        file, settings, environment = split(data)
        path.write_bytes(file)
        try:
            config.read(path, settings, environment)
        except ConfigError as error:
            _check_message(error, path, settings, environment)
            return
        config.unread_variables(environment)
        for key in ("video.source", "fusion.rate_hz", "streams.door"):
            placed = str(config.with_place(ConfigError(f"{key}: x"), path, settings, environment))
            require(printable(placed) == printable(placed.strip()), f"no place for {key}")

    keys = list(leaf_keys())
    shipped = (ROOT / "configs" / "laptop.yaml").read_bytes()
    plain = b"\n".join(line.partition(b" #")[0].rstrip() for line in shipped.splitlines() if not line.lstrip().startswith(b"#"))
    files = (*YAML_SEEDS, plain)
    seeds = [SEPARATOR.join([file, *overrides]) for file in files for overrides in ([], *OVERRIDE_SEEDS)]
    words = [part.encode() + b":" for part in sorted({name for key in keys for name in key.split(".")})]
    words += [f"{SET}{key}=".encode() for key in keys] + [f"{variable_of(key)}=".encode() for key in keys]
    words += [
        SEPARATOR,
        b"\n  ",
        b"<<: *a",
        b"&a ",
        b"!!",
        b"? ",
        b"- ",
        b"none",
        b"null",
        b"|\n",
        b"'",
        b": {",
        b"%YAML 1.1\n",
    ]
    return Harness(check, seeds, words, max_bytes=4096)
