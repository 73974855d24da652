"""Write docs/face_front_end.md from the committed figures.

python -m docs.generate.face_page docs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.generate.tables import read_figures, table

INTRODUCTION = """# The face front end

The face front end detects and tracks faces and cuts the crops that the face branch classifies.

## Method

**Search.** A scan of a whole frame with OpenCV's frontal Haar cascade costs more than all other stages together. The scan is
therefore divided into slices of similar cost, which are spread over frames:

- A new scene (the first frame, or a cut) is scanned within three frames, large faces first, and then once more with a second
  cascade that was trained separately.
- While no face is detected, motion starts a further scan, of which each frame runs a quarter.
- A periodic rescan runs a few slices in some frames, with the two cascades in turn. It finds further faces while one is
  tracked.

**Tracking.** The first cascade (alt2) costs less at each position than the second one, and misses turned faces less often. It
therefore also tracks the known faces, each within a region that is scaled to a fixed face size. If it misses a face that turns
aside, a profile cascade continues the track; a face in profile is not classified.

**Confirmation.** A track starts only if both frontal cascades detect the face. A face with many overlapping windows in both is
confirmed at once, any other face at its second or third detection. A missed face is held for a short time, with its age in the
event, once it has been detected twice as often as the confirmation requires. The box follows the motion without lag (alpha-beta
filter). A small box inside a face, such as an eye, is discarded. A track to which the face branch gives low confidence is
closed.

**Tilt.** The cascades are trained on upright faces. A portrait that is rotated in the image (three sizes, both directions, 30
frames each) is found in 100 % of the frames up to 12 degrees, in 94 % at 15 degrees, in 49 % at 20 degrees (to one side only),
and in none from 25 degrees on. The detector can then take a part of the head, such as the mouth, for a face. Heads that are
tilted by 30 degrees or more are not found.

**Quality.** The quality of a face combines its size, sharpness, brightness and how far it turns from the camera. Faces below
`face.min_quality` are not classified. Track ids exist as long as their track, and no feature that could identify a person later
is stored.

**Input.** The tracker processes the luma plane of the decoder without conversion. JPEGs of network cameras are decoded to grey.
Pixels that are not square are made square. Frames with 800 lines or more are reduced to 400 or more. At that height the
smallest face that is searched for still fills the input of the face branch."""


COST = """## Cost

The table gives the thread CPU time per frame from the first confirmed face on, over four clips scaled to one size, with the
slices of the scan. *new scene* is a frame that starts a new scene with a face in it, the most expensive kind: it runs its share
of the scan and verifies two proposals. The last columns give OpenCV's detector on the whole frame, and its time relative to the
median."""

RECALL = """## Recall

The reference is a full scan of every frame (scale factor 1.05, five neighbours, faces from 12 % of the height). A face counts
if the reference finds it in three consecutive frames. The reference has errors. In two of the three missed frames of the film
scene (short_hamilton_clip.mp4) it takes the fist round the microphone for a face and misses the face of the singer, which
moodring tracks all the time. The third missed frame is the first one, in which his face is small."""

RECALL_VARIED = """The recall of the film scene varies more than its figure shows: %s.
Some scans find a small face at its beginning and a dark profile in the audience, and others miss them."""

REPRODUCE = (
    "`python -m benchmarks faces --data DIR` repeats the measurement. `python -m docs.generate.draw_faces` draws the clips "
    "with their boxes for inspection."
)


def render_page(figures: dict[str, Any]) -> str:
    """Return the page."""
    parts = [INTRODUCTION, *_cost(figures), *_recall(figures), *_without_face(figures), *_measured_on(figures)]
    return "\n\n".join(parts) + "\n"


def _cost(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            size,
            *(f"{cost[q]:.2f} ms" for q in ("median", "p95", "p99")),
            f"{cost['new_scene']['median']:.1f} ms",
            *(f"{ms:.0f} ms, {cost['times_less_than'][peer]:.0f}x" for peer, ms in cost["detectMultiScale_median"].items()),
        ]
        for size, cost in figures["cpu_ms"].items()
    ]
    peers = next(iter(figures["cpu_ms"].values()))["detectMultiScale_median"]
    header = ["frame", "median", "p95", "p99", "new scene", *(f"detectMultiScale, {peer}" for peer in peers)]
    return [COST, table(header, rows)]


def _recall(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            f"{found['frames_with_a_face']}",
            f"{100 * found['recall']:.1f} %",
            f"{100 * found['recall_from_the_first_detection_on']:.1f} %",
            f"{found['first_detection_frames_late']}",
            f"{found['ids']}",
        ]
        for name, found in figures["recall"].items()
    ]
    varied = (
        f"{100 * found['recall']:.1f} % {how}, with the first face {found['first_detection_frames_late']} frame(s) late"
        for how, found in figures["recall_varied"].items()
    )
    header = [
        "clip",
        "frames with a face",
        "recall",
        "from the first detection on",
        "first detection, frames late",
        "track ids",
    ]
    return [RECALL, RECALL_VARIED % "; ".join(varied), table(header, rows)]


def _without_face(figures: dict[str, Any]) -> list[str]:
    rows = [
        [name, *(f"{found[key]}" for key in ("frames", "tracks", "longest_track_frames", "events_with_a_label"))]
        for name, found in figures["nobody"].items()
    ]
    two_people = [
        f"- {name}: two or more faces in {found['frames_with_two_or_more']} of {found['frames']} frames, {found['ids']} track "
        f"ids at {found['places']} positions, {found['switches']} switches."
        for name, found in figures["two_people"].items()
    ]
    return [
        "## False positives\n\nThese clips show no face. In intel_one-by-one-person-detection.mp4 people turn their backs to "
        "the camera.",
        table(["clip", "frames", "tracks", "longest track, frames", "events with a label"], rows),
        "## Two people\n\nEach photograph shows two people and is panned and zoomed. A switch is an id that moves to another "
        "person.",
        "\n".join(two_people),
    ]


def _measured_on(figures: dict[str, Any]) -> list[str]:
    machine = figures["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, one thread"
    where += (
        f", shared with other work (load {machine['load_average']:.0f})" if machine["load_average"] > machine["cores"] else ""
    )
    return [f"Measured on {machine['date']} at commit {machine['commit']}: {where}. {REPRODUCE}"]


def main(argv: Sequence[str]) -> int:
    """Write the page into a folder of documentation; return 0."""
    folder = Path(argv[0])
    page = render_page(read_figures(folder / "benchmarks" / "faces.json"))
    (folder / "face_front_end.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
