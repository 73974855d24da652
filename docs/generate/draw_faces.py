"""Draw the output of the face front end for inspection. The images show real people and must not be committed.

    python -m docs.generate.draw_faces --data DIR --cache DIR --out FOLDER

Writes into FOLDER: contact.png (frames of clips with boxes, track ids and quality), crops.png (the face branch's crops of
photographs and clips, above images of FER2013) and annotated.mp4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.faces.clips import manifest_files
from moodring.capture.media import VideoFile
from moodring.evaluation.data.readers import read_grey
from moodring.features.face.crop import crop_face
from moodring.features.face.haar import FaceDetector
from moodring.features.face.tracker import HaarTracker
from moodring.features.spec import FaceSpec
from moodring.train.data.faces import load_faces
from moodring.types import U8, Face, VideoFrame

TILE_WH = (320, 180)  # pixels
COLUMNS = 6
TILES_PER_CLIP = 3
CROP_SIDE_PX = 96  # side of a drawn crop
MILLISECONDS = Fraction(1, 1000)
ANNOTATED = "short_hamilton_clip.mp4"
COLOURS = [(80, 220, 80), (60, 160, 255), (255, 140, 60), (200, 80, 220), (60, 220, 220)]


def main(argv: Sequence[str]) -> int:
    """Draw all files into the named folder; return 0."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.draw_faces", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of the unpacked FER2013 (make data)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write into")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    clips = [arguments.data / part / name for part in ("av_clips", "video") for name in manifest_files(arguments.data / part)]
    crops: list[U8] = []
    tiles = [tile for clip in clips for tile in contact_tiles(clip, crops)]
    cv2.imwrite(str(arguments.out / "contact.png"), tile_grid(tiles, COLUMNS))
    crops += photo_crops(arguments.data / "face_images")
    faces = load_faces(arguments.data, arguments.cache)
    sample = faces.faces[:: len(faces.faces) // len(crops)][: len(crops)]
    rows = [tile_grid([cv2.resize(np.asarray(c), (CROP_SIDE_PX, CROP_SIDE_PX)) for c in half], 12) for half in (crops, sample)]
    cv2.imwrite(str(arguments.out / "crops.png"), np.vstack([rows[0], np.full((12, rows[0].shape[1]), 255, np.uint8), rows[1]]))
    annotate(arguments.data / "av_clips" / ANNOTATED, arguments.out / "annotated.mp4")
    print(f"wrote contact.png, crops.png and annotated.mp4 to {arguments.out}")
    return 0


def track_frames(clip: Path) -> Iterator[tuple[VideoFrame, tuple[Face, ...]]]:
    """Return each frame of a clip with its tracked faces."""
    tracker = HaarTracker()
    with VideoFile(str(clip)) as video:
        for frame in video:
            yield frame, tracker.update(frame)


def draw_boxes(frame: VideoFrame, faces: tuple[Face, ...]) -> U8:
    """Return a frame as uint8 [H, W, 3] with box, track id and quality of each face; a held face has a thin box."""
    canvas = np.asarray(cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR), np.uint8)
    for face in faces:
        x, y, w, h = face.box_xywh
        colour = COLOURS[face.id % len(COLOURS)]
        cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, 1 if face.held else 3)
        cv2.putText(canvas, f"{face.id}  {face.quality:.2f}", (x, y - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2)
    return canvas


def contact_tiles(clip: Path, crops: list[U8]) -> list[U8]:
    """Return some frames of a clip with boxes, uint8 [180, 320, 3]; append the crop of the primary face of each to `crops`."""
    tracked = list(track_frames(clip))
    tiles = []
    for index in np.linspace(5, len(tracked) - 1, TILES_PER_CLIP).astype(int):
        frame, faces = tracked[index]
        tile = np.asarray(cv2.resize(draw_boxes(frame, faces), TILE_WH, interpolation=cv2.INTER_AREA), np.uint8)
        cv2.putText(tile, f"{clip.stem[:24]} {index}", (4, 174), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
        tiles.append(tile)
        crops += [crop_face(frame.grey, face.box_xywh, FaceSpec()) for face in faces[:1] if not face.held]
    return tiles


def photo_crops(folder: Path) -> list[U8]:
    """Return the face crops of the photographs in a folder, cut as in evaluation and runtime."""
    detector = FaceDetector()
    images = [read_grey(folder / name) for name in manifest_files(folder)]
    return [crop_face(grey, box.xywh, FaceSpec()) for grey in images for box in detector.detect_in_image(grey)]


def tile_grid(tiles: list[U8], columns: int) -> U8:
    """Return tiles of one size arranged in rows; missing tiles of the last row are black."""
    blank = [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    padded = [*tiles, *blank]
    return np.vstack([np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)])


def annotate(clip: Path, out: Path) -> None:
    """Write a clip with the boxes of its faces."""
    with av.open(str(out), "w") as container:
        stream = None
        for frame, faces in track_frames(clip):
            canvas = draw_boxes(frame, faces)
            if stream is None:
                stream = container.add_stream("h264", rate=30)
                stream.height, stream.width = canvas.shape[0] // 2 * 2, canvas.shape[1] // 2 * 2
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = MILLISECONDS
            image = av.VideoFrame.from_ndarray(canvas[: stream.height, : stream.width], format="bgr24")
            image.pts, image.time_base = frame.capture_time_ns // 1_000_000, MILLISECONDS
            container.mux(stream.encode(image))
        if stream is not None:
            container.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
