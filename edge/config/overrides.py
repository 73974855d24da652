"""Values that replace those of the file: `--set fusion.rate_hz=2` and MOODRING_FUSION__RATE_HZ=2 in the environment.

The variable of a key is MOODRING_ and the key in capitals, with two underscores for each dot. Variables without two underscores
are other programs' (MOODRING_DATA, or MOODRING_PORT of Kubernetes), except those of the keys without a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from moodring.config.checks import leaf_keys, unknown_key
from moodring.config.document import Entry, Scalar, Table, shorten

PREFIX = "MOODRING_"
STREAM_KEY = re.compile(r"streams\.(?P<name>.+)\.(?P<leaf>(?:video|audio)\.\w+)")
STREAM_VARIABLE = re.compile(rf"{PREFIX}STREAMS__(?P<name>.+)__(?P<leaf>(?:VIDEO|AUDIO)__\w+)")


def apply_environment(root: Entry, environment: Mapping[str, str], problems: list[str]) -> Entry:
    """Return a document with the values of the environment. Wrong variables are added to `problems`."""
    keys = {variable_of(key): key for key in leaf_keys()}
    for name in sorted(environment):
        if not _is_setting(name.upper(), keys):
            continue
        place = f"environment variable {shorten(name)}"
        stream = STREAM_VARIABLE.fullmatch(name.upper())
        if stream:
            path = ["streams", _stream_name(stream["name"], root), *stream["leaf"].lower().split("__")]
        elif name.upper() in keys:
            path = keys[name.upper()].split(".")
        else:
            problems.append(f"{place}: {unknown_key(name, keys).replace('unknown key', 'unknown setting')}")
            continue
        root = _replace(root, path, Entry(place, Scalar(environment[name], "given")))
    return root


def apply_settings(root: Entry, settings: Iterable[str], problems: list[str]) -> Entry:
    """Return a document with the values of KEY=VALUE texts; the last of one key counts. Wrong ones are added to `problems`."""
    keys = list(leaf_keys())
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        stream = STREAM_KEY.fullmatch(key)
        place = f"--set {shorten(key)}"
        if not equals:
            problems.append(f"{place}: write KEY=VALUE, such as --set fusion.rate_hz=2")
        elif stream:
            path = ["streams", stream["name"], *stream["leaf"].split(".")]
            root = _replace(root, path, Entry(place, Scalar(value, "given")))
        elif key in keys:
            root = _replace(root, key.split("."), Entry(place, Scalar(value, "given")))
        elif inside := [known for known in keys if known.startswith(f"{key}.")]:
            problems.append(f"{place}: {key} is a section; set one of its keys, such as {inside[0]}")
        else:
            problems.append(f"{place}: {_unknown(key, keys)}")
    return root


def unread_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a note for each variable that is a key but for its underscores: MOODRING_FUSION_RATE_HZ."""
    variables = {variable_of(key).replace("__", "_"): variable_of(key) for key in leaf_keys()}
    return [
        f"environment variable {name} is not read: the one of this key is {variables[name]}"
        for name in sorted(environment)
        if name in variables and name != variables[name]
    ]


def variable_of(key: str) -> str:
    """Return the environment variable of a dotted key."""
    return PREFIX + key.upper().replace(".", "__")


def _is_setting(name: str, keys: Mapping[str, str]) -> bool:
    return name.startswith(PREFIX) and ("__" in name or name in keys)


def _stream_name(written: str, root: Entry) -> str:
    """Return the name of the stream that a variable means: one of the file, whatever its case and signs, or a new one."""
    streams = root.value.get("streams") if isinstance(root.value, dict) else None
    named = streams.value if streams is not None and isinstance(streams.value, dict) else {}
    same = [name for name in named if re.sub(r"[^A-Z0-9]", "_", name.upper()) == written]
    return same[0] if same else written.lower()


def _unknown(key: str, keys: Sequence[str]) -> str:
    """Return the error of an unknown key; a key without its section names the keys with this end."""
    ends = [known for known in keys if known.endswith(f".{key}")]
    return f"unknown key {key}; did you mean {' or '.join(ends)}?" if ends else unknown_key(key, keys)


def _replace(root: Entry, path: Sequence[str], entry: Entry) -> Entry:
    """Return a document in which a key has another entry. What is no section stays, and is reported as wrong."""
    if not path:
        return entry
    if isinstance(root.value, Scalar) and root.value.form != "null":
        return root
    table: Table = root.value if isinstance(root.value, dict) else {}
    child = _replace(table.get(path[0], Entry(entry.place, {})), path[1:], entry)
    return Entry(root.place, {**table, path[0]: child})
