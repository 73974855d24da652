"""What an operating system may ask of a live run, and what it wants to be told: signals, and systemd's notifications."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

from edge.runtime import LiveRun
from edge.types import EmotionEvent

MUTES = {"SIGUSR1": "camera", "SIGUSR2": "microphone"}


def listen_to_signals(live: LiveRun, log: Callable[[str], None]) -> None:
    """Let SIGUSR1 mute the picture and SIGUSR2 the sound, and let either be taken in again the next time."""

    def toggle(number: int, _frame: FrameType | None) -> None:
        device = MUTES[signal.Signals(number).name]
        log(f"the {device} is {'muted' if live.toggle_mute(device) else 'on'}")

    for name in MUTES:
        if hasattr(signal, name):  # Windows has none of them
            signal.signal(getattr(signal, name), toggle)


def watched(publish: Callable[[EmotionEvent], None], live: LiveRun) -> Callable[[EmotionEvent], None]:
    """Return `publish`, which also tells systemd, where it started us, that the run is ready, how it is, and that it lives.

    A sign of life is given after an event and only while every device's reader does something: a hung run gets none.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return publish
    ready = False

    def publish_and_tell(event: EmotionEvent) -> None:
        nonlocal ready
        publish(event)
        if not ready:
            notify(address, "READY=1")
            ready = True
        if live.makes_progress():
            devices = ", ".join(f"{device} {state}" for device, state in event.devices.items())
            notify(address, f"WATCHDOG=1\nSTATUS={event.state}; {devices}")

    return publish_and_tell


def notify(address: str, message: str) -> None:
    """Send one message to systemd's socket (sd_notify(3)); where nobody listens, that is no reason to stop."""
    target = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), target)
