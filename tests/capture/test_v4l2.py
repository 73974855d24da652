"""What a camera of this machine offers, and who has it. No such device is made of software here, so its driver is played."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from moodring.capture.camera import Camera
from moodring.capture.v4l2 import (
    ENUM_FORMATS,
    ENUM_INTERVALS,
    ENUM_SIZES,
    FORMAT,
    INTERVAL,
    SIZE,
    PictureForm,
    holders,
    picture_forms,
)
from moodring.errors import DeviceError

MJPG, YUYV = (int.from_bytes(name, "little") for name in (b"MJPG", b"YUYV"))
SIZES = {MJPG: [(640, 480), (1920, 1080)], YUYV: []}  # YUYV in steps, from 64x48 to 640x480


def driver(_: int, request: int, asked: bytearray) -> None:
    """Answer as a driver does: fill the structure in, EINVAL beyond the last."""
    if request == ENUM_FORMATS:
        index = FORMAT.unpack(asked)[0]
        known = [MJPG, YUYV]
        answer = FORMAT.pack(index, 1, 0, b"", known[index], 0, 0, 0, 0) if index < len(known) else None
    elif request == ENUM_SIZES:
        index, pixels, *_ = SIZE.unpack(asked)
        sizes = SIZES[pixels]
        if pixels == YUYV and index == 0:
            answer = SIZE.pack(0, pixels, 3, 64, 640, 8, 48, 480, 8, 0, 0)
        else:
            answer = SIZE.pack(index, pixels, 1, *sizes[index], *[0] * 6) if index < len(sizes) else None
    else:
        assert request == ENUM_INTERVALS
        index, pixels, width, height, *_ = INTERVAL.unpack(asked)
        rates = {(MJPG, 1920, 1080): [(1, 15), (1, 30)], (YUYV, 640, 480): [(1001, 30_000)]}[(pixels, width, height)]
        answer = INTERVAL.pack(index, pixels, width, height, 1, *rates[index], *[0] * 6) if index < len(rates) else None
    if answer is None:
        raise OSError(errno.EINVAL, "no more")
    asked[:] = answer


def test_the_structures_are_as_large_as_the_kernels():
    assert (FORMAT.size, SIZE.size, INTERVAL.size) == (64, 44, 52)
    assert (ENUM_FORMATS, ENUM_SIZES, ENUM_INTERVALS) == (0xC0405602, 0xC02C564A, 0xC034564B)


def test_a_camera_offers_the_largest_size_of_each_form(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    forms = picture_forms(node, driver)
    assert forms == [PictureForm("MJPG", 1920, 1080, 30.0), PictureForm("YUYV", 640, 480, 29.97)]
    assert str(forms[0]) == "MJPG to 1920x1080 at 30 a second"


def test_what_is_no_camera_offers_nothing(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    assert picture_forms(node) == []


def test_who_has_a_camera_open_is_named(tmp_path: Path):
    node = tmp_path / "video0"
    node.touch()
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        assert any(str(other.pid) in name for name in holders(node))
        with pytest.raises(DeviceError, match=rf"cannot be opened: in use by .*\(process {other.pid}\)"):
            Camera(str(node)).open()
    assert holders(node) == []
    with pytest.raises(DeviceError, match="is it a camera that gives pictures"):
        Camera(str(node)).open()


@pytest.mark.skipif(sys.platform != "linux", reason="numbers name V4L2 nodes on Linux alone")
def test_a_number_that_is_no_camera_is_not_there():
    with pytest.raises(DeviceError, match="camera 97 is not there"):
        Camera("97").open()
