"""Multipart response of an HTTP camera: deviations are tolerated, any chunks give the same frames, other data is rejected."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.capture.http import connection, mjpeg
from moodring.capture.http.connection import MAX_LINE_BYTES, ByteReader
from moodring.capture.http.mjpeg import MjpegStream, MultipartReader, NotMultipartError, SnapshotError
from moodring.errors import DeviceError
from tests.support.media.wild_jpegs import STREAMS, jpeg, part, truncated, with_thumbnail

FRAMES = [jpeg(1), jpeg(2, progressive=True), with_thumbnail(jpeg(3)), jpeg(4), jpeg(5)]
MINIMAL = b"\xff\xd8\xff\xda\0\x02 %d \xff\xd9"  # a start of scan, image data


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


def reader(data: bytes, *sizes: int, boundary: bytes = b"cut") -> MultipartReader:
    return MultipartReader(ByteReader(chunked(data, list(sizes) or [4096])), boundary)


def frames_of(data: bytes, *sizes: int, boundary: bytes = b"cut") -> list[bytes]:
    """Return all frames up to the end of the data."""
    parts, found = reader(data, *sizes, boundary=boundary), []
    with contextlib.suppress(DeviceError):
        while True:
            found.append(parts.read_frame())
    return found


@pytest.mark.parametrize("unusual", STREAMS)
@pytest.mark.parametrize("size", [1460, 65_536])
def test_all_frames_of_an_unusual_stream_are_read(unusual: str, size: int):
    found = frames_of(STREAMS[unusual](FRAMES), size)
    assert [frame.rstrip(b"\0\r\n") for frame in found] == FRAMES  # is_complete_jpeg allows padding


@pytest.mark.parametrize("unusual", STREAMS)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=15)
def test_any_chunking_of_a_stream_gives_the_same_frames(unusual: str, sizes: list[int]):
    data = STREAMS[unusual]([MINIMAL % index for index in range(6)])
    assert frames_of(data, *sizes) == frames_of(data, len(data))


@pytest.mark.parametrize("unusual", [name for name in STREAMS if "image after" not in name])
def test_a_frame_is_returned_before_the_next_one_arrives(unusual: str):
    """Wrong lengths delay at most the first of them by one frame."""
    data = STREAMS[unusual](FRAMES)
    ends = [data.index(frame) + len(frame) for frame in FRAMES]
    received = 0

    def recv() -> bytes:
        nonlocal received
        received += 1
        return data[received - 1 : received]

    parts, late = MultipartReader(ByteReader(recv), b"cut"), []
    for end in ends:
        parts.read_frame()
        late.append(received > end + 64)
    assert sum(late) <= (3 if "after the end" in unusual else 1 if "third" in unusual else 0), late


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(
    "damage", [truncated, lambda data: data[:40], lambda data: data[50:], lambda _: b"not a JPEG", lambda data: data[:-2]]
)
def test_a_damaged_frame_costs_no_other_frame(damage: Callable[[bytes], bytes], length: bool):
    sent = [damage(data) if index in (1, 3) else data for index, data in enumerate(FRAMES)]
    data = b"".join(part(frame, len(frame) if length else None) for frame in sent)
    assert frames_of(data) == [FRAMES[0], b"", FRAMES[2], b"", FRAMES[4]]


@pytest.mark.parametrize("boundary", [b"cut", b"--cut", b"", b"--other"])
def test_a_boundary_may_be_declared_with_its_dashes_or_not_or_wrongly(boundary: bytes):
    assert frames_of(STREAMS["nothing"](FRAMES), boundary=boundary) == FRAMES


@settings(max_examples=150)
@given(garbage=st.binary(max_size=3 * MAX_LINE_BYTES), sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_garbage_raises_device_error_after_a_limited_number_of_bytes(garbage: bytes, sizes: list[int]):
    parts = reader(garbage * 3, *sizes)
    with pytest.raises(DeviceError):
        [parts.read_frame() for _ in range(5000)]


@pytest.mark.parametrize(
    "start", [b"", b"\xff\xd8\xff\xda\0\x02", b"--cut\r\n\r\n", b"--cut\r\n\r\n\xff\xd8\xff\xda\0\x02", b"--cut"]
)
def test_an_endless_part_raises_device_error(start: bytes):
    parts = MultipartReader(ByteReader(chunked(start + b"x" * 70_000_000, [1_000_000])), b"cut")
    with pytest.raises(DeviceError, match="not a multipart stream"):
        parts.read_frame()


LIMIT = 512  # lowered, so that small inputs reach it


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 100_000])
@pytest.mark.parametrize("excess", [-1, 0, 1, 2])
@pytest.mark.parametrize(
    ("limit", "make"),
    [
        ("MAX_BETWEEN_BYTES", lambda length: b"x" * length + b"--cut\r\n\r\n" + MINIMAL % 1),
        ("MAX_JPEG_BYTES", lambda length: b"--cut\r\n\r\n" + (MINIMAL % 1)[:-2] + b"x" * (length - 11) + b"\xff\xd9"),
        ("MAX_JPEG_BYTES", lambda length: b"--cut\r\n\r\n" + (MINIMAL % 1)[:-2] + b"x" * (length - 11) + b"\xff\xd8"),
        ("MAX_LINE_BYTES", lambda length: b"--cut\r\n" + b"x" * (length - 1) + b"\n\n" + MINIMAL % 1),
    ],
)
def test_a_limit_does_not_depend_on_the_blocks(
    monkeypatch: pytest.MonkeyPatch, limit: str, make: Callable[[int], bytes], excess: int, size: int
):
    for module in (mjpeg, connection):
        monkeypatch.setattr(module, limit, LIMIT, raising=False)
    data = make(LIMIT + excess) + b"\r\n--cut\r\n\r\n" + MINIMAL % 2
    found = frames_of(data, size)
    assert found == frames_of(data, 1)
    assert len(found) == (2 if excess <= 0 else 0)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_boundary_that_contains_the_start_of_a_frame_is_not_used(size: int):
    """Otherwise the size of the blocks would decide which of both is found first."""
    strange = b"--\xff\xd8\xff\xda\0\x02 text"
    data = b"".join(strange + b"\r\n\r\n" + MINIMAL % index + b"\r\n" for index in range(3))
    assert frames_of(data, size, boundary=strange) == frames_of(data, 1, boundary=strange)


# The response


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
BODY = STREAMS["nothing"](FRAMES)


def test_the_request_contains_the_credentials_of_the_url():
    host, requests = serve_once(OK + BODY)
    connection = MjpegStream.connect(f"http://me:se%40cret@{host}/live feed?x=1#part", 2.0)
    for frame in FRAMES:
        assert connection.read().tobytes() == frame
    with pytest.raises(DeviceError, match="stopped sending frames"):
        connection.read()
    connection.close()
    request = requests[0].decode()
    assert request.startswith("GET /live%20feed?x=1 HTTP/1.0\r\n")
    assert f"Host: {host}\r\n" in request
    assert "Authorization: Basic bWU6c2VAY3JldA==\r\n" in request


def in_chunks(body: bytes) -> bytes:
    blocks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "response",
    [
        OK.replace(b"\r\n", b"\n") + BODY,
        b"\r\n\r\n" + OK + BODY,
        OK.partition(b"\r\n")[2] + BODY,  # no status line
        BODY,  # no header
        b"ICY 200 OK\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n" + BODY,
        b"HTTP/1.0 200\r\ncontent-type:Multipart/X-Mixed-Replace\r\n\r\n" + BODY,
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,  # no content type
        b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + BODY,
        b"HTTP/1.0 200 OK\r\nContent-Type: video/x-motion-jpeg\r\n\r\n" + b"".join(FRAMES),
        OK[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(BODY),
        OK[:-2] + b"Transfer-Encoding: Chunked\r\n\r\n" + in_chunks(STREAMS["no length"](FRAMES)),
    ],
)
def test_an_unusual_response_is_read(response: bytes):
    host, _ = serve_once(response)
    connection = MjpegStream.connect(f"http://{host}/", 2.0)
    assert [connection.read().tobytes() for _ in FRAMES] == FRAMES
    connection.close()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answered 'HTTP/1.1 401"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", "answered 'HTTP/1.1 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", "sent video/mp2t instead of multipart/x-mixed-replace"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "sent no content type instead of multipart/x-mixed-replace"),
    ],
)
def test_a_response_that_is_not_multipart_raises_not_multipart_error(response: bytes, message: str):
    host, _ = serve_once(response)
    with pytest.raises(NotMultipartError, match=message):
        MjpegStream.connect(f"http://{host}/", 2.0)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(1),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 9\r\n\r\n" + jpeg(1),
        b"Content-Type: image/jpg\r\n\r\n" + jpeg(1),
    ],
)
def test_a_response_of_one_image_raises_snapshot_error(response: bytes):
    host, _ = serve_once(response)
    with pytest.raises(SnapshotError, match=r"sent one JPEG image, not a stream: .* set video.snapshot_hz"):
        MjpegStream.connect(f"http://{host}/", 2.0)


@pytest.mark.parametrize(
    "response", [b"", b"\r\n", b"x", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\0" * 9000, b"HTTP/1.0 200 OK\r\n", OK]
)
def test_a_response_without_frames_raises_device_error(response: bytes):
    host, _ = serve_once(response)
    with pytest.raises((DeviceError, ConnectionResetError)):
        MjpegStream.connect(f"http://{host}/", 2.0).read()


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n", b"ffffffffff\r\n", b"\r\n\r\n\r\n", b"0\r\n\r\n"])
def test_damaged_chunks_raise_device_error(chunks: bytes):
    host, _ = serve_once(OK[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    with pytest.raises(DeviceError):
        MjpegStream.connect(f"http://{host}/", 2.0).read()


def test_connect_raises_timeout_error_if_the_server_does_not_respond():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        MjpegStream.connect(f"http://127.0.0.1:{server.getsockname()[1]}/", 0.05)
