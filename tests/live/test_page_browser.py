"""The live page in a browser: content, mute buttons, faults, accessibility, and a real run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodring.capture.media import VideoFile
from moodring.dashboard.guard import create_guard
from moodring.labels import LABELS
from moodring.publish.cloudevents import to_json
from moodring.run.preview import Preview
from moodring.run.sources import SAMPLE_CLIP
from tests.support import browser as browsers
from tests.support.page import CUSTOM_LABELS, SOURCE, STREAM, DashboardHarness, custom_event, event, serve_dashboard, status

pytestmark = [pytest.mark.live, pytest.mark.skipif(not browsers.is_available(), reason=browsers.SKIP_REASON)]

OTHER_SOURCE = "/moodring/host/door/fedcba987654"
TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def page() -> Iterator[DashboardHarness]:
    with serve_dashboard() as served:
        yield served


def open_page(page: DashboardHarness, tab: Any) -> None:
    tab.goto(page.server.address)


def wait(tab: Any, selector: str, pattern: str) -> None:
    """Wait until an element contains a text that matches the pattern."""
    tab.locator(selector).filter(has_text=re.compile(pattern)).first.wait_for(timeout=TIMEOUT_MS)


def part(name: str) -> str:
    return f"[data-is='{name}']"


def bar_length(tab: Any, label: str) -> float:
    """Return the length of a label's bar in [0, 1]."""
    style = tab.locator(f"tr:has(th:text-is('{label}')) .track i").get_attribute("style")
    found = re.search(r"scaleX\(([\d.]+)\)", style or "")
    return float(found[1]) if found else 0.0


def count_coloured_columns(tab: Any) -> int:
    """Return the number of timeline columns that have the colour of a label."""
    return tab.evaluate("""() => {
        const canvas = document.querySelector("[data-is='timeline']");
        const {width, height} = canvas;
        const pixels = canvas.getContext("2d").getImageData(0, Math.round(height / 2), width, 1).data;
        const [r, g, b] = pixels;
        let count = 0;
        for (let x = 0; x < width; x += 1) count += Math.abs(pixels[4 * x] - r) + Math.abs(pixels[4 * x + 2] - b) > 60;
        return count;
    }""")


def test_label_bars_and_timeline_follow_events(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.publish(*["happy"] * 50)
        wait(tab, part("label"), "^happy$")
        wait(tab, part("confidence"), "72 % confidence")
        assert bar_length(tab, "happy") == 0.72
        assert bar_length(tab, "sad") == 0.04
        first = count_coloured_columns(tab)
        page.publish(*["sad"] * 100)
        wait(tab, part("label"), "^sad$")
        assert bar_length(tab, "sad") == 0.72
        assert count_coloured_columns(tab) > 1.5 * first > 0
        assert tab.locator("rect.first").get_attribute("x") == "212"
        assert tab.locator(part("frame")).get_attribute("viewBox") == "0 0 640 480"
        wait(tab, part("face-says"), "sad, 72 %")
        wait(tab, part("voice-note"), "used, 31 ms old")
        wait(tab, part("level"), "^-31 dBFS, speech$")
        page.publish(None)
        wait(tab, part("label"), "No face in view")
        assert bar_length(tab, "sad") == 0


@pytest.mark.parametrize("is_open", [True, False], ids=["open tab", "new tab"])
def test_labels_of_a_custom_bundle_are_shown(page: DashboardHarness, chromium: Any, is_open: bool):
    with browsers.tab(chromium) as tab:
        if is_open:
            open_page(page, tab)
        page.publish("happy")
        if is_open:
            wait(tab, part("label"), "^happy$")
        for seq in range(1, 80):
            page.server.publish(custom_event(seq, "bored & <tired>"))
        if not is_open:
            open_page(page, tab)
        wait(tab, part("label"), "^bored & <tired>$")
        assert tab.locator("tbody th").all_inner_texts() == list(CUSTOM_LABELS)
        assert bar_length(tab, "bored & <tired>") == 0.8
        assert bar_length(tab, "cross") == 0.1
        assert count_coloured_columns(tab) > 0
        colors = tab.evaluate("[...document.querySelectorAll('tbody i')].map((bar) => getComputedStyle(bar).backgroundColor)")
        assert len(set(colors)) == len(CUSTOM_LABELS)
        wait(tab, part("face-says"), "bored & <tired>, 80 %")
        page.publish(*["sad"] * 3)
        wait(tab, part("label"), "^sad$")
        assert tab.locator("tbody th").all_inner_texts() == list(LABELS)


def test_new_tab_shows_history_of_two_minutes(page: DashboardHarness, chromium: Any):
    page.publish(*["happy"] * 600)
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        wait(tab, part("label"), "happy")
        width = tab.evaluate("document.querySelector(\"[data-is='timeline']\").width")
        assert count_coloured_columns(tab) > 0.9 * width


@pytest.mark.parametrize(
    ("camera", "microphone", "text"),
    [
        ("lost", "ok", "^Camera lost: microphone only$"),
        ("ok", "lost", "^Microphone lost: camera only$"),
        ("frozen", "ok", "^Camera frozen: microphone only$"),
        ("muted", "ok", "^Camera muted: microphone only$"),
        ("muted", "muted", "^Camera muted, microphone muted: no input$"),
        ("ok", "ok", "^High latency: 99 % of events within 900 ms$"),
    ],
)
def test_problem_is_shown_as_text(page: DashboardHarness, chromium: Any, camera: str, microphone: str, text: str):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        if (camera, microphone) == ("ok", "ok"):
            high = dataclasses.replace(status().latency["see"], p99_ms=900.0)
            page.server.publish(status(latency={"capture_to_event": high}))
        label = "happy" if "ok" in (camera, microphone) else None
        page.server.publish(event(0, label, devices={"camera": camera, "microphone": microphone}))
        wait(tab, part("trouble"), text)


def test_measurements_and_drops_are_shown(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        wait(tab, "#connection-text", "waiting for events")
        page.publish(*["happy"] * 20)
        page.server.publish(status(dropped={"frames_overwritten": 2, "frames_above_rate": 1500, "samples_overrun": 8000}))
        page.publish("happy")
        wait(tab, part("drops"), r"^2 frames, 0\.5 s of audio$")
        tab.locator("summary").click()
        wait(tab, part("drop-list"), r"frames above rate \(by design\): 1,500")
        wait(tab, part("rate"), r"5\.0 per second")
        wait(tab, part("cpu"), "% of a core")


def test_buttons_mute_and_show_the_state(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.publish("happy")
        button = tab.get_by_role("button", name="Camera on mute")
        button.wait_for()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.dataset.device") == "camera"
        with tab.expect_response("**/api/v1/mute") as answer:
            tab.keyboard.press("Enter")
        assert answer.value.status == 200
        assert page.run.devices == {"camera": True, "microphone": False}
        page.server.publish(event(1, None, devices={"camera": "muted", "microphone": "ok"}))
        muted = tab.get_by_role("button", name="Camera muted unmute")
        muted.wait_for()
        assert muted.get_attribute("aria-pressed") == "true"
        with tab.expect_response("**/api/v1/mute"):
            muted.click()
        assert page.run.devices == {"camera": False, "microphone": False}


def test_recording_disables_mute_buttons(chromium: Any):
    with serve_dashboard(mode="recording") as page, browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.publish("happy")
        wait(tab, part("label"), "happy")
        assert tab.locator("button[data-device]:enabled").count() == 0
        wait(tab, "#title", "^recording: test$")


def test_each_stream_has_its_own_card(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium, viewport={"width": 1800, "height": 900}) as tab:
        open_page(page, tab)
        page.server.publish(event(0, "happy"))
        page.server.publish(event(0, "sad", source=OTHER_SOURCE, devices={"camera": "lost", "microphone": "ok"}))
        wait(tab, f"article[aria-label='Stream {STREAM}'] {part('label')}", "happy")
        wait(tab, f"article[aria-label='Stream host/door'] {part('label')}", "sad")
        wait(tab, f"article[aria-label='Stream host/door'] {part('trouble')}", "Camera lost")
        assert tab.locator(f"article[aria-label='Stream {STREAM}'] {part('trouble')}").inner_text() == ""
        left, right = (tab.locator("article").nth(k).bounding_box() for k in (0, 1))
        assert left["y"] == right["y"]


def test_old_data_is_marked(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.publish("happy")
        wait(tab, "#connection-text", "^live$")
        wait(tab, part("trouble"), r"^Old data: last event \d+ s ago$")
        wait(tab, "#connection-text", "showing old data")
        old = tab.locator("article[data-old]")  # cards are drawn one frame after the connection text
        old.wait_for(timeout=TIMEOUT_MS)
        page.publish("happy")
        wait(tab, "#connection-text", "^live$")
        old.wait_for(state="detached", timeout=TIMEOUT_MS)


def test_page_reconnects_after_restart(chromium: Any):
    with browsers.tab(chromium, expect_refused=True) as tab:
        with serve_dashboard() as page:
            port = page.port
            open_page(page, tab)
            page.publish("happy")
            wait(tab, part("label"), "happy")
        wait(tab, "#connection-text", "no connection; reconnecting")
        with serve_dashboard(port=port) as page:
            page.server.publish(event(0, "calm", source="/moodring/host/live/another-run"))
            wait(tab, part("label"), "calm")
            wait(tab, "#connection-text", "^live$")
            assert tab.locator("article").count() == 1
            with tab.expect_response("**/api/v1/mute") as answer:
                tab.get_by_role("button", name="Camera on mute").click()
            assert answer.value.status == 200


def test_page_off_loopback_requires_token_once(chromium: Any, tmp_path: Path):
    guard = create_guard("0.0.0.0", "none", str(tmp_path / "token"))  # noqa: S104  the server does not bind it
    with serve_dashboard(guard=guard) as page, browsers.tab(chromium, expect_refused=True) as tab:
        open_page(page, tab)
        page.publish("happy")
        tab.get_by_label("Token").fill("not the token at all")
        tab.get_by_role("button", name="Open the page").click()
        wait(tab, "#login-trouble", "^The token is wrong\\.$")
        tab.get_by_label("Token").fill(guard.token)
        tab.keyboard.press("Enter")
        wait(tab, part("label"), "happy")
        assert guard.token not in tab.url
        assert guard.token not in tab.evaluate("document.cookie + document.documentElement.outerHTML")
        open_page(page, tab)
        wait(tab, part("label"), "happy")


def test_camera_image_is_shown_only_with_notice(page: DashboardHarness, chromium: Any):
    with VideoFile(str(SAMPLE_CLIP)) as video:
        frame = next(iter(video))
    preview = Preview()
    preview.on_frame(frame)
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.publish("happy")
        wait(tab, part("label"), "happy")
        assert tab.locator("#preview-mark").is_hidden()
        assert tab.locator(part("picture")).is_hidden()
    with serve_dashboard(previews={STREAM: preview.jpeg}) as shown, browsers.tab(chromium) as tab:
        open_page(shown, tab)
        while tab.locator(f"{part('picture')}:not([hidden])").count() == 0:  # the image expires
            preview.on_frame(frame)
            shown.publish("happy")
            tab.wait_for_timeout(50)
        wait(tab, "#preview-mark", "This page shows the camera image on this machine only")
        assert tab.locator(part("picture")).evaluate("canvas => canvas.width") == 320


def test_stream_name_is_escaped(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        open_page(page, tab)
        page.server.publish(event(0, source="/moodring/<img src=x onerror=alert(1)>/<b>/1"))
        wait(tab, part("name"), re.escape("<img src=x onerror=alert(1)>/<b>"))
        assert tab.locator("article img, article b").count() == 0


def test_axe_finds_no_violation(page: DashboardHarness, chromium: Any):
    """Light and dark, from phone to large screen, one stream and two, with and without faults."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    variants = [
        ("light", 1280, (SOURCE,), "ok", "ok"),
        ("dark", 360, (SOURCE, OTHER_SOURCE), "muted", "ok"),
        ("light", 2560, (SOURCE, OTHER_SOURCE), "lost", "muted"),
    ]
    with browsers.tab(chromium, bypass_csp=True) as tab:
        open_page(page, tab)
        for scheme, width, sources, camera, microphone in variants:
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": width, "height": 900})
            for source in sources:
                seq = next(page.seq)
                page.server.publish(event(seq, source=source, devices={"camera": camera, "microphone": microphone}))
            wait(tab, part("camera"), {"ok": "on"}.get(camera, camera))
            violations = Axe().run(tab).response["violations"]
            assert not violations, [(v["id"], v["impact"], [node["html"] for node in v["nodes"]]) for v in violations]
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"the page scrolls horizontally at a width of {width}"
            )


def test_reduced_motion_and_forced_colors_are_respected(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium, reduced_motion="reduce", forced_colors="active") as tab:
        open_page(page, tab)
        page.publish("happy")
        wait(tab, part("label"), "happy")
        style = tab.locator(".track i").first.evaluate(
            "i => [getComputedStyle(i).transitionDuration, getComputedStyle(i).backgroundColor]"
        )
        track = tab.locator(".track").first.evaluate("t => getComputedStyle(t).borderTopWidth")
        assert style[0] == "0s"
        assert style[1] not in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
        assert track != "0px"


@pytest.mark.parametrize("width", [390, 900, 1280])
def test_layout_does_not_shift(page: DashboardHarness, chromium: Any, width: int):
    """From the first paint on, no element moves vertically; only texts change."""
    boxes = """() => [...document.querySelectorAll("header, footer, article, article *")]
        .filter((e) => !e.closest("svg > *, .track, .meter, .label > *, .mutes span, details") && e.checkVisibility())
        .map((e) => [e, e.getBoundingClientRect()])
        .map(([e, {top, bottom}]) => `${e.tagName} ${e.dataset.is} ${top} to ${bottom}`)"""
    with browsers.tab(chromium, viewport={"width": width, "height": 860}) as tab:
        open_page(page, tab)
        wait(tab, "#connection-text", "waiting for events")
        first = tab.evaluate(boxes)
        assert len(first) > 60
        for label, camera, microphone in (
            ("happy", "ok", "ok"),
            ("surprise", "lost", "ok"),
            (None, "muted", "muted"),
            ("calm", "ok", "lost"),
        ):
            page.server.publish(status(latency={}))
            page.server.publish(event(next(page.seq), label, devices={"camera": camera, "microphone": microphone}))
            wait(tab, part("microphone"), {"ok": "on"}.get(microphone, microphone))
            wait(tab, part("label"), label or "No face in view")
            moved = [(before, after) for before, after in zip(first, tab.evaluate(boxes), strict=True) if before != after]
            assert not moved


def test_replay_plays_recorded_file(chromium: Any, tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(to_json(event(seq, label)) + "\n" for seq, label in enumerate(["happy"] * 5 + ["fear"] * 5)))
    command = [sys.executable, "-m", "moodring.cli", "replay", str(path), "--page", "--page-port", "0"]
    with daemon(command) as (_, address), browsers.tab(chromium) as tab:
        tab.goto(address)
        wait(tab, part("label"), "fear")
        wait(tab, "#title", "recorded events, not live: events.jsonl")


@contextlib.contextmanager
def daemon(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command that serves the page; yield its process and the address of the page."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        log_lines = []
        for line in process.stderr:
            log_lines.append(line)
            if found := re.search(r"page on (http://\S+)", line):
                break
        else:
            pytest.fail("".join(log_lines))
        yield process, found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


def test_live_run_on_sample_clip(chromium: Any, tmp_path: Path):
    """Run the daemon on a camera that plays the clip: mute, unplug and restart it."""
    import cv2  # noqa: PLC0415

    from tests.support.devices.mjpeg import SoftwareCamera  # noqa: PLC0415

    with VideoFile(str(SAMPLE_CLIP)) as video:
        frames = [cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR) for frame in itertools.islice(video, 120)]
    events, config, port = tmp_path / "events.jsonl", tmp_path / "config.yaml", free_port()
    with SoftwareCamera(lambda i: frames[i], len(frames)) as camera, browsers.tab(chromium, expect_refused=True) as tab:
        config.write_text(
            f"video: {{source: '{camera.url}'}}\naudio: {{source: none}}\nevents: {{path: {events}}}\npage: {{port: {port}}}\n"
        )
        command = [sys.executable, "-m", "moodring.cli", "run", "--page", "--config", str(config)]
        with daemon(command) as (_, address):
            tab.goto(address)
            wait(tab, part("label"), "|".join(LABELS))
            before = count_coloured_columns(tab)
            wait(tab, part("faces"), "^1 face")
            tab.get_by_role("button", name="Camera on mute").click()
            wait(tab, part("label"), "No signal")
            muted = [json.loads(line)["data"]["devices"]["camera"] for line in events.read_text().splitlines()]
            assert muted[-1] == "muted"
            tab.get_by_role("button", name="Camera muted unmute").click()
            wait(tab, part("label"), "|".join(LABELS))
            assert count_coloured_columns(tab) >= before
            camera.unplug()
            wait(tab, part("trouble"), "Camera lost")
            camera.plug_in()
            wait(tab, part("camera"), "Camera on")
            wait(tab, part("label"), "|".join(LABELS))
        wait(tab, "#connection-text", "no connection; reconnecting")
        with daemon(command):
            wait(tab, "#connection-text", "^live$")
            wait(tab, part("label"), "|".join(LABELS))
