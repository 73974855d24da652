"""Signals that control a live run, and notifications to systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from moodring.run.ticks import TickLoop
from moodring.types import EmotionEvent

MUTE_SIGNALS = {"SIGUSR1": "camera", "SIGUSR2": "microphone"}


class Signals:
    """SIGUSR1 mutes or unmutes the camera, SIGUSR2 the microphone; SIGHUP requests a reload of the configuration."""

    def __init__(self, loop: TickLoop, log: Callable[[str], None]) -> None:
        self._loop = loop
        self._log = log
        self._reload_requested = False

    def listen(self, *, enable_reload: bool) -> None:
        """Install the handlers. On a terminal SIGHUP means that it was closed, and ends the run as usual."""
        for name in MUTE_SIGNALS:
            if hasattr(signal, name):  # Windows has none of them
                signal.signal(getattr(signal, name), self._toggle_mute)
        at_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        if enable_reload and not at_terminal and hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._request_reload)

    def pop_reload_request(self) -> bool:
        """Return whether a reload was requested since the last call."""
        requested, self._reload_requested = self._reload_requested, False
        return requested

    def _request_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_requested = True

    def _toggle_mute(self, number: int, _frame: FrameType | None) -> None:
        device = MUTE_SIGNALS[signal.Signals(number).name]
        self._log(f"the {device} is {'muted' if self._loop.toggle_mute(device) else 'on'}")


class Systemd:
    """Notifies systemd, where it started this process, of readiness, status and liveness."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET")
        self._ready = False

    def notify_status(self, newest: Mapping[str, EmotionEvent | None], *, alive: bool) -> None:
        """Send the status and, while `alive`, the watchdog keep-alive. `newest` is the newest event of each stream."""
        if not self._address:
            return
        events = {name: event for name, event in newest.items() if event is not None}
        if not self._ready and len(events) == len(newest):
            notify(self._address, "READY=1")
            self._ready = True
        if alive:
            status = ". ".join(_status_text("" if len(newest) == 1 else f"{name}: ", event) for name, event in events.items())
            notify(self._address, f"WATCHDOG=1\nSTATUS={status}")


def _status_text(prefix: str, event: EmotionEvent) -> str:
    return f"{prefix}{event.state}; " + ", ".join(f"{device} {state}" for device, state in event.devices.items())


def notify(address: str, message: str) -> None:
    """Send one message to systemd's socket (sd_notify(3)). An error is ignored: the run does not depend on it."""
    target = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), target)
