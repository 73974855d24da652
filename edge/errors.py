"""What can go wrong, as a tree.

    MoodringError             exit code 1
    |-- UsageError            exit code 2: the command line asks for something that cannot be
    |   `-- ConfigError       a configuration file: unknown key, wrong type, out of range
    |-- DataError             a data set: absent, partial or corrupt; names the file
    |-- MediaError            a recording or a stream that cannot be opened or decoded
    |-- DeviceError           a camera or microphone: absent, busy, not permitted, lost
    |-- BundleError           a model bundle: absent, changed, or made for another runtime
    |-- BackendError          an inference engine: absent, or it refuses a model
    |-- ExportError           an exported model that does not answer as its original does
    |-- EventError            a text that is no event of ours
    `-- PublishError          events that cannot be written

A message names what was wrong, where, and what to do about it. `None` means "not ready yet" and is never an error.
"""

from __future__ import annotations

import re


def without_credentials(text: str) -> str:
    """Return a message with user names and passwords taken out of the addresses in it."""
    return re.sub(r"://[^/@\s]+@", "://", text)


class MoodringError(Exception):
    """Base of every error that moodring raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(MoodringError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that cannot be used: names the file and the key."""


class DataError(MoodringError):
    """A data set that is absent, partial or corrupt: names the file."""


class MediaError(MoodringError):
    """A recording or stream that cannot be opened or decoded."""


class DeviceError(MoodringError):
    """A camera or microphone that is absent, busy, not permitted or lost."""


class BundleError(MoodringError):
    """A model bundle that is absent, was changed, or was made for another runtime."""


class BackendError(MoodringError):
    """An inference engine that is absent or refuses a model."""


class ExportError(MoodringError):
    """An exported model that does not answer as its original does."""


class EventError(MoodringError):
    """A text that is no event of ours, or one of a version that cannot be read."""


class PublishError(MoodringError):
    """Events that cannot be written."""
