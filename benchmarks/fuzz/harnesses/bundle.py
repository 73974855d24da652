"""Model bundles: any bytes as bundle.json, with hashes that fit them or not, and truncated networks.

Rules: loading raises only BundleError, opening a network BundleError or BackendError; what was opened runs; no file outside the
folder of the bundle is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.documents import mutate_document
from benchmarks.fuzz.harness import Harness, require
from moodring.config import Config
from moodring.errors import BackendError, BundleError
from moodring.fusion import METHODS, open_fuser
from moodring.inference.bundle import BUNDLE_FILE, Bundle, add_hashes, load
from moodring.labels import LABELS
from moodring.networks import open_networks
from moodring.types import FaceCrop, FeatureWindow
from tests.support.tiny_bundle import INPUTS, build_network, bundle_document, write_tiny_bundle

FIX_HASHES, TRUNCATE = 1, 2  # bits of the first byte
OUTSIDE, CUT = "outside.onnx", "cut.onnx"
PATHS = (
    f"../{OUTSIDE}", "/etc/passwd", "/dev/zero", "..", ".", "", "face.fp32.onnx", "./face.fp32.onnx", "sub/../face.fp32.onnx",
    "/proc/self/mem", f"x/../../{OUTSIDE}", "a\0b", "C:\\x", "~/x", "bundle.json",
)  # fmt: skip
VALUES = (
    *PATHS,
    "ferplus",
    "official",
    "logits",
    "fp32",
    "int8",
    "embedding",
    "usable",
    "path",
    "face",
    [1, 8],
    [1, 1],
    [1, -1],
    list(LABELS),
    1e-320,
)


class _Opened:
    """Records the paths that Python opens while it is watching."""

    def __init__(self) -> None:
        self.watching = False
        self.paths: list[str] = []
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching and event == "open" and isinstance(arguments[0], str | bytes):
            self.paths.append(os.path.realpath(os.fsdecode(arguments[0])))


def _run(bundle: Bundle) -> None:
    """Open every network in every way and run it once."""
    networks = open_networks(Config(), bundle)
    size = bundle.spec.face.size
    face = speech = None
    if networks.face is not None:
        face = networks.face.run(FaceCrop(np.zeros((size, size), np.uint8), 0, 0.5))
    if networks.speech is not None:
        window = np.zeros((bundle.spec.speech.window_frames, bundle.spec.speech.columns), np.float32)
        speech = networks.speech.run(FeatureWindow(window, 0, 1.0))
    for method in METHODS if face or speech else ():
        try:
            fuser = open_fuser(bundle, method, "fp32", "onnx")
        except (BundleError, BackendError):
            continue
        _check_output(bundle, fuser.fuse(face, speech))


def _check_output(bundle: Bundle, probabilities: Any) -> None:
    is_right = probabilities.shape == (len(bundle.labels),) and abs(float(probabilities.sum()) - 1) < 0.01
    require(is_right, f"the probabilities are {probabilities}")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change one place of the document, or how the bundle is written."""
    mode = data[:3].ljust(3, b"\0")
    if rng.random() < 0.1:
        return bytes(rng.choices(range(4), k=1)) + rng.randbytes(2) + data[3:]
    try:
        document = json.loads(data[3:])
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.choice((1, 1, 2))):
        mutate_document(document, rng, VALUES)
    return mode + json.dumps(document, separators=(",", ":")).encode()


def _with_cut_network(document: Any, bundle: Path, networks: dict[str, bytes], mode: bytes) -> None:
    """Let the document name a truncated network, with the hash of what is left."""
    kind = [*networks][mode[1] % len(networks)]
    data = networks[kind]
    data = data[: len(data) * mode[2] // 256]
    (bundle / CUT).write_bytes(data)
    try:
        document["models"][kind]["files"]["fp32"] = {"path": CUT, "sha256": hashlib.sha256(data).hexdigest()}
    except (KeyError, TypeError):
        return


def make(folder: Path) -> Harness:
    """Return the harness."""
    networks = {kind: build_network(kind) for kind in INPUTS}
    bundle, opened = write_tiny_bundle(folder / "bundle"), _Opened()
    (folder / OUTSIDE).write_bytes(networks["face"])
    _run(load(bundle))  # imports what it needs

    def check(data: bytes) -> None:
        """Write and load a bundle. The first byte is the mode, the next two choose the network to cut and the cut."""
        mode, text = data[:3].ljust(3, b"\0"), data[3:]
        try:
            document = json.loads(text)
            if mode[0] & TRUNCATE:
                _with_cut_network(document, bundle, networks, mode)
            if mode[0] & FIX_HASHES and isinstance(document, dict):
                text = json.dumps(add_hashes(document)).encode()
        except (ValueError, RecursionError):
            pass
        (bundle / BUNDLE_FILE).write_bytes(text)
        opened.paths.clear()
        opened.watching = True
        try:
            loaded = load(bundle, required=())
        except BundleError:
            return
        finally:
            opened.watching = False
            outside = [path for path in opened.paths if not Path(path).is_relative_to(os.path.realpath(bundle))]
            require(not outside, f"{outside} was opened")
        try:
            _run(loaded)
        except (BundleError, BackendError):
            return

    document = bundle_document(networks)
    with_labels = document | {"labels": ["a", "b"], "models": {k: v for k, v in document["models"].items() if k == "speech"}}
    seeds = [
        mode + json.dumps(each).encode()
        for mode in (b"\1\0\0", b"\3\0\x80", b"\3\1\xff", b"\0\0\0")
        for each in (document, with_labels)
    ]
    words = [json.dumps(value).encode() for value in VALUES]
    return Harness(check, seeds, words, mutate, max_bytes=8192)
