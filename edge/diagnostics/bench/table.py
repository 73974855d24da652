"""The figures of a benchmark as text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from moodring.diagnostics.bench.measured import STAGES


def show(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print the stages, the kernel baseline and the end-to-end figures."""
    out = console or Console()
    out.print(_stages(figures))
    fast, paced = figures["hot"], figures["paced"]
    out.print(
        f"A frame with a tracked face takes {fast['frame_us'] / 1000:.2f} ms of CPU, {fast['ratios']['frame']:.2f}x the "
        f"kernel baseline of {fast['frame_floor_us'] / 1000:.2f} ms. With the search for new faces, which few frames need, "
        f"the mean is {fast['frame_mean_us'] / 1000:.2f} ms. The whole stream takes {fast['ratios']['stream']:.2f}x its "
        "kernel baseline."
    )
    answer, event = paced["answer_ms"], paced["event_ms"]
    if answer and event:
        out.print(
            f"In real time: {paced['core_percent']:.1f} % of a core, {paced['cpu_ms_per_frame']:.2f} ms a frame; latency from "
            f"capture to face output {answer['p50']:.1f} ms (p99 {answer['p99']:.1f}), to the event {event['p50']:.0f} ms "
            f"(p99 {event['p99']:.0f})."
        )
    memory = f"{paced['rss_mb']:.0f} MB (peak {paced['peak_mb']:.0f})" if "rss_mb" in paced else "unknown"
    out.print(f"Memory {memory}; first event {figures['startup_s']['p50']:.2f} s after the start.")
    for name, value in figures.get("peers", {}).get("ratios", {}).items():
        out.print(f"  {name}: {value:.1f}x")
    for missing in figures.get("peers", {}).get("missing", []):
        out.print(f"  not measured: {missing}", highlight=False)
    for trouble in figures["troubles"]:
        out.print(f"[yellow]noisy: {trouble}[/yellow]")
    if fast["noisy"]:
        worst = max(fast["spread"], key=fast["spread"].get)
        out.print(f"[yellow]noisy: the last processes differ by {100 * fast['spread'][worst]:.0f} % on {worst}[/yellow]")


def _stages(figures: dict[str, Any]) -> Table:
    table = Table(title="CPU by stage, microseconds a call", title_justify="left")
    for column in ("stage", "kernel", "hot p50", "hot p95", "paced p50", "paced p95", "paced p99", "max"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for name in STAGES:
        fast, paced = figures["hot"]["stages"][name]["cpu_us"], figures["paced"]["stages"][name]["cpu_us"]
        floor = figures["hot"]["floor_us"].get(name)
        cells = [fast.get("p50"), fast.get("p95"), *(paced.get(q) for q in ("p50", "p95", "p99", "max"))]
        table.add_row(name, *("-" if cell is None else f"{cell:.0f}" for cell in (floor, *cells)))
    return table
