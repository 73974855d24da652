"""The plots of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from moodring.diagnostics.bench.measured import STAGES

FEED_MODE_NAMES = {
    "in_order": "naive, every frame in order",
    "newest": "naive, a thread keeps the newest",
    "memory": "naive, JPEGs from memory, no queue",
}

UNITS = {
    "frame_rate": "Hz", "size": "", "faces": "faces", "hop": "ms of hop", "window": "s of window", "streams": "streams",
    "http_streams": "http streams",
}  # fmt: skip


def draw_latency(bench: dict[str, Any], path: Path) -> None:
    """Draw the cumulative share of results over their latency, and the latency of the naive chain over the run."""
    live = bench.get("peers", {}).get("live")
    figure, plots = plt.subplots(1, 2 if live else 1, figsize=(10 if live else 5, 3.4), squeeze=False)
    shares = plots[0][0]
    latencies_ms = {"moodring, from memory": bench["paced"]["answers_ms"]}
    if live:
        latencies_ms["moodring, HTTP camera"] = live["ours"]["answers_ms"]
        latencies_ms |= {
            FEED_MODE_NAMES[feed_mode]: [ms for _, ms in live["naive"][feed_mode]["answer_ms_at_s"]]
            for feed_mode in ("in_order", "newest")
        }
        over = plots[0][1]
        for feed_mode in ("in_order", "newest"):
            seconds, ages = zip(*live["naive"][feed_mode]["answer_ms_at_s"], strict=True)
            over.plot(seconds, [ms / 1000 for ms in ages], label=FEED_MODE_NAMES[feed_mode])
        over.axhline(live["ours"]["answer_ms"]["p50"] / 1000, color="black", linewidth=1, label="moodring, p50")
        over.set(xlabel="seconds since the start", ylabel="latency, s", yscale="log")
        over.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for name, times in latencies_ms.items():
        ordered = sorted(times)
        shares.plot(ordered, [100 * (i + 1) / len(ordered) for i in range(len(ordered))], label=name)
    shares.set(xlabel="latency from capture to result, ms", ylabel="results, cumulative %", xscale="log")
    shares.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)


def draw_stages(bench: dict[str, Any], path: Path) -> None:
    """Draw the CPU time of the stages of a frame: the kernel baseline, hot and paced."""
    figure, axes = plt.subplots(figsize=(8, 2.6))
    rows = {
        "baseline": bench["hot"]["floor_us"],
        "hot": {name: bench["hot"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
        "paced": {name: bench["paced"]["stages"][name]["cpu_us"].get("p50") for name in STAGES},
    }
    left = dict.fromkeys(rows, 0.0)
    for name in ("decode", "detect", "search", "crop", "face"):
        widths = [(row.get(name) or 0.0) / 1000 for row in rows.values()]
        axes.barh(list(rows), widths, left=list(left.values()), label=name)
        left = {row: start + width for (row, start), width in zip(left.items(), widths, strict=True)}
    axes.set_xlabel("CPU time of a frame with a tracked face, ms (medians)")
    axes.invert_yaxis()
    axes.legend(ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22))
    _save(figure, path)


def draw_scaling(scaling: dict[str, Any], path: Path) -> None:
    """Draw the CPU time over each varied quantity."""
    axes_shown = [axis for axis in UNITS if axis in scaling]
    figure, plots = plt.subplots(2, -(-len(axes_shown) // 2), figsize=(11, 5.4), squeeze=False)
    for axes, axis in zip(plots.flat, axes_shown, strict=False):
        by = scaling[axis]["by"]
        percents = [found["core_percent"] for found in by.values()]
        axes.plot([name.replace("x", "\nx ") for name in by], percents, marker="o")
        axes.set_xlabel(UNITS[axis] or "frame size")
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
