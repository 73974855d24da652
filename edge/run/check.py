"""`moodring config check` and `moodring config init`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import moodring
from moodring.config import Config, examine
from moodring.errors import MoodringError, UsageError
from moodring.labels import EventLabels
from moodring.networks import open_networks
from moodring.process import log
from moodring.run.options import RunOptions, load_bundle, with_place

TEMPLATE = "laptop.yaml"  # every key with its default and a comment


def check(path: Path, settings: Sequence[str]) -> int:
    """Print what would end `moodring run --config` before it opens a device, all of it; return the exit code."""
    options = RunOptions(config=path, settings=settings)
    config, invalid = examine(path, settings, os.environ)
    found = [_error(lambda: _check_bundle(config, options)), _error(lambda: _check_mqtt(config))]
    errors: list[MoodringError] = [invalid] if invalid else []
    errors += [with_place(error, options) for error in found if error is not None]
    for error in errors:
        log(str(error))
    if errors:
        return max(error.exit_code for error in errors)
    print(f"{path} is valid")
    return 0


def _error(step: Callable[[], None]) -> MoodringError | None:
    try:
        step()
    except MoodringError as error:
        return error
    return None


def _check_bundle(config: Config, options: RunOptions) -> None:
    bundle = load_bundle(config, options)
    EventLabels(bundle.labels, merge_calm=config.labels.merge_calm, bundle=bundle.name)
    open_networks(config, bundle)


def _check_mqtt(config: Config) -> None:
    if config.mqtt.url != "none":
        from moodring.publish.mqtt.options import check_mqtt  # noqa: PLC0415  TLS costs start-up time

        check_mqtt(config.mqtt, "host/stream", ())


def init(path: Path) -> int:
    """Write a configuration that explains every key, and return exit code 0. Raises UsageError where the file exists."""
    package = Path(moodring.__file__).resolve().parent
    template = next(folder / TEMPLATE for folder in (package / "configs", package.parent / "configs") if folder.is_dir())
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise UsageError(f"{path} exists and stays as it is; name another file") from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; name a file in a folder that you may write to"
        ) from error
    print(f"wrote {path}: every key with its default. Check it with: moodring config check {path}")
    return 0
