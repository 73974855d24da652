"""PreprocessSpec: everything that decides how sound and pictures become network inputs, with a hash.

The hash travels in the model bundle. A runtime that does not implement a spec refuses the bundle, so training and serving
cannot drift apart unseen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

from moodring.errors import BundleError

SAMPLE_RATE_HZ = 16_000
PITCH_COLUMNS = 2  # pitch and voicing (see `moodring.features.audio.pitch`)

WindowFunction = Literal["hamming", "hann", "rectangular"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_types(kind: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as they are; raise TypeError where one is of another type than its default (JSON has no types)."""
    for field in dataclasses.fields(kind):
        if field.name in data and type(data[field.name]) is not type(field.default):
            raise TypeError(f"{field.name} must be of type {type(field.default).__name__}, got {data[field.name]!r}")
    return data


def _hash(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MfccSpec:
    """Mel-frequency cepstra of mono sound, in the terms of python_speech_features.

    Samples are taken in [-1, 1] and scaled by `sample_scale` first (32768 gives the levels of 16-bit integers).
    """

    rate_hz: int = 16_000
    window_samples: int = 400
    hop_samples: int = 160
    fft_size: int = 512
    filters: int = 40
    cepstra: int = 40
    low_hz: float = 20.0
    high_hz: float = 8000.0
    pre_emphasis: float = 0.97
    window: WindowFunction = "hamming"
    lifter: int = 22
    energy_as_c0: bool = False
    mel_scale: Literal["htk", "slaney"] = "htk"
    output: Literal["cepstra", "log_mel"] = "cepstra"
    sample_scale: float = 32768.0

    def __post_init__(self) -> None:
        _require(self.rate_hz > 0, f"rate_hz must be positive, got {self.rate_hz}")
        _require(
            0 < self.window_samples <= self.fft_size,
            f"window_samples ({self.window_samples}) must lie in 1..fft_size ({self.fft_size})",
        )
        _require(self.fft_size & (self.fft_size - 1) == 0, f"fft_size must be a power of two, got {self.fft_size}")
        _require(
            self.window != "hann" or self.window_samples > 2,
            f"a hann window of {self.window_samples} samples is zero: window_samples must be at least 3",
        )
        _require(
            0 < self.hop_samples <= self.window_samples,
            f"hop_samples ({self.hop_samples}) must lie in 1..window_samples ({self.window_samples})",
        )
        _require(0 < self.cepstra <= self.filters, f"cepstra ({self.cepstra}) must lie in 1..filters ({self.filters})")
        _require(
            0 <= self.low_hz < self.high_hz <= self.rate_hz / 2,
            f"low_hz ({self.low_hz}) < high_hz ({self.high_hz}) <= half of rate_hz ({self.rate_hz / 2}) must hold",
        )
        _require(0.0 <= self.pre_emphasis < 1.0, f"pre_emphasis must lie in [0, 1), got {self.pre_emphasis}")
        _require(
            self.window in ("hamming", "hann", "rectangular"),
            f"window must be hamming, hann or rectangular, got {self.window!r}",
        )
        _require(self.lifter >= 0, f"lifter must not be negative, got {self.lifter}")
        _require(self.mel_scale in ("htk", "slaney"), f"mel_scale must be htk or slaney, got {self.mel_scale!r}")
        _require(self.output in ("cepstra", "log_mel"), f"output must be cepstra or log_mel, got {self.output!r}")
        _require(not (self.output == "log_mel" and self.energy_as_c0), "energy_as_c0 belongs to cepstra, not to output log_mel")
        _require(1.0 <= self.sample_scale <= 32768.0, f"sample_scale must lie in [1, 32768], got {self.sample_scale}")


@dataclass(frozen=True, slots=True)
class SpeechSpec:
    """What the speech branch sees: a window of cepstra, its level removed, a short one repeated to full length."""

    mfcc: MfccSpec = MfccSpec()
    window_frames: int = 300
    min_frames: int = 98  # one second of sound: 98 whole windows
    hop_frames: int = 50
    noise_reduction: Literal["none", "wiener"] = "wiener"
    normalisation: Literal["level"] = "level"
    padding: Literal["repeat"] = "repeat"
    deltas: Literal[0, 1, 2] = 0  # how many orders of them stand beside the features
    pitch: bool = True  # whether pitch and voicing stand behind them

    @property
    def features(self) -> int:
        """How many cepstra, or log mel energies, describe one frame."""
        return self.mfcc.filters if self.mfcc.output == "log_mel" else self.mfcc.cepstra

    @property
    def columns(self) -> int:
        """How many numbers describe one frame of a window."""
        return self.features * (1 + self.deltas) + PITCH_COLUMNS * self.pitch

    def __post_init__(self) -> None:
        _require(
            0 < self.min_frames <= self.window_frames,
            f"min_frames ({self.min_frames}) must lie in 1..window_frames ({self.window_frames})",
        )
        _require(self.hop_frames > 0, f"hop_frames must be positive, got {self.hop_frames}")
        _require(
            self.noise_reduction in ("none", "wiener"), f"noise_reduction must be none or wiener, got {self.noise_reduction!r}"
        )
        _require(self.normalisation == "level", f"normalisation must be level, got {self.normalisation!r}")
        _require(self.padding == "repeat", f"padding must be repeat, got {self.padding!r}")
        _require(self.deltas in (0, 1, 2), f"deltas must be 0, 1 or 2, got {self.deltas!r}")


@dataclass(frozen=True, slots=True)
class FaceSpec:
    """What the face branch sees: a square grey crop round a Haar box, widened by `margin` of its side on every side."""

    detector: Literal["haarcascade_frontalface_default"] = "haarcascade_frontalface_default"
    margin: float = 0.0
    size: int = 48
    normalisation: Literal["meanstd"] = "meanstd"  # per crop: zero mean, unit deviation

    def __post_init__(self) -> None:
        _require(
            self.detector == "haarcascade_frontalface_default",
            f"detector must be haarcascade_frontalface_default, got {self.detector!r}",
        )
        _require(-0.25 <= self.margin <= 1.0, f"margin must lie in [-0.25, 1], got {self.margin}")
        _require(16 <= self.size <= 256, f"size must lie in 16..256 pixels, got {self.size}")
        _require(self.normalisation == "meanstd", f"normalisation must be meanstd, got {self.normalisation!r}")


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """Both front ends. `version` changes whenever the same fields would give other numbers."""

    version: int = 1
    speech: SpeechSpec = SpeechSpec()
    face: FaceSpec = FaceSpec()

    def __post_init__(self) -> None:
        _require(self.version == 1, f"this runtime implements preprocessing version 1, not {self.version}")
        rate_hz = self.speech.mfcc.rate_hz
        _require(rate_hz == SAMPLE_RATE_HZ, f"every source gives sound at {SAMPLE_RATE_HZ} Hz, not at {rate_hz}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def hash(self) -> str:
        """Return the SHA-256 of the canonical JSON form, in hexadecimal."""
        return _hash(self.to_dict())

    def hash_for(self, kind: str) -> str:
        """Return the hash of what a `face` or `speech` network sees; of all of it for any other network."""
        everything = self.to_dict()
        return _hash({"version": self.version, kind: everything[kind]}) if kind in everything else self.hash()

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read what `to_dict` wrote; raise BundleError where this runtime does not implement what it asks for."""
        try:
            speech = dict(data["speech"])
            mfcc = MfccSpec(**_check_types(MfccSpec, speech.pop("mfcc")))
            speech_spec = SpeechSpec(mfcc, **_check_types(SpeechSpec, speech))
            return cls(version=data["version"], speech=speech_spec, face=FaceSpec(**_check_types(FaceSpec, data["face"])))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"the model bundle's preprocessing spec is not one this runtime implements ({error}); "
                "update moodring, or export the model again with this version"
            ) from error
