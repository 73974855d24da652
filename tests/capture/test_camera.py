"""Cameras of this machine that are not there."""

from __future__ import annotations

import pytest

from moodring.capture.camera import Camera
from moodring.errors import DeviceError


@pytest.mark.parametrize("name", ["/dev/absent", "/dev/" + "x" * 5000, "/dev/a\0b"])
def test_a_camera_that_does_not_exist_raises_device_error(name: str):
    """A name that is longer than the system allows raised OSError, which counted as a bug of moodring."""
    with pytest.raises(DeviceError, match="does not exist; plug it in"):
        Camera(name).open()
