"""`moodring devices`: the cameras and microphones of this machine, and why some cannot be used."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from moodring.capture.camera import VIDEO_GROUP_HINT, camera_nodes
from moodring.capture.microphone import list_microphones
from moodring.capture.v4l2 import capture_formats, processes_using
from moodring.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Device:
    """One camera or microphone. `use` is its name for --video or --audio, `trouble` why it cannot be used and what to do."""

    kind: str
    use: str
    name: str
    detail: str = ""
    default: bool = False
    trouble: str = ""


def cameras(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> list[Device]:
    """Return the V4L2 cameras. The first one with permission to open it is the default."""
    found: list[Device] = []
    for node in camera_nodes(dev, classes):
        usable = os.access(node, os.R_OK | os.W_OK)
        found.append(
            Device(
                "camera",
                str(node),
                _read_line(classes / node.name / "name") or node.name,
                _detail(node) if usable else "",
                default=usable and not any(other.default for other in found),
                trouble="" if usable else f"no permission to open it: {VIDEO_GROUP_HINT}",
            )
        )
    return found


def _detail(node: Path) -> str:
    """Return the capture formats of a camera and the processes that use it."""
    try:
        formats = [str(each) for each in capture_formats(node)]
    except OSError as error:
        formats = [f"its formats cannot be read ({error.strerror})"]
    users = processes_using(node)
    return ", ".join([*formats, *([f"in use by {' and '.join(users)}"] if users else [])])


def _read_line(path: Path) -> str:
    """Return the text of a small file; an empty string where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return ""


def microphones() -> list[Device]:
    """Return the inputs that PortAudio lists. Raises DeviceError where PyAudio is not installed."""
    return [
        Device("microphone", str(m.index), m.name, f"{m.rate_hz} Hz, {m.channels} channels", m.default)
        for m in list_microphones()
    ]  # fmt: skip


def main(*, as_json: bool) -> int:
    """Print all devices; return 0 where at least one can be used, else 1."""
    found, trouble = cameras(), ""
    try:
        found += microphones()
    except DeviceError as error:
        trouble = str(error)
    if as_json:
        print(json.dumps({"devices": [asdict(device) for device in found], "trouble": trouble}))
    else:
        table = Table("", "--video / --audio", "name", "", box=None)
        for device in found:
            note = device.trouble or ", ".join(filter(None, ("default" if device.default else "", device.detail)))
            table.add_row(device.kind, device.use, device.name, note)
        console = Console()
        console.print(table if found else "no camera and no microphone found; replay a recording with moodring run FILE")
        if trouble:
            console.print(trouble)
    return 0 if any(not device.trouble for device in found) else 1
