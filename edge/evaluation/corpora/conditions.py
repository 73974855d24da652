"""A corpus under changed conditions: noise mixed in at a signal-to-noise ratio, and the corruptions of `sound_corruption`.

Each condition has a random generator of its own: its figures do not depend on the other conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from moodring.evaluation.corruption import Corruption
from moodring.evaluation.data.readers import read_sound
from moodring.evaluation.engine import SEED
from moodring.evaluation.sound_corruption import SOUND_CORRUPTIONS
from moodring.evaluation.speech import add_noise, list_noise
from moodring.types import F32

Change = Callable[[F32], F32]  # of the samples of a clip, float32 [N]
Measure = Callable[[str, Change], dict[str, Any]]  # returns the figures under a change, which has a name


def in_noise(folder: Path, snr_db: Sequence[float], measure: Measure) -> dict[str, Any]:
    """Return the figures with each noise recording of a folder at each signal-to-noise ratio. Raises DataError."""
    result: dict[str, Any] = {}
    for path in list_noise(folder):
        noise = read_sound(path)
        result[path.stem] = {
            f"{snr:g}": measure(
                f"{path.stem} at {snr:g} dB", partial(add_noise, noise=noise, snr_db=snr, rng=np.random.default_rng(SEED))
            )
            for snr in snr_db
        }
    return result


def under_corruptions(measure: Measure) -> dict[str, Any]:
    """Return the figures under each of SOUND_CORRUPTIONS at each strength."""
    result: dict[str, Any] = {}
    for name, kind in SOUND_CORRUPTIONS.items():
        by_strength = {
            f"{strength:g}": measure(f"{name} {strength:g}", _corrupt(kind, strength)) for strength in kind.strengths
        }
        result[name] = {"unit": kind.unit, "by_strength": by_strength}
    return result


def _corrupt(kind: Corruption[F32], strength: float) -> Change:
    rng = np.random.default_rng(SEED)
    return lambda samples: kind.apply(samples, strength, rng)
