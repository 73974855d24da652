"""`moodring devices`: this machine's cameras and microphones, and what keeps them from being used."""

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
    """One camera or microphone: `use` is what --video or --audio takes, `trouble` what is in the way and what to do."""

    kind: str
    use: str
    name: str
    detail: str = ""
    default: bool = False
    trouble: str = ""


def cameras(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> list[Device]:
    """Return the V4L2 cameras; the first that may be opened is the default."""
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
                trouble="" if usable else f"this user may not open it: {VIDEO_GROUP_HINT}",
            )
        )
    return found


def _detail(node: Path) -> str:
    """Say in which forms a camera gives pictures, and who uses it now."""
    try:
        forms = [str(form) for form in capture_formats(node)]
    except OSError as error:
        forms = [f"it cannot be asked ({error.strerror})"]
    users = processes_using(node)
    return ", ".join([*forms, *([f"in use by {' and '.join(users)}"] if users else [])])


def _read_line(path: Path) -> str:
    """Return a small file's text, or nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return ""


def microphones() -> list[Device]:
    """Return the inputs that PortAudio knows; raise DeviceError where PyAudio is not installed."""
    return [
        Device("microphone", str(m.index), m.name, f"{m.rate_hz} Hz, {m.channels} channels", m.default)
        for m in list_microphones()
    ]  # fmt: skip


def main(*, as_json: bool) -> int:
    """Print all devices; return 0 where there is any that can be used, else 1."""
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
        console.print(table if found else "no camera and no microphone was found; moodring run FILE reads a recording")
        if trouble:
            console.print(trouble)
    return 0 if any(not device.trouble for device in found) else 1
