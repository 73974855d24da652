"""A simulated network microphone: an endless WAV file over HTTP in real time."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from moodring.types import F32
from tests.support.devices.pluggable import PluggableDevice, serve_in_thread

BLOCK_S = 0.02


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "audio/wav")
        self.end_headers()
        rate, pcm = self.server.rate_hz, self.server.pcm
        channels = pcm.shape[1]
        size_bytes = 0x7FFF_FF00  # of the file, in its header
        head = (
            b"RIFF"
            + struct.pack("<I", size_bytes)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
        )
        block_samples = round(rate * BLOCK_S)
        due, position = time.monotonic(), 0
        try:
            self.wfile.write(head + b"data" + struct.pack("<I", size_bytes - 36))
            while not self.server.unplugged.is_set():
                self.wfile.write(np.take(pcm, range(position, position + block_samples), axis=0, mode="wrap").tobytes())
                position += block_samples
                due += BLOCK_S
                time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, samples: F32, rate_hz: int, gains: Sequence[float]) -> None:
        channels = [np.clip(gain * samples, -1, 1) * 32767 for gain in gains]
        self.pcm, self.rate_hz = np.stack(channels, axis=1).astype("<i2"), rate_hz
        self.unplugged = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class SoundStream(PluggableDevice):
    """A server that repeats `samples` float32 [N], in one channel for each of `gains`; by default in stereo."""

    def __init__(self, samples: F32, rate_hz: int, gains: Sequence[float] = (1.0, 1.0)) -> None:
        self._server = _Server(samples, rate_hz, gains)
        serve_in_thread(self._server)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/live.wav"

    def unplug(self) -> None:
        if self._server.unplugged.is_set():
            return
        self._server.unplugged.set()
        self._server.shutdown()
        self._server.server_close()
