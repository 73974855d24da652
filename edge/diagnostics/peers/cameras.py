"""Simulated network cameras in a separate process: MJPEG and sound over HTTP, with a mark in every frame.

Like a real camera, each one sends a frame when it is due. While its connection is full it blocks, then it sends the newest
frame and drops those in between. It has no queue beyond a send buffer of a few frames. The mark is a row of black and white
squares that encodes the frame number: it gives the age of a result, whatever buffers the frame went through.
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
from moodring.diagnostics.bench.recording import JPEG_QUALITY, Recording
from moodring.types import F32, SAMPLE_RATE_HZ, U8, VideoFrame

MARK_BITS, MARK_SIDE_PX = 12, 12  # number of squares, and their side
SEND_BUFFER_BYTES = 262_144  # four or five frames
SOUND_BLOCK_S = 0.04
WAV_ENDLESS_BYTES = 0x7FFF_FF00  # length in the header of a stream without an end


@dataclass(frozen=True, slots=True)
class CameraEndpoints:
    """The address of the cameras. They send `frame_count` different frames in a loop; frame 0 was due at `start_ns`."""

    port: int
    start_ns: int
    frame_count: int

    def video(self, fps: float, first: int = 0) -> str:
        """Return the URL of a camera of this frame rate that starts at frame `first`."""
        return f"http://127.0.0.1:{self.port}/video?fps={fps}&first={first}"

    def sound(self) -> str:
        """Return the URL of the microphone."""
        return f"http://127.0.0.1:{self.port}/sound"


class CaptureTimeDecoder:
    """Computes the capture time of a camera's frames from their marks. Frames must arrive in order; some may be missing."""

    def __init__(self, cameras: CameraEndpoints, fps: float, first: int = 0) -> None:
        self._cameras, self._fps, self._first = cameras, fps, first
        self._number: int | None = None

    def captured_at_ns(self, grey: U8, reduction: int = 1) -> int:
        """Return the capture time in ns of the monotonic clock; `grey` is uint8 [H, W], at 1/`reduction` of the sent size."""
        offset = read_mark(grey, MARK_SIDE_PX // reduction) - self._first
        if self._number is None:  # assume the newest frame with this mark
            newest = int((time.monotonic_ns() - self._cameras.start_ns) * self._fps / NS_PER_S)
            self._number = newest - (newest - offset) % self._cameras.frame_count
        self._number += (offset - self._number) % self._cameras.frame_count
        return self._cameras.start_ns + int(self._number * NS_PER_S / self._fps)

    def frame_captured_at_ns(self, frame: VideoFrame) -> int:
        """Return the capture time of a decoded frame, in ns of the monotonic clock."""
        return self.captured_at_ns(frame.grey, frame.reduction)


def draw_mark(grey: U8, number: int) -> U8:
    """Return a copy of a frame, uint8 [H, W], with the number in the lower left corner."""
    bits = [255 * (number >> bit & 1) for bit in range(MARK_BITS)]
    marked_frame = grey.copy()
    marked_frame[-MARK_SIDE_PX:, : MARK_BITS * MARK_SIDE_PX] = np.repeat(np.array(bits, np.uint8), MARK_SIDE_PX)
    return marked_frame


def read_mark(grey: U8, side: int = MARK_SIDE_PX) -> int:
    """Return the number in a marked frame, uint8 [H, W], whose squares have a side of `side` pixels."""
    row = grey[-(side // 2), side // 2 : MARK_BITS * side : side]
    return sum(1 << bit for bit, level in enumerate(row.tolist()) if level > 127)


@contextlib.contextmanager
def serve_recording(recording: Recording) -> Iterator[CameraEndpoints]:
    """Serve a recording from a separate process, to any number of clients."""
    with run_in_process(_serve, recording.jpegs, recording.sound) as cameras:
        yield cameras


@contextlib.contextmanager
def run_in_process(serve: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """Run `serve(*arguments, results, stop)` in a separate process until the block ends; yield what it puts into `results`."""
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


def _serve(jpegs: list[U8], sound: F32, results: Any, stop: Event) -> None:
    cv2.setNumThreads(1)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.jpegs = [_marked_jpeg(jpeg, number) for number, jpeg in enumerate(jpegs)]
    server.pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
    server.start_ns = time.monotonic_ns()
    results.put(CameraEndpoints(server.server_address[1], server.start_ns, len(jpegs)))
    server.timeout = 0.05
    while not stop.is_set():
        server.handle_request()
    server.server_close()


def _marked_jpeg(jpeg: U8, number: int) -> bytes:
    grey = decode_jpeg(jpeg, 1)
    if grey is None:
        raise ValueError(f"frame {number} of the recording is not a valid JPEG")
    bgr = cv2.cvtColor(draw_mark(grey, number), cv2.COLOR_GRAY2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


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
        with contextlib.suppress(OSError):  # the client has disconnected
            if self.path.startswith("/video"):
                self._send_video(query["fps"], int(query["first"]))
            else:
                self._send_sound()

    def _send_video(self, fps: float, first: int) -> None:
        self._send_headers("multipart/x-mixed-replace; boundary=frame")
        start_ns, jpegs = self.server.start_ns, self.server.jpegs
        number = 0
        while True:
            newest = int((time.monotonic_ns() - start_ns) * fps / NS_PER_S)
            number = max(number + 1, newest)
            time.sleep(max(0, start_ns + number * NS_PER_S / fps - time.monotonic_ns()) / NS_PER_S)
            jpeg = jpegs[(number + first) % len(jpegs)]
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg))

    def _send_sound(self) -> None:
        self._send_headers("audio/wav")
        self.wfile.write(_wav_header())
        size, pcm = 2 * round(SAMPLE_RATE_HZ * SOUND_BLOCK_S), self.server.pcm
        due_s, position = time.monotonic(), 0
        while True:
            self.wfile.write(pcm[position : position + size])
            position = (position + size) % (len(pcm) - len(pcm) % size)
            due_s += SOUND_BLOCK_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _send_headers(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _wav_header() -> bytes:
    """Return the header of an endless mono WAV stream of 16-bit samples."""
    fmt_chunk = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
    riff_size, data_size = struct.pack("<I", WAV_ENDLESS_BYTES), struct.pack("<I", WAV_ENDLESS_BYTES - 36)
    return b"RIFF" + riff_size + b"WAVEfmt " + fmt_chunk + b"data" + data_size
