"""Formats of V4L2 cameras and the processes that use them. No V4L2 device is simulated here; a function replaces its driver."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from moodring.capture.camera import Camera
from moodring.capture.v4l2 import (
    FMT_DESC,
    FRAME_INTERVAL_ENUM,
    FRAME_SIZE_ENUM,
    VIDIOC_ENUM_FMT,
    VIDIOC_ENUM_FRAMEINTERVALS,
    VIDIOC_ENUM_FRAMESIZES,
    CaptureFormat,
    capture_formats,
    processes_using,
)
from moodring.errors import DeviceError

MJPG, YUYV = (int.from_bytes(name, "little") for name in (b"MJPG", b"YUYV"))
SIZES = {MJPG: [(640, 480), (1920, 1080)], YUYV: []}  # YUYV has a range of sizes, from 64x48 to 640x480


def driver(_: int, request: int, buffer: bytearray) -> None:
    """Fill the structure as a driver does; raise EINVAL beyond the last entry."""
    if request == VIDIOC_ENUM_FMT:
        index = FMT_DESC.unpack(buffer)[0]
        formats = [MJPG, YUYV]
        filled = FMT_DESC.pack(index, 1, 0, b"", formats[index], 0, 0, 0, 0) if index < len(formats) else None
    elif request == VIDIOC_ENUM_FRAMESIZES:
        index, pixel_format, *_ = FRAME_SIZE_ENUM.unpack(buffer)
        sizes = SIZES[pixel_format]
        if pixel_format == YUYV and index == 0:
            filled = FRAME_SIZE_ENUM.pack(0, pixel_format, 3, 64, 640, 8, 48, 480, 8, 0, 0)
        else:
            filled = FRAME_SIZE_ENUM.pack(index, pixel_format, 1, *sizes[index], *[0] * 6) if index < len(sizes) else None
    else:
        assert request == VIDIOC_ENUM_FRAMEINTERVALS
        index, pixel_format, width, height, *_ = FRAME_INTERVAL_ENUM.unpack(buffer)
        rates = {(MJPG, 1920, 1080): [(1, 15), (1, 30)], (YUYV, 640, 480): [(1001, 30_000)]}[(pixel_format, width, height)]
        filled = (
            FRAME_INTERVAL_ENUM.pack(index, pixel_format, width, height, 1, *rates[index], *[0] * 6)
            if index < len(rates)
            else None
        )
    if filled is None:
        raise OSError(errno.EINVAL, "no more entries")
    buffer[:] = filled


def test_structures_and_request_codes_equal_those_of_the_kernel():
    assert (FMT_DESC.size, FRAME_SIZE_ENUM.size, FRAME_INTERVAL_ENUM.size) == (64, 44, 52)
    assert (VIDIOC_ENUM_FMT, VIDIOC_ENUM_FRAMESIZES, VIDIOC_ENUM_FRAMEINTERVALS) == (0xC0405602, 0xC02C564A, 0xC034564B)


def test_capture_formats_returns_the_largest_size_of_each_pixel_format(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    formats = capture_formats(node, driver)
    assert formats == [CaptureFormat("MJPG", 1920, 1080, 30.0), CaptureFormat("YUYV", 640, 480, 29.97)]
    assert str(formats[0]) == "MJPG up to 1920x1080 at 30 frames/s"


def test_capture_formats_of_another_file_is_empty(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    assert capture_formats(node) == []


def test_processes_that_use_a_camera_are_named(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        assert any(str(other.pid) in name for name in processes_using(node))
        with pytest.raises(DeviceError, match=rf"cannot be opened: it is in use by .*\(process {other.pid}\)"):
            Camera(str(node)).open()
    assert processes_using(node) == []
    with pytest.raises(DeviceError, match="check that no other program uses it, and that it is a camera that delivers frames"):
        Camera(str(node)).open()


@pytest.mark.skipif(sys.platform != "linux", reason="an index names a V4L2 node only on Linux")
def test_an_index_without_a_camera_raises_device_error():
    with pytest.raises(DeviceError, match="camera 97 does not exist"):
        Camera("97").open()
