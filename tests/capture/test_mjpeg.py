"""Multipart response of an HTTP camera: any chunking gives the same bodies, and other data is rejected at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.capture.mjpeg import (
    MAX_LINE_BYTES,
    MjpegStream,
    MultipartReader,
    NotMultipartError,
    is_complete_jpeg,
    jpeg_height,
)
from moodring.errors import DeviceError

JPEG = b"\xff\xd8 a frame \xff\xd9"


def chunked(data: bytes, sizes: list[int]) -> Callable[[], bytes]:
    """Return a function that returns the data in chunks of these sizes, repeated in turn, and then no bytes."""
    position = index = 0

    def recv() -> bytes:
        nonlocal position, index
        size = sizes[index % len(sizes)]
        index += 1
        chunk = data[position : position + size]
        position += len(chunk)
        return chunk

    return recv


def stream(bodies: list[bytes], *, length: bool, boundary: bytes = b"cut") -> bytes:
    length_line = lambda body: b"Content-Length: %d\r\n" % len(body) if length else b""  # noqa: E731
    parts = [
        b"--" + boundary + b"\r\nContent-Type: image/jpeg\r\n" + length_line(body) + b"\r\n" + body + b"\r\n" for body in bodies
    ]
    return b"".join(parts) + b"--" + boundary


@settings(max_examples=150)
@given(
    bodies=st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    length=st.booleans(),
)
def test_any_chunking_of_the_stream_gives_the_same_bodies(bodies: list[bytes], sizes: list[int], length: bool):
    bodies = [body.replace(b"\r\n--cut", b"") or b"x" for body in bodies]
    parts = MultipartReader(chunked(stream(bodies, length=length), sizes), b"cut")
    assert [parts.read_body() for _ in bodies] == bodies
    with pytest.raises(DeviceError, match="stopped sending frames"):
        parts.read_body()


@settings(max_examples=150)
@given(garbage=st.binary(max_size=3 * MAX_LINE_BYTES), sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_garbage_raises_device_error_after_a_limited_number_of_bytes(garbage: bytes, sizes: list[int]):
    parts = MultipartReader(chunked(garbage * 3, sizes), b"cut")
    with pytest.raises(DeviceError):
        [parts.read_body() for _ in range(50)]


@pytest.mark.parametrize("length", [b"-1", b"0", b"99999999999", b"many"])
def test_an_invalid_content_length_raises_device_error(length: bytes):
    with pytest.raises(DeviceError, match="announced a frame of"):
        MultipartReader(chunked(b"--cut\r\nContent-Length: " + length + b"\r\n\r\n" + JPEG, [99]), b"cut").read_body()


def test_a_boundary_may_be_declared_with_its_dashes():
    parts = MultipartReader(chunked(stream([JPEG], length=False), [7]), b"--cut")
    assert parts.read_body() == JPEG


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1, 1), (1080, 1920)])
def test_jpeg_height_is_read_from_the_frame_header(height: int, width: int):
    ok, data = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))
    assert ok
    assert is_complete_jpeg(data.tobytes())
    assert jpeg_height(data) == height


@given(data=st.binary(max_size=300))
def test_jpeg_height_of_other_data_is_none_or_a_valid_number(data: bytes):
    found = jpeg_height(np.frombuffer(b"\xff\xd8" + data, np.uint8))
    assert found is None or 0 < found < 65_536


def serve_once(response: bytes) -> tuple[str, list[bytes]]:
    """Send one response to one client, then close; return the address and the list of received requests."""
    server = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        with server, server.accept()[0] as client:
            requests.append(client.recv(4096))
            client.sendall(response)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}", requests


OK = b'HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: multipart/x-mixed-replace;boundary="cut"\r\n\r\n'


def test_the_request_contains_the_credentials_of_the_url():
    host, requests = serve_once(OK + stream([JPEG], length=True))
    connection = MjpegStream.connect(f"http://me:se%40cret@{host}/live?x=1", 2.0)
    assert connection.read().tobytes() == JPEG
    with pytest.raises(DeviceError, match="stopped sending frames"):
        connection.read()
    connection.close()
    request = requests[0].decode()
    assert request.startswith("GET /live?x=1 HTTP/1.0\r\n")
    assert f"Host: {host}\r\n" in request
    assert "Authorization: Basic bWU6c2VAY3JldA==\r\n" in request


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answered 'HTTP/1.1 401"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", "sent video/mp2t instead of multipart/x-mixed-replace"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "sent no content type instead of multipart/x-mixed-replace"),
    ],
)
def test_a_response_that_is_not_multipart_raises_not_multipart_error(response: bytes, message: str):
    host, _ = serve_once(response)
    with pytest.raises(NotMultipartError, match=message):
        MjpegStream.connect(f"http://{host}/", 2.0)


def test_a_damaged_jpeg_raises_device_error():
    host, _ = serve_once(OK + stream([b"not a JPEG"], length=True))
    connection = MjpegStream.connect(f"http://{host}/", 2.0)
    with pytest.raises(DeviceError, match="sent a damaged JPEG frame"):
        connection.read()
    connection.close()


def test_connect_raises_timeout_error_if_the_server_does_not_respond():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        MjpegStream.connect(f"http://127.0.0.1:{server.getsockname()[1]}/", 0.05)
