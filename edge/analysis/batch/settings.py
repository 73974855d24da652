"""What the results of a batch depend on: configuration, bundle, versions, and what is read of each file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import av
import cv2
import numpy as np
import onnxruntime

import moodring
from moodring.config import Config
from moodring.inference.bundle import BUNDLE_FILE, Bundle
from moodring.run.options import RunOptions
from moodring.run.replay import reproducible

Per = Literal["event", "second", "file"]

USED = ("face", "speech", "fusion", "smoothing", "labels", "inference")  # the sections that an analysis of files reads


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one batch. They can be pickled, and go to other processes and machines.

    `labels` are those of the rows, `bundle_sha256` is the hash of the bundle's bundle.json, which has the hashes of its files.
    """

    config: Config = field(hash=False)
    labels: tuple[str, ...]
    bundle_id: str
    bundle_name: str
    bundle_sha256: str
    per: Per = "event"
    seconds: float | None = None
    video_track: int | None = None
    audio_track: int | None = None
    frame_rate: float | None = None
    raw_audio: str | None = None

    def options(self, source: str) -> RunOptions:
        """Return the options that read one file."""
        return RunOptions(
            source=source,
            seconds=self.seconds,
            video_track=self.video_track,
            audio_track=self.audio_track,
            frame_rate=self.frame_rate,
            raw_audio=self.raw_audio,
        )

    def record(self) -> dict[str, Any]:
        """Return what the results depend on, as JSON. It is the same on every machine with these versions."""
        names = ("seconds", "video_track", "audio_track", "frame_rate", "raw_audio")
        return {
            "versions": dict(versions()),
            "bundle": {"id": self.bundle_id, "name": self.bundle_name, "sha256": self.bundle_sha256},
            "settings": {
                "per": self.per,
                **{name: getattr(self, name) for name in names},
                **{section: dataclasses.asdict(getattr(self.config, section)) for section in USED},
            },
        }

    def key(self) -> str:
        """Return a hash of the record: parts with another one are not of this batch."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()[:32]


def used_configuration(config: Config) -> Config:
    """Return a configuration without the sections that no analysis of files reads, such as the passwords of sinks."""
    kept = {section: getattr(config, section) for section in (*USED, "bundle", "bundle_key")}
    return reproducible(Config(**kept))


def bundle_hash(bundle: Bundle) -> str:
    """Return the SHA-256 of bundle.json as it is on this machine."""
    return hashlib.sha256((bundle.path / BUNDLE_FILE).read_bytes()).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of moodring and of the libraries that compute the results."""
    return {
        "moodring": moodring.__version__,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "pyav": av.__version__,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """Return the values of two records that differ, in words, one line each."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{where}{name}.")
        elif old != new:
            found.append(f"{where}{name} was {json.dumps(old)}, is {json.dumps(new)}")
    return found
