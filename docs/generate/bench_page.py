"""Write docs/benchmarks.md and its pictures from the measured figures beside it.

python -m docs.generate.bench_page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from moodring.diagnostics.bench.measured import STAGES

INTRODUCTION = """# What it costs, and how fast it answers

`moodring bench` measures this on your machine in about a minute, without a network; `make bench` measures all of this page
again, with the peers. Compare ratios, not microseconds: they move with the machine and with what else it does. CPU is thread
time."""

STAGE_COST = """## A frame with a followed face

Beside each stage stands its bare kernel on the same data, measured right after it: one JPEG decoded, one pass of the cascade
over the region round the known face (cut out and scaled beforehand), one call of the session, one FFT with the mel product.
Everything above the kernels' sum is what we add. *hot* is as fast as it goes, in several processes one after the other;
*paced* at the pace of life, where caches are cold between calls. *search* are slices of a full search for new faces,
which few frames pay for: it has no kernel here, so medians hardly hold it, and the means do."""

PEERS = """## Against what people use otherwise

In the same run. Ours and the naive chain watch the same camera: MJPEG over HTTP, 640x480 at 30 frames a second, from a process
of its own on this machine, which as a real camera sends the newest picture when its connection was full. A mark in each picture
says when the camera took it; an answer's age is from then until the face network has said something of it (in the naive chain's
one loop, the speech network as well).

The naive chain takes each frame from `cv2.VideoCapture` in a loop, converts it from colour, searches the whole picture with
OpenCV's detector as it comes, computes python_speech_features over three seconds and runs both networks in sessions with
default options. It takes longer than a frame lasts. So frames wait, in the camera's send buffer, the kernel's receive buffer
and FFmpeg, and each answer is about an older picture than the one before, until those buffers are full: most of
the factor *naive answer in order* is that, and grows with the length of the run. The other two say what remains of it when a
thread keeps only the newest frame, and when there is no camera and no queue at all. Ours reads 15 of 30 frames a second and
drops the others undecoded (`face.rate_hz`): *naive cpu per frame* is the naive chain's CPU for each frame that it takes over
ours for each frame of the camera, *naive cpu per answer* over ours for each frame that is read."""

FEED_MODE_NAMES = {
    "in_order": "naive, every frame in order",
    "newest": "naive, a thread keeps the newest",
    "memory": "naive, JPEGs from memory, no queue",
}

SCALING = """## How the cost grows

[scaling.json](benchmarks/scaling.json); each point is a run at the pace of life, on pictures of 640x480 unless said, through
the daemon's own threads. CPU in percent of one core, of the process that watches. *http streams* are MJPEG cameras with sound,
both over HTTP, from a process on the same two cores, their answers timed from when the camera took the picture; in all other
rows cameras play JPEGs from memory. The window is measured up to the network's input, which has one length."""

PAIRS = """## Do two runs agree?

`python -m benchmarks.pairs` runs `moodring bench` ten times and compares the runs two by two
([pairs.json](benchmarks/pairs.json)). A run that calls itself noisy proves nothing; two that do not should agree within 10 % on
every ratio."""

NOISE_EFFECT = "CPU is counted by the kernel and holds within some percent; latencies hold the other programs' work as well."


def main(folder: Path) -> None:
    shown = folder / "benchmarks"
    bench = _read(shown / "bench.json")
    parts = [
        INTRODUCTION,
        _summary(bench),
        STAGE_COST,
        _stages(bench),
        "![CPU by stage](benchmarks/stages.png)",
        _end_to_end(bench),
    ]
    _draw_stages(bench, shown / "stages.png")
    _draw_latency(bench, shown / "latency.png")
    parts.append("![How soon a frame is answered](benchmarks/latency.png)")
    if "peers" in bench:
        parts += [PEERS, _peers(bench["peers"])]
    if (shown / "scaling.json").exists():
        scaling = _read(shown / "scaling.json")
        parts += [SCALING, _scaling(scaling), "![CPU over what was varied](benchmarks/scaling.png)"]
        _draw_scaling(scaling, shown / "scaling.png")
    if (shown / "pairs.json").exists():
        parts += [PAIRS, _pairs(_read(shown / "pairs.json"))]
    (folder / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def _summary(bench: dict[str, Any]) -> str:
    machine = bench["machine"]
    text = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, on {machine['date']} at commit {machine['commit']}: "
        "[bench.json](benchmarks/bench.json)."
    )
    if bench["noisy"]:
        why = "; ".join(bench["troubles"]) or "rounds differ by more than a tenth"
        text += f"\n\n**This run calls itself noisy** ({why}). {NOISE_EFFECT}"
    return text


def _stages(bench: dict[str, Any]) -> str:
    rows = []
    for name in STAGES:
        hot, paced = (bench[part]["stages"][name]["cpu_us"] for part in ("hot", "paced"))
        floor = bench["hot"]["floor_us"].get(name)
        ratio = bench["hot"]["ratios"].get(name)
        mean = bench["hot"]["stages"][name]["cpu_us_mean"]
        cells = [floor, hot.get("p50"), mean, paced.get("p50"), paced.get("p95"), paced.get("p99")]
        rows.append([name, *("" if cell is None else f"{cell:.0f}" for cell in cells), "" if ratio is None else f"{ratio:.2f}"])
    hot = bench["hot"]
    header = ["stage", "floor us", "hot p50", "hot mean", "paced p50", "paced p95", "paced p99", "times its floor"]
    text = table(header, rows)
    return (
        f"{text}\n\nA frame with a followed face (decode, detect, crop, face): **{hot['frame_us'] / 1000:.2f} ms of CPU, "
        f"{hot['ratios']['frame']:.2f} times** the kernels' {hot['frame_floor_us'] / 1000:.2f} ms in the median. With the "
        f"search for new faces, {hot['frame_mean_us'] / 1000:.2f} ms and {hot['ratios']['frame_mean']:.2f} times on average. "
        f"The whole stream with sound: {hot['ratios']['stream']:.2f} times its kernels. Most that the last "
        f"three processes differed by in a ratio: {100 * max(hot['spread'].values()):.0f} %."
    )


def _end_to_end(bench: dict[str, Any]) -> str:
    paced, answer, event = bench["paced"], bench["paced"]["answer_ms"], bench["paced"]["event_ms"]
    rows = [
        ["from a frame's capture to its answer, ms", *(f"{answer[q]:.1f}" for q in ("p50", "p95", "p99", "max"))],
        ["from the newest capture to the event, ms", *(f"{event[q]:.0f}" for q in ("p50", "p95", "p99", "max"))],
    ]
    return (
        f"{table(['at the pace of life', 'p50', 'p95', 'p99', 'max'], rows)}\n\nCPU {paced['core_percent']:.1f} % of a core, "
        f"{paced['cpu_ms_per_frame']:.2f} ms for each frame captured; {paced.get('rss_mb', 0):.0f} MB resident, peak "
        f"{paced.get('peak_mb', 0):.0f} MB; first event {bench['startup_s']['p50']:.2f} s after the start. Events come five "
        "times a second, so most of an event's age is the wait for its turn."
    )


def _peers(peers: dict[str, Any]) -> str:
    text = ""
    if "live" in peers:
        ours, by_feed_mode = peers["live"]["ours"], peers["live"]["naive"]
        rows = [_peer_row("moodring", ours, ours["cpu_ms_per_answer"], ours["cpu_ms_per_frame"])]
        for feed_mode, name in FEED_MODE_NAMES.items():
            found = by_feed_mode[feed_mode]
            rows.append(_peer_row(name, found, found["cpu_ms_per_frame"], found.get("cpu_ms_per_camera_frame")))
        header = ["live", "answer p50 ms", "p99 ms", "CPU ms an answer", "CPU ms a frame of the camera"]
        text = f"{table(header, rows)}\n\n"
        if troubles := ours["troubles"]:
            text += f"**Noisy: {'; '.join(troubles)}.**\n\n"
    if "fer" in peers:
        found = peers["fer"]
        text += (
            f"The `fer` package {found['version']} in a Python of its own: {found['wall_ms']:.0f} ms and "
            f"{found['cpu_ms']:.0f} ms of CPU a picture (faces alone, no sound), {found['start_s']:.0f} s to start, "
            f"{found['peak_mb']:.0f} MB.\n\n"
        )
    rows = [[name.replace("_", " "), f"{value:.1f}"] for name, value in peers["ratios"].items()]
    missing = f"\n\nNot measured: {', '.join(peers['missing'])}." if peers["missing"] else ""
    return f"{text}{table(['peer', 'times ours'], rows)}{missing}"


def _peer_row(name: str, found: dict[str, Any], per_answer: float, per_frame: float | None) -> list[str]:
    answer = found["answer_ms"]
    return [
        name,
        f"{answer['p50']:.1f}",
        f"{answer['p99']:.1f}",
        f"{per_answer:.1f}",
        "" if per_frame is None else f"{per_frame:.1f}",
    ]


UNITS = {
    "frame_rate": "Hz", "size": "", "faces": "faces", "hop": "ms of hop", "window": "s of window", "streams": "streams",
    "http_streams": "http streams",
}  # fmt: skip


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
    return (
        f"{table(['varied', 'CPU %', 'answer p50 ms', 'answer p99 ms'], rows)}\n\n"
        f"CPU grows as a power of what is varied: {', '.join(exponents)}. Most streams measured with answers within 100 ms (p99): "
        f"{', '.join(stream_limits)}." + (" **Other programs were at work in some of these runs.**" if busy else "")
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
    return (
        f"{table(['pair', 'within 10 %', 'furthest apart', 'call themselves noisy'], rows)}\n\n"
        f"{pairs['agree']} of {len(pairs['pairs'])} pairs agree; of the others {pairs['flagged']} flag themselves. "
        f"Measured on {pairs['machine']['date']} at commit {pairs['machine']['commit']}."
    )


def _draw_latency(bench: dict[str, Any], path: Path) -> None:
    """Shares answered by a time, and how the naive chain's answers age."""
    live = bench.get("peers", {}).get("live")
    figure, plots = plt.subplots(1, 2 if live else 1, figsize=(10 if live else 5, 3.4), squeeze=False)
    shares = plots[0][0]
    answers = {"moodring, played": bench["paced"]["answers_ms"]}
    if live:
        answers["moodring, HTTP camera"] = live["ours"]["answers_ms"]
        answers |= {
            FEED_MODE_NAMES[feed_mode]: [ms for _, ms in live["naive"][feed_mode]["answer_ms_at_s"]]
            for feed_mode in ("in_order", "newest")
        }
        over = plots[0][1]
        for feed_mode in ("in_order", "newest"):
            seconds, ages = zip(*live["naive"][feed_mode]["answer_ms_at_s"], strict=True)
            over.plot(seconds, [ms / 1000 for ms in ages], label=FEED_MODE_NAMES[feed_mode])
        over.axhline(live["ours"]["answer_ms"]["p50"] / 1000, color="black", linewidth=1, label="moodring, p50")
        over.set(xlabel="seconds since the start", ylabel="age of the answer, s", yscale="log")
        over.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for name, times in answers.items():
        ordered = sorted(times)
        shares.plot(ordered, [100 * (i + 1) / len(ordered) for i in range(len(ordered))], label=name)
    shares.set(xlabel="ms from capture to answer", ylabel="% answered by then", xscale="log")
    shares.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)


def _draw_stages(bench: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 2.6))
    rows = {
        "floor": bench["hot"]["floor_us"],
        "hot": {name: bench["hot"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
        "paced": {name: bench["paced"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
    }
    left = dict.fromkeys(rows, 0.0)
    for name in ("decode", "detect", "search", "crop", "face"):
        widths = [(row.get(name) or 0.0) / 1000 for row in rows.values()]
        axes.barh(list(rows), widths, left=list(left.values()), label=name)
        left = {row: start + width for (row, start), width in zip(left.items(), widths, strict=True)}
    axes.set_xlabel("ms of CPU for a frame with a followed face (medians)")
    axes.invert_yaxis()
    axes.legend(ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22))
    _save(figure, path)


def _draw_scaling(scaling: dict[str, Any], path: Path) -> None:
    axes_shown = [axis for axis in UNITS if axis in scaling]
    figure, plots = plt.subplots(2, -(-len(axes_shown) // 2), figsize=(11, 5.4), squeeze=False)
    for axes, axis in zip(plots.flat, axes_shown, strict=False):
        by = scaling[axis]["by"]
        percents = [found["core_percent"] for found in by.values()]
        axes.plot([name.replace("x", "\nx ") for name in by], percents, marker="o")
        axes.set_xlabel(UNITS[axis] or "picture")
        axes.set_ylim(0, 1.1 * max(percents))
    for axes in list(plots.flat)[len(axes_shown) :]:
        axes.set_visible(False)
    for row in plots:
        row[0].set_ylabel("CPU, % of one core")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
