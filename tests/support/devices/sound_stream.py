"""Sound over HTTP as a network camera sends it: a WAV file without an end, in real time."""

from __future__ import annotations

import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import numpy as np

BLOCK_S = 0.02


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "audio/wav")
        self.end_headers()
        rate, pcm = self.server.rate_hz, self.server.pcm
        endless = 0x7FFF_FF00
        head = b"RIFF" + struct.pack("<I", endless) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, rate, 4 * rate, 4, 16)
        size = round(rate * BLOCK_S)
        due, position = time.monotonic(), 0
        try:
            self.wfile.write(head + b"data" + struct.pack("<I", endless - 36))
            while not self.server.unplugged.is_set():
                self.wfile.write(np.take(pcm, range(position, position + size), axis=0, mode="wrap").tobytes())
                position += size
                due += BLOCK_S
                time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, samples: np.ndarray, rate_hz: int) -> None:
        left = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        self.pcm, self.rate_hz = np.stack([left, left], axis=1), rate_hz
        self.unplugged = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class SoundStream:
    """Use as a context; `samples` float32 [N] play over and over, in stereo."""

    def __init__(self, samples: np.ndarray, rate_hz: int) -> None:
        self._server = _Server(samples, rate_hz)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/live.wav"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def unplug(self) -> None:
        if self._server.unplugged.is_set():
            return
        self._server.unplugged.set()
        self._server.shutdown()
        self._server.server_close()
