"""The live page in a real browser: what it shows of events, what it does to them, and what becomes of it when things break."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
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
from tests.support.page import SOURCE, STREAM, DashboardHarness, event, serve_dashboard, status

pytestmark = [pytest.mark.live, pytest.mark.skipif(not browsers.is_available(), reason=browsers.SKIP_REASON)]

ROOT = Path(__file__).resolve().parents[2]
OTHER = "/moodring/host/door/fedcba987654"
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def page() -> Iterator[DashboardHarness]:
    with serve_dashboard() as served:
        yield served


def opened(page: DashboardHarness, tab: Any) -> Any:
    tab.goto(page.server.address)
    return tab


def wait(tab: Any, selector: str, text: str) -> None:
    """Wait until an element holds this text."""
    tab.locator(selector).filter(has_text=re.compile(text)).first.wait_for(timeout=PATIENCE_MS)


def part(name: str) -> str:
    return f"[data-is='{name}']"


def bar(tab: Any, label: str) -> float:
    """Return how long a label's bar is set to be, in [0, 1]."""
    style = tab.locator(f"tr:has(th:text-is('{label}')) .track i").get_attribute("style")
    found = re.search(r"scaleX\(([\d.]+)\)", style or "")
    return float(found[1]) if found else 0.0


def coloured(tab: Any) -> int:
    """Return how many columns of the timeline hold the colour of an answer."""
    return tab.evaluate("""() => {
        const canvas = document.querySelector("[data-is='timeline']");
        const {width, height} = canvas;
        const pixels = canvas.getContext("2d").getImageData(0, Math.round(height / 2), width, 1).data;
        const [r, g, b] = pixels;
        let count = 0;
        for (let x = 0; x < width; x += 1) count += Math.abs(pixels[4 * x] - r) + Math.abs(pixels[4 * x + 2] - b) > 60;
        return count;
    }""")


def test_label_bars_and_timeline_follow_the_events(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        page.publish(*["happy"] * 50)
        wait(tab, part("label"), "^happy$")
        wait(tab, part("confidence"), "72 % sure")
        assert bar(tab, "happy") == 0.72
        assert bar(tab, "sad") == 0.04
        first = coloured(tab)
        page.publish(*["sad"] * 100)
        wait(tab, part("label"), "^sad$")
        assert bar(tab, "sad") == 0.72
        assert coloured(tab) > 1.5 * first > 0
        assert tab.locator("rect.first").get_attribute("x") == "212"
        assert tab.locator(part("frame")).get_attribute("viewBox") == "0 0 640 480"
        wait(tab, part("face-says"), "sad, 72 %")
        wait(tab, part("voice-note"), "used, 31 ms old")
        wait(tab, part("level"), "-31 dB, speaking")
        page.publish(None)
        wait(tab, part("label"), "No face in view")
        assert bar(tab, "sad") == 0


def test_who_opens_it_late_sees_the_last_two_minutes(page: DashboardHarness, chromium: Any):
    page.publish(*["happy"] * 600)
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        wait(tab, part("label"), "happy")
        width = tab.evaluate("document.querySelector(\"[data-is='timeline']\").width")
        assert coloured(tab) > 0.9 * width


@pytest.mark.parametrize(
    ("camera", "microphone", "words"),
    [
        ("lost", "ok", "Camera lost; degraded: sound only"),
        ("ok", "lost", "Microphone lost; degraded: picture only"),
        ("muted", "ok", "Picture muted; degraded: sound only"),
        ("muted", "muted", "Picture muted, sound muted; nothing is sensed"),
        ("ok", "ok", "answers come late"),
    ],
)
def test_what_is_wrong_is_said_in_words(page: DashboardHarness, chromium: Any, camera: str, microphone: str, words: str):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        if words == "answers come late":
            late = dataclasses.replace(status().latency["see"], p99_ms=900.0)
            page.server.publish(status(latency={"capture_to_event": late}))
        label = "happy" if "ok" in (camera, microphone) else None
        page.server.publish(event(0, label, devices={"camera": camera, "microphone": microphone}))
        wait(tab, part("trouble"), words)


def test_figures_and_losses_are_told(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        wait(tab, "#connection-text", "waiting for events")
        page.publish(*["happy"] * 20)
        page.server.publish(status(dropped={"frames_overwritten": 2, "frames_above_rate": 1500, "samples_overrun": 8000}))
        page.publish("happy")
        wait(tab, part("drops"), r"^2 frames, 0\.5 s of sound$")
        tab.locator("summary").click()
        wait(tab, part("drop-list"), r"frames above rate \(by design\): 1,500")
        wait(tab, part("rate"), r"5\.0 a second")
        wait(tab, part("cpu"), "% of a core")


def test_the_buttons_mute_and_say_so(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
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


def test_a_recording_has_no_button_to_press(chromium: Any):
    with serve_dashboard(mode="recording") as page, browsers.tab(chromium) as tab:
        opened(page, tab)
        page.publish("happy")
        wait(tab, part("label"), "happy")
        assert tab.locator("button[data-device]:enabled").count() == 0
        wait(tab, "#title", "a recording: test")


def test_several_streams_each_have_their_card(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium, viewport={"width": 1800, "height": 900}) as tab:
        opened(page, tab)
        page.server.publish(event(0, "happy"))
        page.server.publish(event(0, "sad", source=OTHER, devices={"camera": "lost", "microphone": "ok"}))
        wait(tab, f"article[aria-label='Stream {STREAM}'] {part('label')}", "happy")
        wait(tab, f"article[aria-label='Stream host/door'] {part('label')}", "sad")
        wait(tab, f"article[aria-label='Stream host/door'] {part('trouble')}", "Camera lost")
        assert tab.locator(f"article[aria-label='Stream {STREAM}'] {part('trouble')}").inner_text() == ""
        one, other = (tab.locator("article").nth(k).bounding_box() for k in (0, 1))
        assert one["y"] == other["y"]


def test_old_data_is_called_old(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        page.publish("happy")
        wait(tab, "#connection-text", "^live$")
        wait(tab, part("trouble"), r"Old data: the last event came \d+ s ago")
        wait(tab, "#connection-text", "showing old data")
        old = tab.locator("article[data-old]")  # cards are drawn a frame after the connection is named
        old.wait_for(timeout=PATIENCE_MS)
        page.publish("happy")
        wait(tab, "#connection-text", "^live$")
        old.wait_for(state="detached", timeout=PATIENCE_MS)


def test_it_outlives_a_restart_of_the_daemon(chromium: Any):
    with browsers.tab(chromium, expect_refused=True) as tab:
        with serve_dashboard() as page:
            port = page.port
            opened(page, tab)
            page.publish("happy")
            wait(tab, part("label"), "happy")
        wait(tab, "#connection-text", "no connection; trying again")
        with serve_dashboard(port=port) as page:
            page.server.publish(event(0, "calm", source="/moodring/host/live/another-run"))
            wait(tab, part("label"), "calm")
            wait(tab, "#connection-text", "^live$")
            assert tab.locator("article").count() == 1
            with tab.expect_response("**/api/v1/mute") as answer:
                tab.get_by_role("button", name="Camera on mute").click()
            assert answer.value.status == 200


def test_off_loopback_it_asks_for_the_token_once(chromium: Any, tmp_path: Path):
    guard = create_guard("0.0.0.0", "none", str(tmp_path / "token"))  # noqa: S104  what it asks, not what it binds
    with serve_dashboard(guard=guard) as page, browsers.tab(chromium, expect_refused=True) as tab:
        opened(page, tab)
        page.publish("happy")
        tab.get_by_label("Token").fill("not the token at all")
        tab.get_by_role("button", name="Show the page").click()
        wait(tab, "#login-trouble", "not the token")
        tab.get_by_label("Token").fill(guard.token)
        tab.keyboard.press("Enter")
        wait(tab, part("label"), "happy")
        assert guard.token not in tab.url
        assert guard.token not in tab.evaluate("document.cookie + document.documentElement.outerHTML")
        opened(page, tab)
        wait(tab, part("label"), "happy")


def test_a_picture_is_shown_only_with_its_mark(page: DashboardHarness, chromium: Any):
    with VideoFile(str(SAMPLE_CLIP)) as video:
        frame = next(iter(video))
    preview = Preview()
    preview.on_frame(frame)
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        page.publish("happy")
        wait(tab, part("label"), "happy")
        assert tab.locator("#preview-mark").is_hidden()
        assert tab.locator(part("picture")).is_hidden()
    with serve_dashboard(previews={STREAM: preview.jpeg}) as shown, browsers.tab(chromium) as tab:
        opened(shown, tab)
        while tab.locator(f"{part('picture')}:not([hidden])").count() == 0:  # a picture is shown only while it is fresh
            preview.on_frame(frame)
            shown.publish("happy")
            tab.wait_for_timeout(50)
        wait(tab, "#preview-mark", "This page shows the camera's picture")
        assert tab.locator(part("picture")).evaluate("canvas => canvas.width") == 320


def test_a_name_that_is_markup_stays_text(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium) as tab:
        opened(page, tab)
        page.server.publish(event(0, source="/moodring/<img src=x onerror=alert(1)>/<b>/1"))
        wait(tab, part("name"), re.escape("<img src=x onerror=alert(1)>/<b>"))
        assert tab.locator("article img, article b").count() == 0


def test_axe_finds_no_fault(page: DashboardHarness, chromium: Any):
    """Light and dark, phone to wall screen, one stream and two, all well and not."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    looks = [
        ("light", 1280, (SOURCE,), "ok", "ok"),
        ("dark", 360, (SOURCE, OTHER), "muted", "ok"),
        ("light", 2560, (SOURCE, OTHER), "lost", "muted"),
    ]
    with browsers.tab(chromium, bypass_csp=True) as tab:
        opened(page, tab)
        for scheme, width, sources, camera, microphone in looks:
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": width, "height": 900})
            for source in sources:
                seq = next(page.seq)
                page.server.publish(event(seq, source=source, devices={"camera": camera, "microphone": microphone}))
            wait(tab, part("camera"), {"ok": "on"}.get(camera, camera))
            found = Axe().run(tab).response["violations"]
            assert not found, [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in found]
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"at {width} it scrolls sideways"


def test_nothing_moves_when_asked_not_to_and_bars_show_without_colours(page: DashboardHarness, chromium: Any):
    with browsers.tab(chromium, reduced_motion="reduce", forced_colors="active") as tab:
        opened(page, tab)
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
def test_no_box_moves_as_events_come_and_devices_go(page: DashboardHarness, chromium: Any, width: int):
    """From before the first event on nothing is pushed up or down: only words within boxes change."""
    boxes = """() => [...document.querySelectorAll("header, footer, article, article *")]
        .filter((one) => !one.closest("svg > *, .track, .meter, .label > *, .mutes span, details") && one.checkVisibility())
        .map((one) => [one, one.getBoundingClientRect()])
        .map(([one, {top, bottom}]) => `${one.tagName} ${one.dataset.is} ${top} to ${bottom}`)"""
    with browsers.tab(chromium, viewport={"width": width, "height": 860}) as tab:
        opened(page, tab)
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
            moved = [(before, now) for before, now in zip(first, tab.evaluate(boxes), strict=True) if before != now]
            assert not moved


def test_a_recorded_file_plays_on_the_same_page(chromium: Any, tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(to_json(event(seq, label)) + "\n" for seq, label in enumerate(["happy"] * 5 + ["fear"] * 5)))
    command = [sys.executable, "-m", "moodring.cli", "replay", str(path), "--page", "--page-port", "0"]
    with daemon(command) as (_, address), browsers.tab(chromium) as tab:
        tab.goto(address)
        wait(tab, part("label"), "fear")
        wait(tab, "#title", "recorded events, not live: events.jsonl")


@contextlib.contextmanager
def daemon(command: list[str], environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command that serves the page; yield the process and the page's address."""
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}), stderr=subprocess.PIPE, text=True
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"page on (http://\S+)", line):
                break
        else:
            pytest.fail("".join(said))
        yield process, found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


def test_a_live_run_on_the_bundled_clip(chromium: Any, tmp_path: Path):
    """The whole way: a camera that plays the clip, the daemon, the page; muted, killed, and started again."""
    import cv2  # noqa: PLC0415

    from tests.support.devices.mjpeg import SoftwareCamera  # noqa: PLC0415

    with VideoFile(str(SAMPLE_CLIP)) as video:
        pictures = [cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR) for frame in itertools.islice(video, 120)]
    events, config, port = tmp_path / "events.jsonl", tmp_path / "config.yaml", free_port()
    with SoftwareCamera(lambda i: pictures[i], len(pictures)) as camera, browsers.tab(chromium, expect_refused=True) as tab:
        config.write_text(
            f"video: {{source: '{camera.url}'}}\naudio: {{source: none}}\nevents: {{path: {events}}}\npage: {{port: {port}}}\n"
        )
        command = [sys.executable, "-m", "moodring.cli", "run", "--page", "--config", str(config)]
        with daemon(command) as (_, address):
            tab.goto(address)
            wait(tab, part("label"), "|".join(LABELS))
            before = coloured(tab)
            wait(tab, part("faces"), "^1 face")
            tab.get_by_role("button", name="Camera on mute").click()
            wait(tab, part("label"), "No signal")
            muted = [json.loads(line)["data"]["devices"]["camera"] for line in events.read_text().splitlines()]
            assert muted[-1] == "muted"
            tab.get_by_role("button", name="Camera muted unmute").click()
            wait(tab, part("label"), "|".join(LABELS))
            assert coloured(tab) >= before
            camera.unplug()
            wait(tab, part("trouble"), "Camera lost")
            camera.plug_in()
            wait(tab, part("camera"), "Camera on")
            wait(tab, part("label"), "|".join(LABELS))
        wait(tab, "#connection-text", "no connection; trying again")
        with daemon(command):
            wait(tab, "#connection-text", "^live$")
            wait(tab, part("label"), "|".join(LABELS))
