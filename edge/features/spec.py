"""Preprocessing specification: all parameters that turn sound and frames into network inputs, with a hash.

The model bundle contains the spec and its hash. A runtime that does not implement the spec rejects the bundle. This prevents
an undetected mismatch between training and runtime.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

from moodring.errors import BundleError
from moodring.types import SAMPLE_RATE_HZ

PITCH_COLUMNS = 2  # pitch and voicing (moodring.features.audio.pitch)

WindowFunction = Literal["hamming", "hann", "rectangular"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_types(kind: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return `data` unchanged. Raises TypeError if a field has another type than its default: JSON does not preserve types."""
    for field in dataclasses.fields(kind):
        if field.name in data and type(data[field.name]) is not type(field.default):
            raise TypeError(f"{field.name} must be of type {type(field.default).__name__}, got {data[field.name]!r}")
    return data


def _hash(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MfccSpec:
    """Parameters of the MFCC of mono sound, with the meaning that they have in python_speech_features.

    Samples in [-1, 1] are first multiplied by `sample_scale` (32768 gives the levels of 16-bit integers). Raises ValueError
    on an invalid combination.
    """

    rate_hz: int = SAMPLE_RATE_HZ
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
    high_pass_hz: float = 0.0  # cut-off frequency of moodring.features.audio.high_pass; 0: no filter
    mel_floor: float = 0.0  # lowest mel energy, before noise tracking; 1.0 is that of the dither of 16-bit sound; 0: none

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
        _require(
            not (self.output == "log_mel" and self.energy_as_c0), "energy_as_c0 requires output cepstra, got output log_mel"
        )
        _require(1.0 <= self.sample_scale <= 32768.0, f"sample_scale must lie in [1, 32768], got {self.sample_scale}")
        _require(
            self.high_pass_hz == 0.0 or 40.0 <= self.high_pass_hz <= 300.0,
            f"high_pass_hz must be 0 or lie in [40, 300], got {self.high_pass_hz}",
        )
        _require(0.0 <= self.mel_floor <= 1e6, f"mel_floor must lie in [0, 1e6], got {self.mel_floor}")


@dataclass(frozen=True, slots=True)
class SpeechSpec:
    """Input of the speech branch: a window of cepstra with the level removed; a short window is repeated to full length.

    Raises ValueError on an invalid value.
    """

    mfcc: MfccSpec = MfccSpec()
    window_frames: int = 300
    min_frames: int = 98  # one second of sound gives 98 complete analysis windows
    hop_frames: int = 50
    noise_reduction: Literal["none", "wiener"] = "wiener"
    normalisation: Literal["level"] = "level"
    padding: Literal["repeat"] = "repeat"
    deltas: Literal[0, 1, 2] = 0  # highest order of the deltas appended to the features; 0: none
    pitch: bool = True  # whether pitch and voicing follow as the last columns

    @property
    def features(self) -> int:
        """Number of cepstra, or of log mel energies, of one frame."""
        return self.mfcc.filters if self.mfcc.output == "log_mel" else self.mfcc.cepstra

    @property
    def columns(self) -> int:
        """Number of columns of a window: features, deltas, pitch and voicing."""
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
    """Input of the face branch: a square grey crop around a Haar box.

    `margin` widens the box on every side, as a fraction of the box side. `size` is the side of the crop in pixels. Raises
    ValueError on an invalid value.
    """

    detector: Literal["haarcascade_frontalface_default"] = "haarcascade_frontalface_default"
    margin: float = 0.0
    size: int = 48
    normalisation: Literal["meanstd"] = "meanstd"  # each crop: zero mean, unit standard deviation

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
    """Preprocessing of both branches. `version` changes if the same fields give other network inputs.

    Raises ValueError on another version or sample rate than this runtime implements.
    """

    version: int = 1
    speech: SpeechSpec = SpeechSpec()
    face: FaceSpec = FaceSpec()

    def __post_init__(self) -> None:
        _require(self.version == 1, f"this runtime implements preprocessing version 1, not {self.version}")
        rate_hz = self.speech.mfcc.rate_hz
        _require(
            rate_hz == SAMPLE_RATE_HZ,
            f"speech.mfcc.rate_hz must be {SAMPLE_RATE_HZ} Hz, the rate of captured sound; got {rate_hz} Hz",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as nested dictionaries that JSON can represent.

        A field that was added later is left out where it has no effect, so that the hashes of earlier bundles stay valid.
        """
        document = dataclasses.asdict(self)
        for name in ("high_pass_hz", "mel_floor"):
            if not document["speech"]["mfcc"][name]:
                del document["speech"]["mfcc"][name]
        return document

    def hash(self) -> str:
        """Return the SHA-256 of the canonical JSON form as a hexadecimal string."""
        return _hash(self.to_dict())

    def hash_for(self, kind: str) -> str:
        """Return the hash of the preprocessing of a `face` or `speech` network; of the whole spec for any other kind."""
        fields = self.to_dict()
        return _hash({"version": self.version, kind: fields[kind]}) if kind in fields else self.hash()

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Return the spec that `to_dict` wrote. Raises BundleError if this runtime does not implement it."""
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
