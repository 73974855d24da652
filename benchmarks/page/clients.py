"""Cost of ten clients, and the effect of clients that stop reading."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.page.server import EVENTS_HZ, ServerProcess, percentiles
from tests.support.servers.websocket import WebSocketClient

CLIENTS = 10
STALLED_CLIENTS = 5
SECONDS = 20.0
SETTLE_S = 2.0
TCP_ESTABLISHED = b"\x01"


def measure_clients() -> dict[str, Any]:
    """Return the CPU time of the server process with ten clients, without clients, and the difference."""
    cost = {}
    for count in (0, CLIENTS):
        with ServerProcess() as server, connected_clients(server.port, count):
            time.sleep(SETTLE_S)
            first, start = server.process_stats(), time.monotonic()
            time.sleep(SECONDS)
            last = server.process_stats()
            cost[count] = 100 * (last["cpu_s"] - first["cpu_s"]) / (time.monotonic() - start)
    return {
        "clients": CLIENTS, "events_hz": EVENTS_HZ, "seconds": SECONDS,
        "percent_of_a_core": {
            "without": round(cost[0], 2), "with": round(cost[CLIENTS], 2), "clients_alone": round(cost[CLIENTS] - cost[0], 2),
        },
    }  # fmt: skip


@contextlib.contextmanager
def connected_clients(port: int, count: int) -> Iterator[None]:
    """Connect this many clients, which read and answer pings in a separate process."""
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
    def read(client: WebSocketClient) -> None:
        with contextlib.suppress(OSError):
            while client.is_open and not stop.is_set():
                client.messages.clear()
                client.read()

    threads = [threading.Thread(target=read, args=(WebSocketClient(port),), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    stop.wait()


def measure_stalled_clients() -> dict[str, Any]:
    """Return when five clients that stop reading are disconnected, and the delay of the publishing thread with them."""
    with ServerProcess() as server:
        time.sleep(SECONDS / 2)
    baseline = server.results
    with ServerProcess() as server, contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(WebSocketClient(server.port)) for _ in range(STALLED_CLIENTS)]
        start = time.monotonic()
        disconnect_s = []
        for client in stalled:
            client.socket.settimeout(30)
            with contextlib.suppress(OSError):
                while not is_closed(client.socket):
                    time.sleep(0.05)
            disconnect_s.append(time.monotonic() - start)
        time.sleep(max(0.0, SECONDS / 2 - (time.monotonic() - start)))
    return {
        "gone_after_s": round(max(disconnect_s), 2), "clients_dropped": server.results["clients_dropped"],
        "publish_ms_without": percentiles(baseline["late_ms"]), "publish_ms_with_five": percentiles(server.results["late_ms"]),
    }  # fmt: skip


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection, without reading from it (Linux)."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != TCP_ESTABLISHED
