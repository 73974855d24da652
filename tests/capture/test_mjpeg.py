"""The multipart answer of an HTTP camera: the same bodies for any chunking, and what is none is refused at once."""

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

JPEG = b"\xff\xd8 a picture \xff\xd9"


def chunked(data: bytes, sizes: list[int]) -> Callable[[], bytes]:
    """Return what gives the data in pieces of these sizes over and over, then nothing."""
    position = index = 0

    def take() -> bytes:
        nonlocal position, index
        size = sizes[index % len(sizes)]
        index += 1
        piece = data[position : position + size]
        position += len(piece)
        return piece

    return take


def stream(bodies: list[bytes], *, length: bool, boundary: bytes = b"cut") -> bytes:
    told = lambda body: b"Content-Length: %d\r\n" % len(body) if length else b""  # noqa: E731
    parts = [b"--" + boundary + b"\r\nContent-Type: image/jpeg\r\n" + told(body) + b"\r\n" + body + b"\r\n" for body in bodies]
    return b"".join(parts) + b"--" + boundary


@settings(max_examples=150)
@given(
    bodies=st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    length=st.booleans(),
)
def test_any_chunking_gives_the_same_bodies(bodies: list[bytes], sizes: list[int], length: bool):
    bodies = [body.replace(b"\r\n--cut", b"") or b"x" for body in bodies]
    parts = MultipartReader(chunked(stream(bodies, length=length), sizes), b"cut")
    assert [parts.read_body() for _ in bodies] == bodies
    with pytest.raises(DeviceError, match="gives no more frames"):
        parts.read_body()


@settings(max_examples=150)
@given(garbage=st.binary(max_size=3 * MAX_LINE_BYTES), sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_garbage_is_refused_and_never_read_without_end(garbage: bytes, sizes: list[int]):
    parts = MultipartReader(chunked(garbage * 3, sizes), b"cut")
    with pytest.raises(DeviceError):
        [parts.read_body() for _ in range(50)]


@pytest.mark.parametrize("length", [b"-1", b"0", b"99999999999", b"many"])
def test_an_impossible_length_is_refused(length: bytes):
    with pytest.raises(DeviceError, match="announces a picture of"):
        MultipartReader(chunked(b"--cut\r\nContent-Length: " + length + b"\r\n\r\n" + JPEG, [99]), b"cut").read_body()


def test_a_boundary_may_be_named_with_its_dashes():
    parts = MultipartReader(chunked(stream([JPEG], length=False), [7]), b"--cut")
    assert parts.read_body() == JPEG


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1, 1), (1080, 1920)])
def test_a_jpegs_height_is_read_from_its_head(height: int, width: int):
    ok, data = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))
    assert ok
    assert is_complete_jpeg(data.tobytes())
    assert jpeg_height(data) == height


@given(data=st.binary(max_size=300))
def test_whatever_is_no_jpeg_has_no_height_or_some_number(data: bytes):
    found = jpeg_height(np.frombuffer(b"\xff\xd8" + data, np.uint8))
    assert found is None or 0 < found < 65_536


def answering(answer: bytes) -> tuple[str, list[bytes]]:
    """Serve one answer to one client, then close; return the address, and what was asked."""
    server = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        with server, server.accept()[0] as client:
            asked.append(client.recv(4096))
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}", asked


OK = b'HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: multipart/x-mixed-replace;boundary="cut"\r\n\r\n'


def test_a_picture_is_asked_for_with_the_password_in_the_address():
    at, asked = answering(OK + stream([JPEG], length=True))
    connection = MjpegStream.connect(f"http://me:se%40cret@{at}/live?x=1", 2.0)
    assert connection.read().tobytes() == JPEG
    with pytest.raises(DeviceError, match="gives no more frames"):
        connection.read()
    connection.close()
    head = asked[0].decode()
    assert head.startswith("GET /live?x=1 HTTP/1.0\r\n")
    assert f"Host: {at}\r\n" in head
    assert "Authorization: Basic bWU6c2VAY3JldA==\r\n" in head


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answers 'HTTP/1.1 401"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", "gives video/mp2t"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "gives something without a type"),
    ],
)
def test_another_answer_is_told_apart(answer: bytes, message: str):
    at, _ = answering(answer)
    with pytest.raises(NotMultipartError, match=message):
        MjpegStream.connect(f"http://{at}/", 2.0)


def test_a_damaged_picture_is_said():
    at, _ = answering(OK + stream([b"no picture"], length=True))
    connection = MjpegStream.connect(f"http://{at}/", 2.0)
    with pytest.raises(DeviceError, match="sent a damaged picture"):
        connection.read()
    connection.close()


def test_one_who_says_nothing_is_waited_for_no_longer_than_told():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        MjpegStream.connect(f"http://127.0.0.1:{server.getsockname()[1]}/", 0.05)
