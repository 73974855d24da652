"""What does the live page cost, and how does it bear a browser, many of them, and people who mean ill?

    python -m benchmarks.page [--json FILE] [--only PART,...]

Parts: weight, clients (ten at ten events a second), browser (first paint, frames, its processor time), stopped (a client that
stops reading, beside a pipeline), attacks (rebinding and foreign origins, a gigabyte, slow requests, ten thousand connections),
camera (lost and back, as the page shows it). Everything runs on this machine's loopback and ends by itself. The page's server
runs in a process of its own, whose processor time and memory the kernel counts; `browser` and `camera` need Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from benchmarks.report import machine, write_json
from moodring import process
from tests.support import browser as browsers
from tests.support.page import event, serve_dashboard, status
from tests.support.websocket import WebSocketClient

RATE_HZ = 10.0
CLIENTS = 10
SECONDS = 20.0
CONNECTIONS = 10_000
CLOCK_TICKS_HZ = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    process.install()  # a benchmark that is told to end takes what it started with it
    parts: dict[str, Callable[[], Any]] = {
        "weight": weight, "clients": clients, "browser": browser, "stopped": stalled_clients, "attacks": attacks, "camera": camera,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(parts))
    arguments = parser.parse_args()
    figures = {}
    for name in arguments.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures[name] = {**parts[name](), "load_average": os.getloadavg()[0]}
        previous = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
        write_json({**previous, "benchmark": "page", "machine": machine(), **figures}, arguments.json)


# a server in a process of its own


def _serve(rate_hz: float, results: Any, stop: Any) -> None:
    """Publish at a rate from the main thread, as a daemon does, and count how late each event leaves it."""
    with serve_dashboard() as page:
        results.send(page.port)
        late_ms: list[float] = []
        due = time.monotonic()
        for seq in itertools.count():
            due += 1 / rate_hz
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            start = time.monotonic()
            page.server.publish(event(seq, ("happy", "sad")[seq // 20 % 2]))
            if seq % int(rate_hz) == 0:
                page.server.publish(status())
            late_ms.append(1000 * (time.monotonic() - min(start, due)))
        results.send({
            "late_ms": late_ms, "clients_dropped": page.server.clients_dropped,
            "connections_refused": page.server.connections_refused, "said": page.log_lines,
        })  # fmt: skip


class ServerProcess:
    """The server's process: its port, and what the kernel counts of it."""

    def __init__(self, rate_hz: float = RATE_HZ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._stop = context.Event()
        self._process = context.Process(target=_serve, args=(rate_hz, child_connection, self._stop), daemon=True)
        self.results: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process.start()
        self.port = self._connection.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.results = self._connection.recv()
        self._process.join(10)

    def process_stats(self) -> dict[str, float]:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return {
            "cpu_s": (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_HZ,
            "rss_mb": int(fields[21]) * PAGE_BYTES / 1e6,
            "files": len(list(Path(f"/proc/{self._process.pid}/fd").iterdir())),
            "threads": int(fields[17]),
        }

    def send_request(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {"Host": f"127.0.0.1:{self.port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            return connection.getresponse().status


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{q}": round(ordered[min(len(ordered) - 1, q * len(ordered) // 100)], 3) for q in (50, 90, 99)} | {
        "max": round(ordered[-1], 3)
    }


# what is measured


def weight() -> dict[str, Any]:
    """Bytes of everything that a browser loads, with headers, and what importing the server costs."""
    static = Path(__file__).resolve().parents[1] / "edge" / "dashboard" / "static"
    with serve_dashboard() as page:
        files = {}
        for name in ("", *sorted(file.name for file in static.iterdir() if file.name != "index.html")):
            _, headers, body = page.send_request("GET", f"/{name}")
            files[name or "index.html"] = len(body) + sum(len(k) + len(v) + 4 for k, v in headers.items())
    return {"bytes": files, "bytes_in_all": sum(files.values()), "import": _import_cost()}


def _import_cost() -> dict[str, float]:
    code = """
import time, moodring.run.sinks, moodring.config, numpy, cv2
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
before, start = rss(), time.process_time()
import moodring.dashboard.opening
print(1000 * (time.process_time() - start), rss() - before)
"""
    runs = []
    for _ in range(7):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append([float(value) for value in done.stdout.split()])
    return {"cpu_ms": round(min(run[0] for run in runs), 1), "rss_mb": round(statistics.median(run[1] for run in runs), 1)}


def clients() -> dict[str, Any]:
    """Processor time of the server's whole process with ten clients, and with none: the difference is the clients'."""
    cost = {}
    for count in (0, CLIENTS):
        with ServerProcess() as server, connected_clients(server.port, count):
            time.sleep(2.0)
            first, start = server.process_stats(), time.monotonic()
            time.sleep(SECONDS)
            last = server.process_stats()
            cost[count] = 100 * (last["cpu_s"] - first["cpu_s"]) / (time.monotonic() - start)
    return {
        "clients": CLIENTS, "events_hz": RATE_HZ, "seconds": SECONDS,
        "percent_of_a_core": {
            "without": round(cost[0], 2), "with": round(cost[CLIENTS], 2), "clients_alone": round(cost[CLIENTS] - cost[0], 2),
        },
    }  # fmt: skip


@contextlib.contextmanager
def connected_clients(port: int, count: int) -> Iterator[None]:
    """Watch with so many clients, which read and answer pings in a process of their own."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_run_clients, args=(port, count, stop), daemon=True)
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(10)


def _run_clients(port: int, count: int, stop: Any) -> None:
    def read(watcher: WebSocketClient) -> None:
        with contextlib.suppress(OSError):
            while watcher.is_open and not stop.is_set():
                watcher.messages.clear()
                watcher.read()

    threads = [threading.Thread(target=read, args=(WebSocketClient(port),), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    stop.wait()


def browser() -> dict[str, Any]:
    """First paint, the label that is painted, frames and the renderer's processor time at ten events a second."""
    paints, labels = [], []
    with ServerProcess() as server, browsers.chromium() as chromium:
        for _ in range(7):
            with browsers.tab(chromium) as tab:
                tab.add_init_script("""new MutationObserver(() => {
                    const label = document.querySelector("[data-is='label']");
                    if (!window.useful && label && label.textContent.trim()) requestAnimationFrame(() => {
                        window.useful ??= performance.now();
                    });
                }).observe(document, {subtree: true, childList: true, characterData: true});""")
                tab.goto(f"http://127.0.0.1:{server.port}/")
                while not tab.evaluate("window.useful && performance.getEntriesByName('first-contentful-paint').length"):
                    tab.wait_for_timeout(50)
                paints.append(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                labels.append(tab.evaluate("window.useful"))
        with browsers.tab(chromium) as tab:
            tab.goto(f"http://127.0.0.1:{server.port}/")
            tab.wait_for_timeout(3000)
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable")
            first = _metrics(session)
            frames = tab.evaluate("""() => new Promise((done) => {
                const times = [];
                const frame = (time) => { times.push(time); times.length < 600 ? requestAnimationFrame(frame) : done(times); };
                requestAnimationFrame(frame);
            })""")
            last = _metrics(session)
    seconds = last["Timestamp"] - first["Timestamp"]
    gaps = [after - before for before, after in itertools.pairwise(frames)]
    return {
        "first_paint_ms": _percentiles(paints),
        "first_label_ms": _percentiles(labels),
        "frame_ms": _percentiles(gaps),
        "main_thread_percent_of_a_core": round(100 * (last["TaskDuration"] - first["TaskDuration"]) / seconds, 2),
        "script_percent_of_a_core": round(100 * (last["ScriptDuration"] - first["ScriptDuration"]) / seconds, 2),
    }


def _metrics(session: Any) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def stalled_clients() -> dict[str, Any]:
    """A client that stops reading: when it is gone, and what the publishing thread notices of five of them."""
    with ServerProcess() as server:
        time.sleep(SECONDS / 2)
    baseline = server.results
    with ServerProcess() as server, contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(WebSocketClient(server.port)) for _ in range(5)]
        start = time.monotonic()
        disconnect_s = []
        for watcher in stalled:
            watcher.socket.settimeout(30)
            with contextlib.suppress(OSError):
                while not _is_reset(watcher.socket):
                    time.sleep(0.05)
            disconnect_s.append(time.monotonic() - start)
        time.sleep(max(0.0, SECONDS / 2 - (time.monotonic() - start)))
    return {
        "gone_after_s": round(max(disconnect_s), 2), "clients_dropped": server.results["clients_dropped"],
        "publish_ms_without": _percentiles(baseline["late_ms"]), "publish_ms_with_five": _percentiles(server.results["late_ms"]),
    }  # fmt: skip


def _is_reset(connection: socket.socket) -> bool:
    """Whether the other side has closed, found out without reading anything."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x01"  # 1: established


def attacks() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with ServerProcess() as server:
        with contextlib.closing(WebSocketClient(server.port).socket):
            first = server.process_stats()
        found["foreign_names_and_origins"] = {
            "rebinding_host": server.send_request("GET", "/api/v1/state", Host="evil.example"),
            "foreign_origin": server.send_request("GET", "/api/v1/state", Origin="http://evil.example"),
            "foreign_origin_mutes": server.send_request("POST", "/api/v1/mute", "{}", Origin="http://evil.example"),
            "mute_without_anti_forgery": server.send_request("POST", "/api/v1/mute", "{}", Content_Type="application/json"),
            "traversal": server.send_request("GET", "/..%2f..%2fetc/passwd"),
        }
        found["gigabyte"] = _oversized_body(server.port)
        found["slow_requests"] = _slow_requests(server)
        found["connections"] = _connection_flood(server)
        time.sleep(7.0)
        last = server.process_stats()
        found["after"] = {"status": server.send_request("GET", "/"), "rss_mb": [first["rss_mb"], last["rss_mb"]],
                          "files": [first["files"], last["files"]], "threads": [first["threads"], last["threads"]]}  # fmt: skip
    found["publish_ms"] = _percentiles(server.results["late_ms"])
    found["said"] = server.results["said"]
    return found


def _oversized_body(port: int) -> dict[str, float]:
    start, sent = time.monotonic(), 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, contextlib.suppress(OSError):
        connection.sendall(b"POST /api/v1/mute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            sent += connection.send(bytes(1_000_000))
    return {"taken_mb": sent / 1e6, "ended_after_s": round(time.monotonic() - start, 3)}


def _slow_requests(server: ServerProcess) -> dict[str, Any]:
    """Two hundred clients send a byte a second each, for ten seconds; meanwhile somebody asks properly."""
    answers: list[float] = []
    refused = 0
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(200)]
        for byte in b"GET / HTTP/":
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(bytes([byte]))
            start = time.monotonic()
            refused += server.send_request("GET", "/") != 200
            answers.append(1000 * (time.monotonic() - start))
            time.sleep(1.0)
        ended = sum(_is_reset(connection) for connection in slow)
    return {"clients": 200, "ended": ended, "others_refused": refused, "others_answered_ms": _percentiles(answers)}


def _connection_flood(server: ServerProcess) -> dict[str, Any]:
    """Ten thousand connections one after the other, as fast as they go, each left open until a thousand are."""
    answers, left, most_files, refused = [], [], 0.0, 0
    start = time.monotonic()
    for number in range(CONNECTIONS):
        with contextlib.suppress(OSError):
            left.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        if number % 1000 == 999:
            most_files = max(most_files, server.process_stats()["files"])
            request_start_s = time.monotonic()
            refused += server.send_request("GET", "/") != 200
            answers.append(1000 * (time.monotonic() - request_start_s))
            for connection in left:
                connection.close()
            left.clear()
    return {
        "connections": CONNECTIONS, "seconds": round(time.monotonic() - start, 2), "most_open_files": most_files,
        "others_refused": refused, "others_answered_ms": _percentiles(answers),
    }  # fmt: skip


def camera() -> dict[str, Any]:
    """The camera of a daemon is pulled out and plugged in again: how long until the page says so, five times."""
    import cv2

    from benchmarks.live import SAMPLE_CLIP
    from moodring.capture.media import VideoFile
    from tests.support.devices.mjpeg import SoftwareCamera

    with VideoFile(str(SAMPLE_CLIP)) as video:
        frames = [cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR) for frame in itertools.islice(video, 120)]
    lost, back = [], []
    with (
        tempfile.TemporaryDirectory(prefix="moodring-") as folder,
        SoftwareCamera(lambda i: frames[i], len(frames)) as server,
        daemon(Path(folder), server.url) as address,
        browsers.chromium() as chromium,
        browsers.tab(chromium) as tab,
    ):
        tab.goto(address)
        for _ in range(5):
            _wait_for_text(tab, "camera", "Camera on")
            server.unplug()
            lost.append(_wait_for_text(tab, "camera", "Camera lost"))
            server.plug_in()
            back.append(_wait_for_text(tab, "camera", "Camera on"))
    return {"lost_s": [round(one, 2) for one in lost], "back_s": [round(one, 2) for one in back]}


def _wait_for_text(tab: Any, part: str, words: str) -> float:
    start = time.monotonic()
    tab.locator(f"[data-is='{part}']").filter(has_text=words).wait_for(timeout=30_000)
    return time.monotonic() - start


@contextlib.contextmanager
def daemon(folder: Path, url: str) -> Iterator[str]:
    (folder / "config.yaml").write_text(f"video: {{source: '{url}'}}\naudio: {{source: none}}\nevents: {{path: none}}\n")
    command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(folder / "config.yaml"), "--page-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield next(found[1] for line in process.stderr or () if (found := re.search(r"page on (http://\S+)", line)))
    finally:
        process.terminate()
        process.communicate(timeout=30)


if __name__ == "__main__":
    main()
