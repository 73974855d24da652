"""Network cameras made of software, in a process of their own: MJPEG and sound over HTTP, with a mark in every picture.

As a camera does, each sends a picture when it is due; where its connection is full it waits, and then sends the newest one:
what came in between is lost. It keeps no queue of its own beyond a send buffer of a few pictures. The mark, a row of black and
white squares, says which picture it is, so that whoever answers it later, over whatever buffers, can tell how old it was.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from moodring.capture.grey import decode_jpeg
from moodring.clock import NS_PER_S
from moodring.diagnostics.bench.recording import JPEG_QUALITY, RATE_HZ, Recording
from moodring.types import U8

MARK_BITS, MARK_SIDE_PX = 12, 12  # squares, and their pixels
SEND_BUFFER_BYTES = 262_144  # bytes: four or five pictures
SOUND_BLOCK_S = 0.04


@dataclass(frozen=True, slots=True)
class CameraEndpoints:
    """Where the cameras are: `pictures` different ones are sent over and over, picture 0 first at `start_ns`."""

    port: int
    start_ns: int
    frame_count: int

    def video(self, fps: float, first: int = 0) -> str:
        """The address of a camera of this rate; `first` lets each of several be at another picture."""
        return f"http://127.0.0.1:{self.port}/video?fps={fps}&first={first}"

    def sound(self) -> str:
        return f"http://127.0.0.1:{self.port}/sound"


class CaptureTimeDecoder:
    """Says when a camera took a picture, by its mark. Pictures must come in their order; some may be missing."""

    def __init__(self, cameras: CameraEndpoints, fps: float, first: int = 0) -> None:
        self._cameras, self._fps, self._first = cameras, fps, first
        self._number: int | None = None

    def captured_at_ns(self, grey: U8, reduction: int = 1) -> int:
        """Return when it was taken, in ns of the monotonic clock; uint8 [H, W], at 1/`reduction` of what was sent."""
        offset = read_mark(grey, MARK_SIDE_PX // reduction) - self._first
        if self._number is None:  # the newest that it can be
            newest = int((time.monotonic_ns() - self._cameras.start_ns) * self._fps / NS_PER_S)
            self._number = newest - (newest - offset) % self._cameras.frame_count
        self._number += (offset - self._number) % self._cameras.frame_count
        return self._cameras.start_ns + int(self._number * NS_PER_S / self._fps)


def draw_mark(grey: U8, number: int) -> U8:
    """Return a copy with the number in its lower left corner."""
    bits = [255 * (number >> bit & 1) for bit in range(MARK_BITS)]
    marked_frame = grey.copy()
    marked_frame[-MARK_SIDE_PX:, : MARK_BITS * MARK_SIDE_PX] = np.repeat(np.array(bits, np.uint8), MARK_SIDE_PX)
    return marked_frame


def read_mark(grey: U8, side: int = MARK_SIDE_PX) -> int:
    """Return the number of a marked picture whose squares have `side` pixels."""
    row = grey[-(side // 2), side // 2 : MARK_BITS * side : side]
    return sum(1 << bit for bit, level in enumerate(row.tolist()) if level > 127)


@contextlib.contextmanager
def serve_recording(recording: Recording) -> Iterator[CameraEndpoints]:
    """Serve a recording from a process of its own, to as many as ask."""
    with run_in_process(_serve, recording.jpegs, recording.sound) as cameras:
        yield cameras


@contextlib.contextmanager
def run_in_process(serve: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """Run `serve(*given, told, stop)` in a process of its own until the block ends; yield what it puts into `told`."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    stop = context.Event()
    process = context.Process(target=serve, args=(*arguments, results, stop), daemon=True)
    process.start()
    try:
        yield results.get()
    finally:
        stop.set()
        process.join(10)


def _serve(jpegs: list[U8], sound: np.ndarray, results: Any, stop: Event) -> None:
    cv2.setNumThreads(1)
    frame_count = [draw_mark(decode_jpeg(jpeg, 1), number) for number, jpeg in enumerate(jpegs)]
    server = _Server(("127.0.0.1", 0), _Handler)
    encoded = (
        cv2.imencode(".jpg", cv2.cvtColor(p, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) for p in frame_count
    )
    server.jpegs = [jpeg.tobytes() for _, jpeg in encoded]
    server.pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
    server.start_ns = time.monotonic_ns()
    results.put(CameraEndpoints(server.server_address[1], server.start_ns, len(jpegs)))
    server.timeout = 0.05
    while not stop.is_set():
        server.handle_request()
    server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    jpegs: list[bytes]
    pcm: bytes
    start_ns: int


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        query = {name: float(values[0]) for name, values in parse_qs(urlsplit(self.path).query).items()}
        with contextlib.suppress(OSError):  # the reader has gone
            if self.path.startswith("/video"):
                self._video(query["fps"], int(query["first"]))
            else:
                self._sound()

    def _video(self, fps: float, first: int) -> None:
        self._send_headers("multipart/x-mixed-replace; boundary=frame")
        start_ns, jpegs = self.server.start_ns, self.server.jpegs
        number = 0
        while True:
            newest = int((time.monotonic_ns() - start_ns) * fps / NS_PER_S)
            number = max(number + 1, newest)
            time.sleep(max(0, start_ns + number * NS_PER_S / fps - time.monotonic_ns()) / NS_PER_S)
            jpeg = jpegs[(number + first) % len(jpegs)]
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg))

    def _sound(self) -> None:
        self._send_headers("audio/wav")
        endless = 0x7FFF_FF00
        fmt_chunk = struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        self.wfile.write(
            b"RIFF" + struct.pack("<I", endless) + b"WAVEfmt " + fmt_chunk + b"data" + struct.pack("<I", endless - 36)
        )
        size, pcm = 2 * round(RATE_HZ * SOUND_BLOCK_S), self.server.pcm
        due_s, position = time.monotonic(), 0
        while True:
            self.wfile.write(pcm[position : position + size])
            position = (position + size) % (len(pcm) - len(pcm) % size)
            due_s += SOUND_BLOCK_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _send_headers(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
