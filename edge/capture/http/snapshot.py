"""A network camera that sends one JPEG for each request: its address is requested at a fixed rate."""

from __future__ import annotations

import contextlib
import time

import numpy as np

from moodring.capture.base import CapturedFrame, LiveDevice, error_reason
from moodring.capture.http.connection import Response
from moodring.capture.http.mjpeg import MULTIPART, MultipartReader
from moodring.capture.network import OPEN_ADVICE, READ_TIMEOUT_S, decode, is_image, open_container
from moodring.clock import NS_PER_S
from moodring.errors import DeviceError
from moodring.redaction import without_credentials

STREAM_ADVICE = "sends a stream, not one image: remove video.snapshot_hz"


class SnapshotCamera(LiveDevice):
    """A camera at http://[USER:PASSWORD@]HOST[:PORT]/PATH or https://... that sends a JPEG `rate_hz` times a second.

    Delivers undecoded frames with the monotonic time of their arrival.
    """

    kind = "camera"

    def __init__(self, url: str, rate_hz: float) -> None:
        self.name = without_credentials(url)
        self._url = url
        self._interval_ns = int(NS_PER_S / rate_hz)
        self._due_ns: int | None = None
        self._seq = 0

    def open(self) -> None:
        """Start the requests. Each is a connection of its own, so an error is raised by `read`."""
        self._due_ns = time.monotonic_ns()

    def read(self) -> CapturedFrame:
        """Wait until the next image is due, request it and return it. Raises DeviceError if the camera does not send one."""
        if self._due_ns is None:
            raise self.error("is not open")
        now_ns = time.monotonic_ns()
        time.sleep(max(0, self._due_ns - now_ns) / NS_PER_S)
        self._due_ns = max(now_ns, self._due_ns + self._interval_ns)  # what a slow camera misses is not made up for
        try:
            data = self._request()
        except (OSError, ValueError) as error:
            raise self.error(f"cannot be opened ({error_reason(error)}); {OPEN_ADVICE}") from error
        self._seq += 1
        return CapturedFrame(np.frombuffer(data, np.uint8), time.monotonic_ns(), self._seq - 1, decode)

    def _request(self) -> bytes:
        """Return the bytes of the next image, none if it is damaged."""
        if self._url.lower().startswith("http://"):
            try:
                with contextlib.closing(Response.request(self._url, READ_TIMEOUT_S)) as response:
                    if response.status == 200:
                        return _read_image(response)
            except DeviceError as error:
                raise self.error(str(error)) from error
        return self._request_with_pyav()

    def _request_with_pyav(self) -> bytes:
        """Request an image by HTTPS, with digest authentication, or through a redirect."""
        container = open_container(self, self._url, {})
        try:
            if not is_image(container) or not container.streams.video:
                raise self.error(STREAM_ADVICE)
            return bytes(next(container.demux(container.streams.video[0])))
        finally:
            container.close()

    def close(self) -> None:
        """Stop the requests."""
        self._due_ns = None


def _read_image(response: Response) -> bytes:
    if response.fields.get("content-type", "").lower().startswith(MULTIPART):
        raise DeviceError(STREAM_ADVICE)
    return MultipartReader(response.body).read_frame()
