"""The page server in a separate process, whose CPU time and memory are read from the kernel."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import multiprocessing
import time
from collections.abc import Sequence
from typing import Any, Self

from benchmarks.daemon import read_process_stats
from tests.support.page import event, serve_dashboard, status

EVENTS_HZ = 10.0


def _serve(connection: Any, stop: Any) -> None:
    """Publish at `EVENTS_HZ` from the main thread, like a daemon, and measure the delay of each event."""
    with serve_dashboard() as page:
        connection.send(page.port)
        late_ms: list[float] = []
        due = time.monotonic()
        for seq in itertools.count():
            due += 1 / EVENTS_HZ
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            start = time.monotonic()
            page.server.publish(event(seq, ("happy", "sad")[seq // 20 % 2]))
            if seq % int(EVENTS_HZ) == 0:
                page.server.publish(status())
            late_ms.append(1000 * (time.monotonic() - min(start, due)))
        connection.send({
            "late_ms": late_ms, "clients_dropped": page.server.clients_dropped,
            "connections_refused": page.server.connections_refused, "said": page.log_lines,
        })  # fmt: skip


class ServerProcess:
    """A process that serves the page and publishes events. `results` holds the figures of the process after its end."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._stop = context.Event()
        self._process = context.Process(target=_serve, args=(child_connection, self._stop), daemon=True)
        self.results: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process.start()
        self.port: int = self._connection.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.results = self._connection.recv()
        self._process.join(10)

    def process_stats(self) -> dict[str, float]:
        """Return CPU time, resident memory, threads and open files of the process."""
        if self._process.pid is None:
            raise RuntimeError("the server process has not been started")
        return read_process_stats(self._process.pid)

    def send_request(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        """Send a request and return the status of the response; `_` in the name of a header stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {"Host": f"127.0.0.1:{self.port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            return connection.getresponse().status


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max, rounded to three decimals."""
    ordered = sorted(values)
    return {f"p{q}": round(ordered[min(len(ordered) - 1, q * len(ordered) // 100)], 3) for q in (50, 90, 99)} | {
        "max": round(ordered[-1], 3)
    }
