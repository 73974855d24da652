"""The functions of the library that analyse: `moodring.analyze`, `analyze_image` and `analyze_sound`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moodring.analysis.arrays import Colour, check_sound, decode_image, grey_image
from moodring.analysis.models import Models, choose_models
from moodring.analysis.opencv import OneThread
from moodring.analysis.reading import Reading, analyze_grey, analyze_samples
from moodring.analysis.result import Analysis
from moodring.analysis.summary import Kind
from moodring.config import Config
from moodring.errors import UsageError
from moodring.run.options import RunOptions

AnyPath = str | os.PathLike[str]


def analyze(
    source: AnyPath | bytes | ArrayLike,
    *,
    rate_hz: int | None = None,
    config: Config | None = None,
    models: Models | None = None,
    seconds: float | None = None,
    video_track: int | None = None,
    audio_track: int | None = None,
    frame_rate: float | None = None,
    raw_audio: str | None = None,
    colour: Colour = "rgb",
) -> Analysis:
    """Analyse an image, a recording or sound and return its rows.

    `source` is the path or URL of anything that FFmpeg decodes, an encoded image as bytes, an image array (see
    `analyze_image`, which also explains `colour`), or a sound array with its `rate_hz` (see `analyze_sound`). A recording gives
    a row for every event, five a second by default: the same labels and probabilities as `moodring run --pace max`. One frame
    without sound is an image, and gives a row for each face.

    `config` is the configuration (`load_config`); by default all keys have their defaults, and the environment is not read. Its
    inputs and sinks are not used. `models` are loaded networks (`load_models`), for many files. `seconds` ends a recording
    early. The others choose tracks and describe raw files as the options of `moodring run` do: `raw_audio` is
    FORMAT:RATE:CHANNELS.

    Raises UsageError for a path that does not exist or an array of another shape or type, MediaError for data that cannot be
    decoded, BundleError, BackendError or ConfigError for the networks. OpenCV runs in one thread meanwhile.
    """
    if isinstance(source, str | os.PathLike):
        options = RunOptions(
            source=os.fspath(source),
            seconds=seconds,
            video_track=video_track,
            audio_track=audio_track,
            frame_rate=frame_rate,
            raw_audio=raw_audio,
        )
        return _analyze_path(options, config, models)
    if rate_hz is not None:
        if isinstance(source, bytes):
            raise UsageError("bytes are an encoded image; give sound as an array, or as a path")
        return analyze_sound(source, rate_hz, config=config, models=models)
    return analyze_image(source, config=config, models=models, colour=colour)


def analyze_image(
    image: AnyPath | bytes | ArrayLike,
    *,
    config: Config | None = None,
    models: Models | None = None,
    colour: Colour = "rgb",
) -> Analysis:
    """Find every face of one image and return a row for each, largest first.

    `image` is a path or URL, the bytes of an image file, or an array uint8 [H, W], [H, W, 3] or [H, W, 4] (also a PIL image).
    `colour` is the order of the channels of an array: "rgb", or "bgr" as OpenCV reads images. Colour is converted to grey.

    A face without a label was detected, but is of too low quality, or the face network rejects it as a face. An image without a
    face gives one row with the state no_face. Faces smaller than a 30th of the longer side are not searched for. Raises as
    `analyze` does, and UsageError for a path to a recording.
    """
    if isinstance(image, str | os.PathLike):
        return _analyze_path(RunOptions(source=os.fspath(image)), config, models, only="image")
    grey = decode_image(image) if isinstance(image, bytes) else grey_image(_array(image), colour)
    config, models = choose_models(config, models)
    with OneThread():
        return analyze_grey(grey, "bytes" if isinstance(image, bytes) else "array", config, models)


def analyze_sound(
    sound: AnyPath | ArrayLike, rate_hz: int | None = None, *, config: Config | None = None, models: Models | None = None
) -> Analysis:
    """Analyse the voice in a sound file, in the sound of a video, or in an array, and return its rows.

    An array is [N], [N, channels] or [channels, N], of float32 or float64 in [-1, 1], int16, int32 or uint8, at `rate_hz`
    samples a second. Channels are mixed to mono. Raises as `analyze` does.
    """
    if isinstance(sound, str | os.PathLike):
        return _analyze_path(RunOptions(source=os.fspath(sound)), config, models, only="sound")
    if rate_hz is None:
        raise UsageError("a sound array needs rate_hz, its sample rate")
    samples = check_sound(_array(sound), rate_hz)
    config, models = choose_models(config, models)
    with OneThread():
        return analyze_samples(samples, rate_hz, "array", config, models)


def _analyze_path(options: RunOptions, config: Config | None, models: Models | None, only: Kind | None = None) -> Analysis:
    config, models = choose_models(config, models)
    with OneThread(), Reading(options, config, models, only) as reading:
        return reading.analysis()


def _array(data: AnyPath | bytes | ArrayLike) -> NDArray[Any]:
    """Return data as an array. Raises UsageError for what is not one."""
    try:
        return np.asarray(data)
    except ValueError as error:  # lists of different lengths
        raise UsageError(f"an array is needed, got {type(data).__name__}: {error}") from error
