"""What an operating system may ask of a live run, and what it wants to be told: signals, and systemd's notifications."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from moodring.run.runtime import LiveRun
from moodring.types import EmotionEvent

MUTES = {"SIGUSR1": "camera", "SIGUSR2": "microphone"}


class Signals:
    """SIGUSR1 mutes the picture and SIGUSR2 the sound, and either lets it in again the next time; SIGHUP asks for a reload."""

    def __init__(self, live: LiveRun, log: Callable[[str], None]) -> None:
        self._live = live
        self._log = log
        self._reload_wanted = False

    def listen(self, *, reloads: bool) -> None:
        """Begin to listen. At a terminal SIGHUP says that it was closed, and ends the run as it always does."""
        for name in MUTES:
            if hasattr(signal, name):  # Windows has none of them
                signal.signal(getattr(signal, name), self._toggle)
        at_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        if reloads and not at_terminal and hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._want_reload)

    def take_reload(self) -> bool:
        """Return whether a reload was asked for since the last call."""
        wanted, self._reload_wanted = self._reload_wanted, False
        return wanted

    def _want_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_wanted = True

    def _toggle(self, number: int, _frame: FrameType | None) -> None:
        device = MUTES[signal.Signals(number).name]
        self._log(f"the {device} is {'muted' if self._live.toggle_mute(device) else 'on'}")


class Systemd:
    """Tells systemd, where it started us, that the run is ready, how it is, and that it lives."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET")
        self._ready = False

    def tell(self, newest: Mapping[str, EmotionEvent | None], *, alive: bool) -> None:
        """Give a sign of life after a round of events, but only while every device's reader and every stage does something."""
        if not self._address:
            return
        said = {name: event for name, event in newest.items() if event is not None}
        if not self._ready and len(said) == len(newest):
            notify(self._address, "READY=1")
            self._ready = True
        if alive:
            status = ". ".join(_in_words("" if len(newest) == 1 else f"{name}: ", event) for name, event in said.items())
            notify(self._address, f"WATCHDOG=1\nSTATUS={status}")


def _in_words(prefix: str, event: EmotionEvent) -> str:
    return f"{prefix}{event.state}; " + ", ".join(f"{device} {state}" for device, state in event.devices.items())


def notify(address: str, message: str) -> None:
    """Send one message to systemd's socket (sd_notify(3)); where nobody listens, that is no reason to stop."""
    target = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), target)
