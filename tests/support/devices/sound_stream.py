"""A simulated network microphone: an endless WAV file over HTTP in real time."""

from __future__ import annotations

import struct
import threading
import time
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
        size_bytes = 0x7FFF_FF00  # of the file, in its header
        head = b"RIFF" + struct.pack("<I", size_bytes) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, rate, 4 * rate, 4, 16)
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

    def __init__(self, samples: F32, rate_hz: int) -> None:
        left = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        self.pcm, self.rate_hz = np.stack([left, left], axis=1), rate_hz
        self.unplugged = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class SoundStream(PluggableDevice):
    """A server that repeats `samples` float32 [N] in stereo."""

    def __init__(self, samples: F32, rate_hz: int) -> None:
        self._server = _Server(samples, rate_hz)
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
