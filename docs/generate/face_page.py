"""Write docs/face_front_end.md from the measured figures beside it.

python -m docs.generate.face_page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from docs.generate.front_end_page import table

INTRODUCTION = """# The face front end

From a frame to what the face branch reads. OpenCV's frontal Haar cascade over a whole frame costs more than everything else
together, so it is spread: the scan is cut into slices of like cost. A new scene (the first frame, or a cut) is scanned at once,
large faces first, in three frames or less, and once more by a second cascade that was trained apart. After that, while nobody
is seen, each frame pays for a quarter of a scan, and for none when nothing in the picture has moved; once a face is known, a
slice now and then looks for others, by one cascade and the other in turn. The first cascade (alt2) looks at every place for
less than the second one does, and loses turned faces less often, so it also follows a face, within a region scaled to a fixed
face size. What one of them proposes is shown to the other: only where both agree does a track begin. Where the first one loses
a face, a cascade for profiles keeps hold of one that turns aside, unread.

A face that both cascades are sure of speaks at once, others from their second or third hit on. It is held over short misses
with its age, but not before it was found twice as often as that; its box follows motion without lag (an alpha-beta filter), an
eye within a face is no face, and a track that the face branch does not believe in is closed. Each face has a quality: size,
sharpness, light, how far it is turned to the camera. Below `face.min_quality` it does not speak. Ids are short-lived numbers;
nothing is kept by which somebody could be known again.

Frames come as the decoder's luma plane, untouched; JPEGs of network cameras are decoded to grey, and pictures of 800 lines
and more shrink to 400 or more, of which the smallest face that is looked for still fills the face branch's input."""


COST = """## What a frame costs

Thread CPU time a frame from the first confirmed face on, over four clips brought to one size, slices of the scan included;
and of a frame that begins a new scene with a face in it, which costs more than any other: its share of the scan, and two
close looks at what that proposes."""

RECALL = """## What it misses

Against a careful scan of every frame (steps of 1.05, five neighbours, from 12 % of the height), wherever that finds a face
in three frames in a row. The careful scan is no truth. In two of the three frames missed in the film scene it takes the fist
round the microphone for a face, and not the singer's, which is followed there all along; the third is the first frame, in
which his face is small."""

RECALL_VARIED = """The film scene is less sure than its figure: %s.
A small face at its beginning, and a dark profile in the audience, are found by some scans and missed by others."""

REPRODUCE = (
    """`make faces` measures it again; `make faces-sheet` draws the clips with their boxes into build/faces, to be looked at."""
)


def render_page(figures: dict[str, Any]) -> str:
    return "\n\n".join([INTRODUCTION, *_cost(figures), *_recall(figures), *_no_face(figures), *_measured_on(figures)]) + "\n"


def _cost(figures: dict[str, Any]) -> list[str]:
    rows = [
        f"| {size} | {c['median']:.2f} ms | {c['p95']:.2f} ms | {c['p99']:.2f} ms | {c['new_scene']['median']:.1f} ms | "
        + " | ".join(f"{c['detectMultiScale_median'][p]:.0f} ms, {c['times_less_than'][p]:.0f}x" for p in c["times_less_than"])
        + " |"
        for size, c in figures["cpu_ms"].items()
    ]
    peers = " | ".join(f"detectMultiScale, {peer}" for peer in next(iter(figures["cpu_ms"].values()))["times_less_than"])
    return [
        COST,
        table(f"| frame | median | p95 | p99 | new scene | {peers} |", *rows),
    ]


def _recall(figures: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {r['frames_with_a_face']} | {100 * r['recall']:.1f} % "
        f"| {100 * r['recall_from_the_first_detection_on']:.1f} % | {r['first_detection_frames_late']} | {r['ids']} |"
        for name, r in figures["recall"].items()
    ]
    varied = (
        f"{100 * r['recall']:.1f} % are found {how}, the first face {r['first_detection_frames_late']} frame(s) late"
        for how, r in figures["recall_varied"].items()
    )
    return [
        RECALL,
        RECALL_VARIED % "; ".join(varied),
        table(
            "| clip | frames with a face | found | found from the first detection on | first found, frames late | ids |", *rows
        ),
    ]


def _no_face(figures: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {n['frames']} | {n['tracks']} | {n['longest_track_frames']} | {n['events_with_a_label']} |"
        for name, n in figures["nobody"].items()
    ]
    two_people = [
        f"- {name}: two or more faces in {t['frames_with_two_or_more']} of {t['frames']} frames, {t['ids']} ids at "
        f"{t['places']} places, {t['switches']} switches."
        for name, t in figures["two_people"].items()
    ]
    return [
        "## Where nobody is\n\nClips without a face to be seen (in the last of them people turn their backs).",
        table("| clip | frames | tracks | longest track, frames | events with a label |", *rows),
        "## Two people\n\nA photograph of two, panned and zoomed.",
        "\n".join(two_people),
    ]


def _measured_on(figures: dict[str, Any]) -> list[str]:
    machine = figures["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, one thread"
    where += (
        f", shared with other work (load {machine['load_average']:.0f})" if machine["load_average"] > machine["cores"] else ""
    )
    return [f"Measured on {machine['date']} at commit {machine['commit']}: {where}. {REPRODUCE}"]


def main() -> None:
    folder = Path(sys.argv[1])
    figures = json.loads((folder / "benchmarks" / "faces.json").read_text(encoding="utf-8"))
    (folder / "face_front_end.md").write_text(render_page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
