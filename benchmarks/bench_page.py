"""Write docs/benchmarks.md and its pictures from the measured figures beside it.

python -m benchmarks.bench_page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from edge.bench.measured import STAGES

INTRODUCTION = """# What it costs, and how fast it answers

`moodring bench` measures this on your machine in about a minute, without a network; `make bench` measures all of this page
again, with the peers. Compare ratios, not microseconds: they move with the machine and with what else it does. CPU is thread
time."""

FRAME = """## A frame with a followed face

Beside each stage stands its bare kernel on the same data: one JPEG decoded, one pass of the cascade over the region round the
known face, one call of the session, one FFT with the mel product. Everything above the kernels' sum is what we add.
*hot* is as fast as it goes, *paced* at the pace of life, where caches are cold between calls."""

PEERS = """## Against what people use otherwise

In the same run. The naive chain decodes every frame to colour, searches the whole picture with OpenCV's detector as it comes,
computes python_speech_features over three seconds and runs both networks in sessions with default options, for every frame."""

SCALING = """## How the cost grows

[scaling.json](benchmarks/scaling.json); each point is a run at the pace of life, on pictures of 640x480 unless said, through
the daemon's own threads; cameras play JPEGs and have no network. CPU in percent of one core."""

NOISY = "CPU is counted by the kernel and holds within some percent; latencies hold the other programs' work as well."


def main(folder: Path) -> None:
    bench = _read(folder / "benchmarks" / "bench.json")
    parts = [INTRODUCTION, _summary(bench), FRAME, _stages(bench), "![CPU by stage](benchmarks/stages.png)", _ends(bench)]
    _draw_stages(bench, folder / "benchmarks" / "stages.png")
    if "peers" in bench:
        parts += [PEERS, _peers(bench["peers"])]
    if (folder / "benchmarks" / "scaling.json").exists():
        scaling = _read(folder / "benchmarks" / "scaling.json")
        parts += [SCALING, _scaling(scaling), "![CPU over frame rate, size and streams](benchmarks/scaling.png)"]
        _draw_scaling(scaling, folder / "benchmarks" / "scaling.png")
    (folder / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def _summary(bench: dict[str, Any]) -> str:
    machine, noise = bench["machine"], [*bench["paced"]["troubles"], *bench["noise"]["troubles"]]
    words = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, on {machine['date']} at commit {machine['commit']}: "
        "[bench.json](benchmarks/bench.json)."
    )
    if bench["noisy"]:
        why = "; ".join(dict.fromkeys(noise)) or "rounds differ by more than a tenth"
        words += f"\n\n**This run calls itself noisy** ({why}). {NOISY}"
    return words


def _stages(bench: dict[str, Any]) -> str:
    rows = []
    for name in STAGES:
        hot, paced = (bench[part]["stages"][name]["cpu_us"] for part in ("hot", "paced"))
        floor = bench["hot"]["floor_us"].get(name)
        ratio = bench["hot"]["ratios"].get(name)
        cells = [floor, hot.get("p50"), paced.get("p50"), paced.get("p95"), paced.get("p99")]
        rows.append([name, *("" if cell is None else f"{cell:.0f}" for cell in cells), "" if ratio is None else f"{ratio:.2f}"])
    hot = bench["hot"]
    text = table(["stage", "floor us", "hot p50", "paced p50", "paced p95", "paced p99", "times its floor"], rows)
    return (
        f"{text}\n\nA frame with a followed face (decode, detect, crop, face): **{hot['frame_us'] / 1000:.2f} ms of CPU, "
        f"{hot['ratios']['frame']:.2f} times** the kernels' {hot['frame_floor_us'] / 1000:.2f} ms. The whole stream with "
        f"sound: {hot['ratios']['stream']:.2f} times its kernels."
    )


def _ends(bench: dict[str, Any]) -> str:
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
    naive = peers.get("naive")
    words = ""
    if naive:
        words = (
            f"The naive chain: {naive['fps']:.1f} frames a second, {naive['cpu_ms_per_frame']:.0f} ms of CPU a frame, an "
            f"answer after {naive['answer_ms']['p50']:.0f} ms.\n\n"
        )
    rows = [[name.replace("_", " "), f"{value:.1f}"] for name, value in peers["ratios"].items()]
    missing = f"\n\nNot measured: {', '.join(peers['missing'])}." if peers["missing"] else ""
    return f"{words}{table(['peer', 'times ours'], rows)}{missing}"


def _scaling(scaling: dict[str, Any]) -> str:
    rows = []
    for what, unit in (("frame_rate", "Hz"), ("size", ""), ("streams", "streams")):
        for point, found in scaling[what]["by"].items():
            latency = found["answer_ms"]
            ends = (f"{latency[q]:.1f}" if latency else "" for q in ("p50", "p99"))
            rows.append([f"{point} {unit}".strip(), f"{found['core_percent']:.1f}", *ends])
    busy = any(found["troubles"] for what in ("frame_rate", "size", "streams") for found in scaling[what]["by"].values())
    return (
        f"{table(['varied', 'CPU %', 'answer p50 ms', 'answer p99 ms'], rows)}\n\n"
        f"CPU grows with the frame rate to the power {scaling['frame_rate']['exponent']:.2f} (every frame looked at), with the "
        f"pixels to {scaling['size']['exponent_of_pixels']:.2f}, with the streams (15 Hz, with sound) to "
        f"{scaling['streams']['exponent']:.2f}. Most streams with answers within 100 ms (p99): "
        f"{scaling['streams']['most_with_answers_p99_within_100_ms']}."
        + (" **Other programs were at work in some of these runs.**" if busy else "")
    )


def _draw_stages(bench: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 2.6))
    rows = {
        "floor": bench["hot"]["floor_us"],
        "hot": {name: bench["hot"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
        "paced": {name: bench["paced"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
    }
    left = dict.fromkeys(rows, 0.0)
    for name in ("decode", "detect", "crop", "face"):
        widths = [(row.get(name) or 0.0) / 1000 for row in rows.values()]
        axes.barh(list(rows), widths, left=list(left.values()), label=name)
        left = {row: start + width for (row, start), width in zip(left.items(), widths, strict=True)}
    axes.set_xlabel("ms of CPU for a frame with a followed face (medians)")
    axes.invert_yaxis()
    axes.legend(ncols=4, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22))
    _save(figure, path)


def _draw_scaling(scaling: dict[str, Any], path: Path) -> None:
    figure, plots = plt.subplots(1, 3, figsize=(10, 3.2))
    for axes, (what, label) in zip(
        plots, (("frame_rate", "frames a second"), ("size", "picture"), ("streams", "streams")), strict=True
    ):
        by = scaling[what]["by"]
        axes.plot(list(by), [found["core_percent"] for found in by.values()], marker="o")
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
    plots[0].set_ylabel("CPU, % of one core")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
