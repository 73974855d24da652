"""What a camera of this machine offers, and who has it. No such device is made of software here, so its driver is played."""

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
SIZES = {MJPG: [(640, 480), (1920, 1080)], YUYV: []}  # YUYV in steps, from 64x48 to 640x480


def driver(_: int, request: int, asked: bytearray) -> None:
    """Answer as a driver does: fill the structure in, EINVAL beyond the last."""
    if request == VIDIOC_ENUM_FMT:
        index = FMT_DESC.unpack(asked)[0]
        known = [MJPG, YUYV]
        answer = FMT_DESC.pack(index, 1, 0, b"", known[index], 0, 0, 0, 0) if index < len(known) else None
    elif request == VIDIOC_ENUM_FRAMESIZES:
        index, pixels, *_ = FRAME_SIZE_ENUM.unpack(asked)
        sizes = SIZES[pixels]
        if pixels == YUYV and index == 0:
            answer = FRAME_SIZE_ENUM.pack(0, pixels, 3, 64, 640, 8, 48, 480, 8, 0, 0)
        else:
            answer = FRAME_SIZE_ENUM.pack(index, pixels, 1, *sizes[index], *[0] * 6) if index < len(sizes) else None
    else:
        assert request == VIDIOC_ENUM_FRAMEINTERVALS
        index, pixels, width, height, *_ = FRAME_INTERVAL_ENUM.unpack(asked)
        rates = {(MJPG, 1920, 1080): [(1, 15), (1, 30)], (YUYV, 640, 480): [(1001, 30_000)]}[(pixels, width, height)]
        answer = (
            FRAME_INTERVAL_ENUM.pack(index, pixels, width, height, 1, *rates[index], *[0] * 6) if index < len(rates) else None
        )
    if answer is None:
        raise OSError(errno.EINVAL, "no more")
    asked[:] = answer


def test_the_structures_are_as_large_as_the_kernels():
    assert (FMT_DESC.size, FRAME_SIZE_ENUM.size, FRAME_INTERVAL_ENUM.size) == (64, 44, 52)
    assert (VIDIOC_ENUM_FMT, VIDIOC_ENUM_FRAMESIZES, VIDIOC_ENUM_FRAMEINTERVALS) == (0xC0405602, 0xC02C564A, 0xC034564B)


def test_a_camera_offers_the_largest_size_of_each_form(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    forms = capture_formats(node, driver)
    assert forms == [CaptureFormat("MJPG", 1920, 1080, 30.0), CaptureFormat("YUYV", 640, 480, 29.97)]
    assert str(forms[0]) == "MJPG to 1920x1080 at 30 a second"


def test_what_is_no_camera_offers_nothing(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    assert capture_formats(node) == []


def test_who_has_a_camera_open_is_named(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        assert any(str(other.pid) in name for name in processes_using(node))
        with pytest.raises(DeviceError, match=rf"cannot be opened: in use by .*\(process {other.pid}\)"):
            Camera(str(node)).open()
    assert processes_using(node) == []
    with pytest.raises(DeviceError, match="is it a camera that gives pictures"):
        Camera(str(node)).open()


@pytest.mark.skipif(sys.platform != "linux", reason="numbers name V4L2 nodes on Linux alone")
def test_a_number_that_is_no_camera_is_not_there():
    with pytest.raises(DeviceError, match="camera 97 is not there"):
        Camera("97").open()
