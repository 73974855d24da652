"""Attacks on the page server: foreign origins, an oversized body, slow requests and a flood of connections."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from benchmarks.page.clients import is_closed
from benchmarks.page.server import ServerProcess, percentiles
from tests.support.servers.websocket import WebSocketClient

CONNECTIONS, CONNECTIONS_OPEN = 10_000, 1000
SLOW_CLIENTS = 200
RELEASE_S = 7.0  # after the attacks, until the server has closed what they left


def measure_attacks() -> dict[str, Any]:
    """Return the response of the server to each attack, its resources afterwards, and the delay of its publishing thread."""
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
        time.sleep(RELEASE_S)
        last = server.process_stats()
        found["after"] = {"status": server.send_request("GET", "/"), "rss_mb": [first["rss_mb"], last["rss_mb"]],
                          "files": [first["files"], last["files"]], "threads": [first["threads"], last["threads"]]}  # fmt: skip
    found["publish_ms"] = percentiles(server.results["late_ms"])
    found["said"] = server.results["said"]
    return found


def _oversized_body(port: int) -> dict[str, float]:
    """Send a body of a gigabyte; return how much of it the server accepted, and when the connection ended."""
    start, sent = time.monotonic(), 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, contextlib.suppress(OSError):
        connection.sendall(b"POST /api/v1/mute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            sent += connection.send(bytes(1_000_000))
    return {"taken_mb": sent / 1e6, "ended_after_s": round(time.monotonic() - start, 3)}


def _slow_requests(server: ServerProcess) -> dict[str, Any]:
    """Send one byte a second on each of 200 connections for about ten seconds; meanwhile send one normal request a second."""
    response_ms: list[float] = []
    refused = 0
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(SLOW_CLIENTS)]
        for byte in b"GET / HTTP/":
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(bytes([byte]))
            start = time.monotonic()
            refused += server.send_request("GET", "/") != 200
            response_ms.append(1000 * (time.monotonic() - start))
            time.sleep(1.0)
        ended = sum(is_closed(connection) for connection in slow)
    return {
        "clients": SLOW_CLIENTS, "ended": ended, "others_refused": refused, "others_answered_ms": percentiles(response_ms),
    }  # fmt: skip


def _connection_flood(server: ServerProcess) -> dict[str, Any]:
    """Open 10,000 connections as fast as possible, up to 1000 at a time; send a normal request after each 1000."""
    response_ms: list[float] = []
    connections: list[socket.socket] = []
    most_files, refused = 0.0, 0
    start = time.monotonic()
    for number in range(CONNECTIONS):
        with contextlib.suppress(OSError):
            connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        if number % CONNECTIONS_OPEN == CONNECTIONS_OPEN - 1:
            most_files = max(most_files, server.process_stats()["files"])
            request_start = time.monotonic()
            refused += server.send_request("GET", "/") != 200
            response_ms.append(1000 * (time.monotonic() - request_start))
            for connection in connections:
                connection.close()
            connections.clear()
    return {
        "connections": CONNECTIONS, "seconds": round(time.monotonic() - start, 2), "most_open_files": most_files,
        "others_refused": refused, "others_answered_ms": percentiles(response_ms),
    }  # fmt: skip
