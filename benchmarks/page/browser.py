"""The page in Chromium: first paint, animation frames and CPU time, and the delay until it shows that a camera is lost."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.daemon import run_with_page
from benchmarks.devices import clip_frames
from benchmarks.page.server import ServerProcess, percentiles
from tests.support import browser as browsers
from tests.support.devices.mjpeg import SoftwareCamera

PAGE_LOADS = 7
CAMERA_LOSSES = 5
CAMERA_FRAMES = 120
# Stores in window.firstLabel when the page first paints a label.
WATCH_FIRST_LABEL = """new MutationObserver(() => {
    const label = document.querySelector("[data-is='label']");
    if (!window.firstLabel && label && label.textContent.trim()) requestAnimationFrame(() => {
        window.firstLabel ??= performance.now();
    });
}).observe(document, {subtree: true, childList: true, characterData: true});"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')"
# Returns the times of 600 animation frames.
FRAME_TIMES = """() => new Promise((done) => {
    const times = [];
    const frame = (time) => { times.push(time); times.length < 600 ? requestAnimationFrame(frame) : done(times); };
    requestAnimationFrame(frame);
})"""


def measure_browser() -> dict[str, Any]:
    """Return the times to first paint and first label, the frame intervals and the CPU time of the page's main thread."""
    paints, labels = [], []
    with ServerProcess() as server, browsers.chromium() as chromium:
        for _ in range(PAGE_LOADS):
            with browsers.tab(chromium) as tab:
                tab.add_init_script(WATCH_FIRST_LABEL)
                tab.goto(f"http://127.0.0.1:{server.port}/")
                while not tab.evaluate(f"window.firstLabel && {FIRST_PAINT}.length"):
                    tab.wait_for_timeout(50)
                paints.append(tab.evaluate(f"{FIRST_PAINT}[0].startTime"))
                labels.append(tab.evaluate("window.firstLabel"))
        with browsers.tab(chromium) as tab:
            tab.goto(f"http://127.0.0.1:{server.port}/")
            tab.wait_for_timeout(3000)
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable")
            first = _browser_metrics(session)
            frames = tab.evaluate(FRAME_TIMES)
            last = _browser_metrics(session)
    seconds = last["Timestamp"] - first["Timestamp"]
    intervals = [after - before for before, after in itertools.pairwise(frames)]
    return {
        "first_paint_ms": percentiles(paints),
        "first_label_ms": percentiles(labels),
        "frame_ms": percentiles(intervals),
        "main_thread_percent_of_a_core": round(100 * (last["TaskDuration"] - first["TaskDuration"]) / seconds, 2),
        "script_percent_of_a_core": round(100 * (last["ScriptDuration"] - first["ScriptDuration"]) / seconds, 2),
    }


def _browser_metrics(session: Any) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}


def measure_camera_loss() -> dict[str, Any]:
    """Unplug the camera of a daemon and plug it in again; return the seconds until the page shows each change."""
    frames = clip_frames(CAMERA_FRAMES)
    lost_s, back_s = [], []
    with (
        tempfile.TemporaryDirectory(prefix="moodring-") as folder,
        SoftwareCamera(lambda index: frames[index], len(frames)) as camera,
        run_with_page(_write_config(Path(folder), camera.url)) as address,
        browsers.chromium() as chromium,
        browsers.tab(chromium) as tab,
    ):
        tab.goto(address)
        for _ in range(CAMERA_LOSSES):
            _wait_for_text(tab, "camera", "Camera on")
            camera.unplug()
            lost_s.append(_wait_for_text(tab, "camera", "Camera lost"))
            camera.plug_in()
            back_s.append(_wait_for_text(tab, "camera", "Camera on"))
    return {"lost_s": [round(seconds, 2) for seconds in lost_s], "back_s": [round(seconds, 2) for seconds in back_s]}


def _write_config(folder: Path, url: str) -> Path:
    config = folder / "config.yaml"
    config.write_text(f"video: {{source: '{url}'}}\naudio: {{source: none}}\nevents: {{path: none}}\n", encoding="utf-8")
    return config


def _wait_for_text(tab: Any, part: str, text: str) -> float:
    """Wait until a part of the page contains the text; return the time in seconds."""
    start = time.monotonic()
    tab.locator(f"[data-is='{part}']").filter(has_text=text).wait_for(timeout=30_000)
    return time.monotonic() - start
