"""Read the configuration. Each layer replaces the keys of the one before: defaults, file, environment, --set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from moodring.config.checks import build, find, leaf_keys
from moodring.config.document import Entry, from_plain, read_document
from moodring.config.overrides import apply_environment, apply_settings
from moodring.config.sections import Config
from moodring.errors import ConfigError, MoodringError

MAX_REPORTED = 50
NO_ENVIRONMENT: Mapping[str, str] = {}


def load(path: str | PathLike[str]) -> Config:
    """Return the configuration of a YAML file alone; missing keys keep their defaults. Raises ConfigError."""
    return read(Path(path))


def read(path: Path | None, settings: Sequence[str] = (), environment: Mapping[str, str] = NO_ENVIRONMENT) -> Config:
    """Return the configuration of a file, of the environment and of the KEY=VALUE texts of --set.

    Raises ConfigError with every error, one line each.
    """
    config, error = examine(path, settings, environment)
    if error is not None:
        raise error
    return config


def examine(
    path: Path | None, settings: Sequence[str] = (), environment: Mapping[str, str] = NO_ENVIRONMENT
) -> tuple[Config, ConfigError | None]:
    """Return the configuration that `read` returns, with defaults in place of what is wrong, and the error that it raises."""
    root, problems = _layers(path, settings, environment)
    return _finish(root, problems)


def parse(data: object, where: str) -> Config:
    """Return the configuration of parsed YAML. `where` names its file in errors. Raises ConfigError."""
    config, error = _finish(from_plain(data, where), [])
    if error is not None:
        raise error
    return config


def with_place(
    error: MoodringError,
    path: Path | None,
    settings: Sequence[str] = (),
    environment: Mapping[str, str] = NO_ENVIRONMENT,
    key: str | None = None,
) -> MoodringError:
    """Return an error that a part of the program raised about a key, with the place where the user set the key.

    Without `key`, the message must start with it. Errors about something else or a default stay as they are.
    """
    key = key or _named_key(str(error))
    entry = find(_layers(path, settings, environment)[0], key) if key else None
    return error if entry is None else type(error)(f"{entry.place}: {error}")


def _named_key(message: str) -> str | None:
    """Return the key at the start of a message; `my.yaml:3` is a place."""
    named = re.match(r"(?:streams\.[\w.-]+|[a-z_]+(?:\.\w+)*)(?=[: ])(?!:\d)", message)
    return named[0] if named and (named[0].startswith("streams.") or named[0] in leaf_keys()) else None


def _layers(path: Path | None, settings: Sequence[str], environment: Mapping[str, str]) -> tuple[Entry, list[str]]:
    root, problems = (Entry("defaults", {}), []) if path is None else read_document(path)
    root = apply_environment(root, environment, problems)
    return apply_settings(root, settings, problems), problems


def _finish(root: Entry, problems: list[str]) -> tuple[Config, ConfigError | None]:
    config, found = build(root)
    problems = sorted(dict.fromkeys([*problems, *found]), key=_line)
    if len(problems) < 2:
        return config, ConfigError(problems[0]) if problems else None
    shown = problems[:MAX_REPORTED]
    more = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return config, ConfigError("\n  ".join([f"the configuration has {len(problems)} errors:", *shown, *more]))


def _line(problem: str) -> int:
    """Return the line of a problem; those without a line come first."""
    found = re.search(r":(\d+): ", problem)
    return int(found[1]) if found else 0
