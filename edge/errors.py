"""All errors that moodring raises, as a tree.

    MoodringError             exit code 1
    |-- UsageError            exit code 2: invalid command line or argument
    |   `-- ConfigError       invalid configuration file: unknown key, wrong type, out of range
    |-- DataError             a data set is absent, partial or corrupt
    |-- MediaError            a recording or network stream cannot be opened or decoded
    |-- DeviceError           a camera or microphone is absent, busy, not permitted or lost
    |-- BundleError           a model bundle is absent, was changed, or needs another runtime
    |-- BackendError          an inference engine is absent or rejects a model
    |-- ExportError           an exported model differs from its original
    |-- EventError            a text is not an event of moodring
    `-- PublishError          events cannot be delivered

A message says what was wrong, where, and what to do. The secrets of addresses are hidden in it. `None` means that a result is
not available; it is never an error.
"""

from __future__ import annotations

import re

from moodring.redaction import without_credentials

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def message_line(text: str) -> str:
    """Return the line in which the command line prints a message for people, without credentials and escape sequences."""
    return "\n".join(printable(line) for line in f"moodring: {without_credentials(text)}".split("\n"))


def printable(text: str) -> str:
    """Return a text on one line. Control characters and bytes that are not UTF-8, as in file names, are escaped."""
    return CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


class MoodringError(Exception):
    """Base class of all errors of moodring. The command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class UsageError(MoodringError):
    """The command line, or an argument of a function, is invalid."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration is invalid. The message names the file and the key."""


class DataError(MoodringError):
    """A data set is absent, partial or corrupt. The message names the file."""


class MediaError(MoodringError):
    """A recording or network stream cannot be opened or decoded."""


class DeviceError(MoodringError):
    """A camera or microphone is absent, busy, not permitted or lost."""


class BundleError(MoodringError):
    """A model bundle is absent, was changed, or needs another runtime."""


class BackendError(MoodringError):
    """An inference engine is absent or rejects a model."""


class ExportError(MoodringError):
    """The outputs of an exported model differ from those of its original."""


class EventError(MoodringError):
    """A text is not an event of moodring, or its version is not supported."""


class PublishError(MoodringError):
    """Events cannot be delivered."""
