"""A simulated camera in its own process, which a test can kill, freeze and restart."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any, Self

import cv2
import numpy as np

from tests.support.devices.mjpeg import JpegCamera
from tests.support.signals import face_frame

FRAME_COUNT = 60
SIZE, OTHER_SIZE = (320, 240), (400, 300)


def encode_jpegs(width: int, height: int) -> list[bytes]:
    """Return the frames of a moving face as JPEG."""
    return [cv2.imencode(".jpg", face_frame(i, width, height))[1].tobytes() for i in range(FRAME_COUNT)]


def random_bodies() -> list[bytes]:
    """Return bodies of random bytes; every second one has the start and end markers of a JPEG."""
    rng = np.random.default_rng(0)
    bodies = [rng.bytes(3000) for _ in range(20)]
    return [b"\xff\xd8" + body + b"\xff\xd9" if index % 2 else body for index, body in enumerate(bodies)]


class CameraProcess:
    """A running camera at `url`, which stays the same over restarts. A context manager that kills it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._jpegs = encode_jpegs(*SIZE)
        self._port = 0
        self._process: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start the process and wait until the camera serves."""
        self._pipe, child_pipe = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(child_pipe, self._port, self._jpegs), daemon=True)
        self._process.start()
        self._port = self._pipe.recv()

    def send(self, jpegs: list[bytes]) -> None:
        """Send these frames from now on."""
        self._pipe.send(jpegs)
        assert self._pipe.recv() == self._port

    def kill(self) -> None:
        """Kill the process, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
            self._process = None

    def freeze(self) -> None:
        """Stop the process with SIGSTOP."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def unfreeze(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve(pipe: Any, port: int, jpegs: list[bytes]) -> None:
    with JpegCamera(jpegs, port) as camera:
        pipe.send(camera.port)
        while True:
            camera.send(pipe.recv())
            pipe.send(camera.port)
