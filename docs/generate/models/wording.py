"""Plain titles for texts that the committed JSON files contain. Those files keep the wording of the time of measurement."""

from __future__ import annotations

TITLES = {
    # The part of each data set in bundle.json
    "Training without copies of test pictures": "Training, without copies of test images",
    "votes for the same pictures": "votes for the same images",
    "all but the last fold at hand, as noise": "all available folds except the last, as background noise",
    # Variants in ablations.json
    "as it is": "unchanged",
    "log mel energies for cepstra": "log mel energies instead of cepstra",
    "mean over time for attentive statistics": "mean over time instead of attentive statistics",
    # Kinds and units of by_disturbance in face_robustness.json and speech_folds.json
    "crop too wide or narrow": "crop rescaled",
    "less to hear": "shortened clip",
    "share of the area": "share of area",
    "share of the light": "share of light",
    "share of the side": "share of side length",
    "pixels of side": "side length in pixels",
    "dB less": "attenuation in dB",
    "s of reverberation": "reverberation time in s",
    "Hz at most": "cut-off in Hz",
    "s of the clip": "length in s",
    # Metrics of an epoch in the *_history.json files
    "official": "official labels",
    "ferplus": "FER+ labels",
    "covered": "official labels, occluded",
    "ferplus_covered": "FER+ labels, occluded",
    "accuracy_official": "official labels",
    "accuracy_ferplus": "FER+ labels",
    "loss_official": "loss, official labels",
    "loss_ferplus": "loss, FER+ labels",
    "loss_class": "loss, classes",
}


def title(text: str) -> str:
    """Return the plain title of a text or metric name; without an entry, the text itself with spaces for underscores."""
    return TITLES.get(text, text.replace("_", " "))
