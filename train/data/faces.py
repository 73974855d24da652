"""FER2013 and FER+ as training arrays, and images without a face.

A data folder, or its subfolder `fer2013`, holds `fer2013.csv` and optionally `fer2013new.csv`. Its subfolder `video` optionally
holds videos without a face.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation.data.readers import FER_SIDE, Fer2013, FerPlus, read_fer2013, read_ferplus
from moodring.evaluation.nonfaces import MIN_SIDE_PX, detect_unmerged, load_cascades
from moodring.features.face.crop import crop_face, resize_crop
from moodring.features.spec import FaceSpec
from moodring.labels import FACE_CLASSES, FERPLUS, FERPLUS_COLUMNS
from moodring.train.data.augment_images import shuffle_patches, textures
from moodring.train.data.splits import ImageSplit, image_hashes, split_images
from moodring.train.loop import write_atomically
from moodring.types import F32, U8

I64 = NDArray[np.int64]

NOT_A_FACE = FERPLUS_COLUMNS.index("NF")
FLAT_DEVIATION = 3.0  # grey levels: minimum standard deviation; below it an image is blank or was removed
SCENE_FRAMES = 40
SCENE_FACTOR = 1.05  # scale factor of the cascades: smaller than in the evaluation, for more detections
SCENES = ("intel_bottle-detection.mp4", "intel_car-detection.mp4")  # without a face in any frame; the other videos are held out


def find_fer2013(data_dir: Path) -> tuple[Path, Path | None]:
    """Return the paths of fer2013.csv and of fer2013new.csv beside it, None if the latter is missing.

    Only `data_dir` and its subfolder `fer2013` are searched. Raise DataError if neither holds fer2013.csv.
    """
    for folder in (data_dir, data_dir / "fer2013"):
        if (folder / "fer2013.csv").is_file():
            votes = folder / "fer2013new.csv"
            return folder / "fer2013.csv", votes if votes.is_file() else None
    raise DataError(
        f"{data_dir}: holds neither fer2013.csv nor fer2013/fer2013.csv; pass a folder that does, or unpack FER2013 with "
        f"`make data DATA={data_dir}` and pass build/data"
    )


@dataclass(frozen=True, slots=True)
class FaceData:
    """FER2013 as training arrays, in the row order of FER2013. Targets are distributions; a row of zeros means no target."""

    faces: U8  # [N, 48, 48]
    labels: I64  # [N], as in fer2013.csv
    official: F32  # [N, 7]: labels, averaged over exact copies; zero for a removed image
    ferplus: F32  # [N, 7]: vote shares over the seven classes; zero without votes or if another category won
    usable: F32  # [N]: 0 for images that the voters rejected or that are blank, else 1
    split: ImageSplit


def official_targets(labels: I64, hashes: NDArray[np.str_]) -> F32:
    """Return one-hot labels [N, 7], averaged over images with the same hash: some copies have different labels."""
    onehot = np.eye(FACE_CLASSES, dtype=np.float32)[labels]
    _, group = np.unique(hashes, return_inverse=True)
    sums = np.zeros((group.max() + 1, FACE_CLASSES), np.float32)
    np.add.at(sums, group, onehot)
    mean: F32 = (sums / sums.sum(axis=1, keepdims=True))[group]
    return mean


def ferplus_targets(votes: U8, has_image: NDArray[np.bool_]) -> F32:
    """Return the vote shares over the seven classes, [N, 7], of votes [N, 10].

    A row is zero if contempt, unknown or not-a-face won, if it has no vote, or if FER+ removed the image.
    """
    class_columns = np.array([index for index, label in enumerate(FERPLUS) if label is not None])
    targets = np.zeros((len(votes), FACE_CLASSES), np.float32)
    targets[:, [FERPLUS[index] for index in class_columns]] = votes[:, class_columns]
    others = np.delete(votes, class_columns, axis=1).max(axis=1)
    valid = has_image & (targets.max(axis=1) > 0) & (targets.max(axis=1) >= others)
    shares = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1.0)
    return np.where(valid[:, None], shares, 0.0).astype(np.float32)


def prepare_faces(fer: Fer2013, plus: FerPlus | None) -> FaceData:
    """Return the split, the targets and the usable flags. Rows of the test parts have no targets."""
    hashes = image_hashes(fer.faces)
    split = split_images(hashes, fer.usage)
    training = fer.usage == "Training"
    official = np.zeros((len(fer.labels), FACE_CLASSES), np.float32)
    official[training] = official_targets(fer.labels[training], hashes[training])
    usable = np.ones(len(fer.labels), np.float32)
    usable[fer.faces.std(axis=(1, 2)) < FLAT_DEVIATION] = 0.0
    ferplus = np.zeros((len(fer.labels), FACE_CLASSES), np.float32)
    if plus is not None:
        usable[plus.votes.argmax(axis=1) == NOT_A_FACE] = 0.0
        ferplus = ferplus_targets(plus.votes, plus.has_image)
        ferplus[~training] = 0.0
    official[usable == 0.0] = 0.0
    ferplus[usable == 0.0] = 0.0
    return FaceData(fer.faces, fer.labels, official, ferplus, usable, split)


def load_faces(data_dir: Path, cache_dir: Path) -> FaceData:
    """Read FER2013 and, if present, FER+. `cache_dir` caches the parsed images, keyed by the path and size of the CSV file.

    Raise DataError if `data_dir` does not hold FER2013 or a file is damaged.
    """
    csv_path, votes_path = find_fer2013(data_dir)
    stamp = hashlib.sha256(f"{csv_path.resolve()} {csv_path.stat().st_size}".encode()).hexdigest()[:12]
    cache = cache_dir / f"fer2013-{stamp}.npz"
    if cache.is_file():
        with np.load(cache) as archive:
            fer = Fer2013(archive["faces"], archive["labels"], archive["usage"])
    else:
        fer = read_fer2013(csv_path)
        cache_dir.mkdir(parents=True, exist_ok=True)

        def write(part: Path) -> None:
            with part.open("wb") as handle:
                np.savez(handle, faces=fer.faces, labels=fer.labels, usage=fer.usage)

        write_atomically(cache, write)
    plus = read_ferplus(votes_path, len(fer.labels)) if votes_path else None
    return prepare_faces(fer, plus)


def scene_frames(data_dir: Path, count: int, rng: np.random.Generator) -> Iterator[U8]:
    """Yield up to `count` random grey frames uint8 [H, W] of each video in `SCENES`; none if the videos are missing."""
    for path in [path for name in SCENES if (path := data_dir / "video" / name).is_file()]:
        capture = cv2.VideoCapture(str(path.absolute()))  # absolute: FFmpeg takes a name with a colon for an address
        frames = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        chosen = set(rng.choice(frames, min(count, frames), replace=False).tolist())
        for number in range(max(chosen) + 1):
            if not capture.grab():
                break
            if number in chosen:
                _, frame = capture.retrieve()
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        capture.release()


def scene_crops(data_dir: Path, count: int, rng: np.random.Generator) -> U8:
    """Return random squares and false detections of the face cascades from videos without a face, uint8 [N, 48, 48].

    There are up to `count` of each. The false detections are repeated up to `count`: the runtime meets such crops.
    """
    squares: list[U8] = []
    detections: list[U8] = []
    spec = FaceSpec()
    cascades = load_cascades()
    for grey in scene_frames(data_dir, SCENE_FRAMES, rng):
        for _ in range(-(-count // (SCENE_FRAMES * len(SCENES)))):
            side = int(rng.integers(MIN_SIDE_PX, min(grey.shape)))
            top, left = rng.integers(0, grey.shape[0] - side), rng.integers(0, grey.shape[1] - side)
            squares.append(resize_crop(grey[top : top + side, left : left + side], FER_SIDE))
        for cascade in cascades:
            detections += [crop_face(grey, box, spec) for box in detect_unmerged(cascade, grey, SCENE_FACTOR)]
    repeated = [detections[index % len(detections)] for index in range(count if detections else 0)]
    return np.array(squares[:count] + repeated, np.uint8).reshape(-1, FER_SIDE, FER_SIDE)


def load_nonfaces(data: FaceData, data_dir: Path, seed: int) -> tuple[U8, U8]:
    """Return images without a face for training (nine tenths) and validation (one tenth), uint8 [N, 48, 48] each.

    They are textures, faces with shuffled patches, crops of videos and the FER2013 images that are no face.
    """
    rng = np.random.default_rng([seed, 77])
    rows = rng.choice(data.split.train, min(2000, len(data.split.train)), replace=False)
    shuffled = shuffle_patches(data.faces[rows], rng)
    rejected = data.faces[data.split.train[data.usable[data.split.train] == 0.0]]
    pool = np.concatenate(
        [textures(2000, FER_SIDE, rng), shuffled, scene_crops(data_dir, 2000, rng), np.repeat(rejected, 3, axis=0)]
    )
    pool = pool[rng.permutation(len(pool))]
    tenth = len(pool) // 10
    return pool[tenth:], pool[:tenth]
