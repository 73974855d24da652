"""Write docs/benchmarks.md and its plots from the committed figures.

python -m docs.generate.bench_page docs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.generate.bench_plots import FEED_MODE_NAMES, UNITS, draw_latency, draw_scaling, draw_stages
from docs.generate.tables import read_figures, table
from moodring.diagnostics.bench.measured import STAGES

INTRODUCTION = """# Cost and latency

`moodring bench` measures this machine, without a network, in about a minute. `make bench` measures everything on this page,
including the other tools. Compare ratios, not microseconds: absolute times depend on the machine and its load. CPU time is
thread CPU time."""

STAGE_COST = """## CPU time of each stage

The table shows each stage beside its kernel baseline, which is measured on the same data immediately after the stage: the
decoding of one JPEG, one pass of the cascade over the region around the known face (cut out and scaled in advance), one call of
a session, one FFT with the mel product. The difference is the overhead of moodring. *hot* is measured at full speed, in several
processes one after the other. *paced* is measured in real time, with cold caches. *search* is the full scan for new faces, one
slice at a time. Few frames need it, so the means include it and the medians hardly do. It has no baseline."""

PEERS = """## Comparison with other tools

All of them are measured in one run. moodring and the naive chain read the same camera: MJPEG over HTTP, 640x480 at 30 frames a
second, from a separate process on this machine. Like a real camera, it drops frames while its connection is full and then sends
the newest one. A mark in each frame encodes its capture time. The latency of a frame is the time from its capture to the output
of the face network. For the naive chain, which runs both networks in one loop, it includes the speech network.

The naive chain reads each frame from `cv2.VideoCapture` in a loop, converts it from colour to grey, searches the whole frame
with OpenCV's detector and its default arguments, computes python_speech_features over three seconds, and runs both networks in
sessions with default options. This takes longer than the frame interval. Frames therefore queue up in the send buffer of the
camera, the receive buffer of the kernel and in FFmpeg, and the latency grows until these buffers are full. Most of the ratio
*naive answer in order* comes from this queue, and the ratio grows with the duration of the run. The ratios *newest* and
*memory* exclude the queue: in the first, a thread keeps only the newest frame; in the second, there is no camera.

moodring classifies 15 of the 30 frames a second and drops the others without decoding them (`face.rate_hz`). *naive cpu per
frame* is the CPU time of the naive chain for each frame that it processes, relative to that of moodring for each frame of the
camera. *naive cpu per answer* is relative to that of moodring for each frame that it classifies."""

SCALING = """## Scaling

Each point in [scaling.json](benchmarks/scaling.json) is a run in real time with the daemon's threads, on frames of 640x480
unless stated otherwise. CPU time is that of the measuring process, in percent of one core. *http streams* are MJPEG cameras
with sound, both over HTTP, from a process on the same two cores; their latency is measured from the capture of the frame. In
all other rows the cameras play JPEGs from memory. The window length is measured up to the input of the network, whose length
is fixed."""

PAIRS = """## Repeatability

`python -m benchmarks pairs` runs `moodring bench` ten times and compares the runs in pairs
([pairs.json](benchmarks/pairs.json)). Two runs that are not marked as noisy should agree within 10 % on every ratio."""

FUZZING = """## Fuzzing

`make fuzz` runs coverage-guided fuzzing on each reader of bytes from outside: any bytes as an HTTP camera, a configuration with
overrides, an event file, a model bundle, requests of a browser, and a media file. No input may raise an exception that is not
documented, crash the process, take more than 10 s or more than 2 GB. The harnesses check more rules: for example, that the
frames of a camera do not depend on the blocks in which they arrive, that an error of the configuration names its file and
line, and that no file outside the folder of a bundle is opened. *edges* are those of moodring's bytecode that the inputs
cover; the code of FFmpeg is not instrumented. The figures were measured after the findings of shorter runs were mended; tests
of each reader hold these ([fuzz.json](benchmarks/fuzz.json))."""

MEDIA = """## Media files

`python -m benchmarks media_corpus` generates small media files: containers and codecs, sample and pixel formats, channel
layouts, frame rates, display matrices, time stamps, joined recordings, tracks, wrong names and lengths, and damage from a fixed
seed. Each is processed by `moodring run` in a process of its own. A file passes if there is no crash, no traceback and no line
of a library, if the process takes at most 10 s, if the exit code and the message are the documented ones, and if at least 90 %
of the frames and of the sound that FFmpeg decodes are used (70 % with damage). Events must cover
the time that the tracks last."""

NOISE_EFFECT = "The kernel counts CPU time, which is accurate to a few percent. Latencies include the work of other programs."


def main(argv: Sequence[str]) -> int:
    """Write the page and its plots into a folder of documentation; return 0."""
    folder = Path(argv[0])
    figures = folder / "benchmarks"
    bench = read_figures(figures / "bench.json")
    parts = [
        INTRODUCTION,
        _summary(bench),
        STAGE_COST,
        _stages(bench),
        "![CPU time by stage](benchmarks/stages.png)",
        _end_to_end(bench),
        "![Latency from capture to result](benchmarks/latency.png)",
    ]
    draw_stages(bench, figures / "stages.png")
    draw_latency(bench, figures / "latency.png")
    if "peers" in bench:
        parts += [PEERS, _peers(bench["peers"])]
    if (figures / "scaling.json").exists():
        scaling = read_figures(figures / "scaling.json")
        parts += [SCALING, _scaling(scaling), "![CPU time over each varied quantity](benchmarks/scaling.png)"]
        draw_scaling(scaling, figures / "scaling.png")
    if (figures / "pairs.json").exists():
        parts += [PAIRS, _pairs(read_figures(figures / "pairs.json"))]
    if (figures / "fuzz.json").exists():
        parts += [FUZZING, _fuzz(read_figures(figures / "fuzz.json"))]
    if (figures / "media_corpus.json").exists():
        parts += [MEDIA, _media(read_figures(figures / "media_corpus.json"))]
    (folder / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


def _summary(bench: dict[str, Any]) -> str:
    machine = bench["machine"]
    text = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, on {machine['date']} at commit {machine['commit']}: "
        "[bench.json](benchmarks/bench.json)."
    )
    if bench["noisy"]:
        why = "; ".join(bench["troubles"]) or "its processes differ by more than 10 %"
        text += f"\n\n**This run is marked as noisy** ({why}). {NOISE_EFFECT}"
    return text


def _stages(bench: dict[str, Any]) -> str:
    rows = []
    for name in STAGES:
        hot, paced = (bench[part]["stages"][name]["cpu_us"] for part in ("hot", "paced"))
        baseline = bench["hot"]["floor_us"].get(name)
        ratio = bench["hot"]["ratios"].get(name)
        mean = bench["hot"]["stages"][name]["cpu_us_mean"]
        cells = [baseline, hot.get("p50"), mean, paced.get("p50"), paced.get("p95"), paced.get("p99")]
        rows.append([name, *("" if cell is None else f"{cell:.0f}" for cell in cells), "" if ratio is None else f"{ratio:.2f}"])
    hot = bench["hot"]
    header = ["CPU us", "baseline", "hot p50", "hot mean", "paced p50", "paced p95", "paced p99", "relative to baseline"]
    return (
        f"{table(header, rows)}\n\nA frame with a tracked face (decode, detect, crop, face) takes "
        f"**{hot['frame_us'] / 1000:.2f} ms of CPU time, {hot['ratios']['frame']:.2f} times** its baseline of "
        f"{hot['frame_floor_us'] / 1000:.2f} ms (medians). With the search for new faces the mean is "
        f"{hot['frame_mean_us'] / 1000:.2f} ms, {hot['ratios']['frame_mean']:.2f} times the baseline. The whole stream with "
        f"sound takes {hot['ratios']['stream']:.2f} times its baseline. In the last three processes no ratio differed by more "
        f"than {100 * max(hot['spread'].values()):.0f} %."
    )


def _end_to_end(bench: dict[str, Any]) -> str:
    paced, result, event = bench["paced"], bench["paced"]["answer_ms"], bench["paced"]["event_ms"]
    rows = [
        ["from the capture of a frame to its face output", *(f"{result[q]:.1f}" for q in ("p50", "p95", "p99", "max"))],
        ["from the newest capture to the event", *(f"{event[q]:.0f}" for q in ("p50", "p95", "p99", "max"))],
    ]
    latencies = table(["latency in real time, ms", "p50", "p95", "p99", "max"], rows)
    return (
        f"{latencies}\n\nCPU time: {paced['core_percent']:.1f} % of a core, {paced['cpu_ms_per_frame']:.2f} ms for each "
        f"captured frame. Resident memory: {paced.get('rss_mb', 0):.0f} MB, peak {paced.get('peak_mb', 0):.0f} MB. First "
        f"event: {bench['startup_s']['p50']:.2f} s after the start. Events are published five times a second, so most of an "
        "event's latency is the wait for the next tick."
    )


def _peers(peers: dict[str, Any]) -> str:
    text = ""
    if "live" in peers:
        ours, by_feed_mode = peers["live"]["ours"], peers["live"]["naive"]
        rows = [_peer_row("moodring", ours, ours["cpu_ms_per_answer"], ours["cpu_ms_per_frame"])]
        for feed_mode, name in FEED_MODE_NAMES.items():
            found = by_feed_mode[feed_mode]
            rows.append(_peer_row(name, found, found["cpu_ms_per_frame"], found.get("cpu_ms_per_camera_frame")))
        header = ["live", "latency p50 ms", "p99 ms", "CPU ms per result", "CPU ms per camera frame"]
        text = f"{table(header, rows)}\n\n"
        if troubles := ours["troubles"]:
            text += f"**This part is noisy: {'; '.join(troubles)}.**\n\n"
    if "fer" in peers:
        found = peers["fer"]
        text += (
            f"The `fer` package {found['version']}, in a separate Python, takes {found['wall_ms']:.0f} ms and "
            f"{found['cpu_ms']:.0f} ms of CPU time per image (faces only, no sound), {found['start_s']:.0f} s to start and "
            f"{found['peak_mb']:.0f} MB of memory.\n\n"
        )
    rows = [[name.replace("_", " "), f"{value:.1f}"] for name, value in peers["ratios"].items()]
    missing = f"\n\nNot measured: {', '.join(peers['missing'])}." if peers["missing"] else ""
    return f"{text}{table(['peer', 'relative to moodring'], rows)}{missing}"


def _peer_row(name: str, found: dict[str, Any], per_result: float, per_frame: float | None) -> list[str]:
    latency = found["answer_ms"]
    return [
        name,
        f"{latency['p50']:.1f}",
        f"{latency['p99']:.1f}",
        f"{per_result:.1f}",
        "" if per_frame is None else f"{per_frame:.1f}",
    ]


def _scaling(scaling: dict[str, Any]) -> str:
    rows, exponents = [], []
    axes = [axis for axis in UNITS if axis in scaling]
    for axis in axes:
        for point, found in scaling[axis]["by"].items():
            latency = found["answer_ms"]
            ends = (f"{latency[q]:.1f}" if latency else "" for q in ("p50", "p99"))
            rows.append([f"{point} {UNITS[axis]}".strip(), f"{found['core_percent']:.1f}", *ends])
        power = scaling[axis].get("exponent", scaling[axis].get("exponent_of_pixels"))
        if power is not None:
            exponents.append(f"{axis.replace('_', ' ')} {power:.2f}")
    stream_limits = [
        f"{scaling[axis]['most_with_answers_p99_within_100_ms']} ({'over HTTP' if axis == 'http_streams' else 'from memory'})"
        for axis in ("streams", "http_streams")
        if axis in scaling
    ]
    busy = any(found["troubles"] for axis in axes for found in scaling[axis]["by"].values())
    runs = table(["varied", "CPU %", "latency p50 ms", "latency p99 ms"], rows)
    return (
        f"{runs}\n\nCPU time grows as a power of the varied quantity, with the exponents: {', '.join(exponents)}. Largest "
        f"measured number of streams with a p99 latency within 100 ms: {', '.join(stream_limits)}."
        + (" **Other programs used the CPU in some of these runs.**" if busy else "")
    )


def _pairs(pairs: dict[str, Any]) -> str:
    rows = [
        [
            str(n),
            "yes" if pair["agree"] else "no",
            f"{100 * pair['worst']:.1f} % ({pair['in']})",
            ", ".join(pair["noisy"]) or "neither",
        ]
        for n, pair in enumerate(pairs["pairs"], 1)
    ]
    compared = table(["pair", "within 10 %", "largest difference", "marked as noisy"], rows)
    machine = pairs["machine"]
    return (
        f"{compared}\n\n{pairs['agree']} of {len(pairs['pairs'])} pairs agree. Pairs that do not agree and contain a run that "
        f"is marked as noisy: {pairs['flagged']}. Measured on {machine['date']} at commit {machine['commit']}."
    )


def _fuzz(fuzz: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{found['seconds'] / 60:.0f}",
            f"{found['executions']:,}".replace(",", " "),
            str(found["edges"]),
            str(len(found["findings"])),
        ]
        for name, found in fuzz["harnesses"].items()
    ]
    machine = fuzz["machine"]
    return (
        f"{table(['reader', 'minutes', 'inputs', 'edges', 'findings'], rows)}\n\n"
        f"Measured with `{fuzz['command']}` on {machine['date']} at commit {machine['commit']}."
    )


def _media(corpus: dict[str, Any]) -> str:
    rows = [[group, str(found["files"]), str(found["passed"])] for group, found in corpus["groups"].items()]
    machine, codes = corpus["machine"], corpus["exit_codes"]
    return (
        f"{table(['group', 'files', 'passed'], rows)}\n\n{corpus['passed']} of {corpus['files']} files pass; "
        f"{codes.get('0', 0)} end with exit code 0, {codes.get('1', 0)} with 1, because nothing of them can be decoded. The "
        f"longest process takes {corpus['longest_s']:.1f} s on a machine with other work. Measured with seed {corpus['seed']} "
        f"on {machine['processor']}, {machine['cores']} cores, on {machine['date']} at commit {machine['commit']}: "
        "[media_corpus.json](benchmarks/media_corpus.json)."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
