"""From the entries of a document to the dataclasses. Every error is collected; each names its place and its key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from moodring.capture import mute_schedule as schedule
from moodring.config.document import Entry, Scalar, Table, shorten
from moodring.config.sections import RANGES, Config, InputConfig, StreamConfig, VideoConfig
from moodring.config.values import convert, name_kind, show

STREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_LISTED = 20  # keys in an error
STREAM_PREFIX = re.compile(r"streams\..+\.(?=(?:video|audio)\.\w+$)")
MIN_SNAPSHOT_HZ = 2.0  # a camera without a frame for a second is lost
# Texts that the word `none` switches off, besides those whose default is `none`.
SWITCHED_BY_NONE = {"source", "events.path"}


def build(root: Entry) -> tuple[Config, list[str]]:
    """Return the configuration of a document, with defaults in place of what is wrong or missing, and all errors."""
    problems: list[str] = []
    config = _section(Config, root, "", problems)
    assert isinstance(config, Config)  # noqa: S101  for the type checker
    table = root.value if isinstance(root.value, dict) else {}
    if config.streams and (config.video, config.audio) != (VideoConfig(), InputConfig()):
        place = next(table[key].place for key in ("video", "audio") if key in table)
        problems.append(f"{place}: with streams, video and audio belong to each stream; remove them at the top level")
    for device, text in dataclasses.asdict(config.mute).items():
        try:
            schedule.parse_periods(text)
        except ValueError as error:
            place = getattr(find(root, f"mute.{device}"), "place", root.place)
            problems.append(f"{place}: mute.{device}: {error}")
    cameras = {"video": config.video} | {f"streams.{name}.video": stream.video for name, stream in config.streams.items()}
    for key, camera in cameras.items():
        if 0 < camera.snapshot_hz < MIN_SNAPSHOT_HZ:
            place = getattr(find(root, f"{key}.snapshot_hz"), "place", root.place)
            problems.append(
                f"{place}: {key}.snapshot_hz must be at least {MIN_SNAPSHOT_HZ:g}, since a camera without a frame for a second "
                f"is lost, or 0 for a camera that sends a stream; got {camera.snapshot_hz:g}"
            )
    return config, problems


def leaf_keys(kind: type[Any] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every key that takes a value, with dots; STREAM stands for the name of a stream."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaf_keys(typing.cast("type[Any]", hint), f"{prefix}{name}.")
        elif typing.get_origin(hint) is dict:
            yield from leaf_keys(StreamConfig, f"{prefix}{name}.STREAM.")
        else:
            yield prefix + name


def find(root: Entry, key: str) -> Entry | None:
    """Return the entry of a dotted key, None where it is not set. The name of a stream can contain dots."""
    if not key:
        return root
    table = root.value if isinstance(root.value, dict) else {}
    name = next((name for name in table if key == name or key.startswith(f"{name}.")), None)
    return None if name is None else find(table[name], key[len(name) + 1 :])


def unknown_key(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the error of an unknown key, with the most similar known key. `prefix` is the section of all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    listed = [prefix + key for key in known]
    hint = (
        f"known keys: {', '.join(listed)}"
        if len(listed) <= MAX_LISTED
        else "`moodring config init` writes a file with every key"
    )
    if near:
        hint = f"did you mean {prefix}{near[0]}?"
    return f"unknown key {prefix}{shorten(name)}; {hint}"


def _section(kind: type[Any], entry: Entry, prefix: str, problems: list[str]) -> Any:
    table = _table(kind, entry, prefix, problems)
    hints = typing.get_type_hints(kind, include_extras=True)
    defaults = kind()
    values = {}
    for name, child in table.items():
        if name not in hints:
            problems.append(f"{child.place}: {unknown_key(name, hints, prefix)}")
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = _section(hints[name], child, f"{prefix}{name}.", problems)
        elif typing.get_origin(hints[name]) is dict:
            values[name] = _streams(child, name, problems)
        else:
            try:
                values[name] = _leaf(hints[name], child, prefix + name, getattr(defaults, name))
            except ValueError as error:
                problems.append(f"{child.place}: {prefix}{name} {error}")
    return kind(**values)


def _table(kind: type[Any], entry: Entry, prefix: str, problems: list[str]) -> Table:
    """Return the keys of a section; an empty section, such as one whose lines are all comments, has none."""
    if isinstance(entry.value, dict):
        return entry.value
    if entry.value.form != "null":
        name = prefix.rstrip(".") or "the configuration"
        first = dataclasses.fields(kind)[0].name
        advice = f"; write {name}: {{{first}: ...}}" if prefix else ""
        problems.append(f"{entry.place}: {name} must be a mapping of keys, got {show(entry.value)}{advice}")
    return {}


def _leaf(kind: Any, entry: Entry, key: str, default: object) -> Any:
    """Return one value. Raises ValueError if it has another type or lies outside its range."""
    if not isinstance(entry.value, Scalar):
        raise ValueError(f"must be {name_kind(kind)}, got a mapping of keys")  # noqa: TRY004  an error of the user
    may_be_none = default == "none" or key in SWITCHED_BY_NONE or key.rpartition(".")[2] in SWITCHED_BY_NONE
    value = convert(kind, entry.value, may_be_none=may_be_none)
    range_key = STREAM_PREFIX.sub("", key)
    if range_key in RANGES:
        low, high = RANGES[range_key]
        if not low <= value <= high:
            raise ValueError(f"must lie in {low}..{high}, got {show(entry.value)}")
    return value


def _streams(entry: Entry, key: str, problems: list[str]) -> dict[str, StreamConfig]:
    if not isinstance(entry.value, dict):
        if entry.value.form != "null":
            problems.append(
                f"{entry.place}: {key} must be a mapping from stream names to their video and audio; got {show(entry.value)}"
            )
        return {}
    streams: dict[str, StreamConfig] = {}
    for name, child in entry.value.items():
        if not STREAM_NAME.fullmatch(name):
            problems.append(
                f"{child.place}: {key} must be named with letters, digits, '-', '_' and '.'; got {show(Scalar(name, 'quoted'))}"
            )
            continue
        before = len(problems)
        streams[name] = _section(StreamConfig, child, f"{key}.{name}.", problems)
        if streams[name].video.source == streams[name].audio.source == "none" and len(problems) == before:
            problems.append(f"{child.place}: {key}.{name} has neither video.source nor audio.source; set at least one")
    return streams
