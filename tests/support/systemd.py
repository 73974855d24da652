"""A stand-in for systemd with Type=notify, WatchdogSec and Restart=on-failure, for machines without systemd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Supervisor:
    """Runs a command and restarts it when it ends; kills it when it sends no keep-alive for `watchdog_s`. A context manager.

    `folder` is for the notification socket. `ready` and `hung` are process ids in order.
    """

    def __init__(self, command: Sequence[str], folder: Path, watchdog_s: float, environment: dict[str, str]) -> None:
        self._command, self._watchdog_s = list(command), watchdog_s
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(folder / "notify.sock"))
        self._channel.settimeout(0.1)
        self._environment = environment | {"NOTIFY_SOCKET": str(folder / "notify.sock")}
        self._stopping = threading.Event()
        self.ready: list[int] = []  # sent READY=1
        self.hung: list[int] = []  # killed by the watchdog
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            self.process = subprocess.Popen(self._command, env=os.environ | self._environment, stderr=subprocess.DEVNULL)
            self._watch(self.process)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        last_keepalive_s: float | None = None  # None until the first one: the watchdog does not limit the start
        while not self._stopping.is_set() and process.poll() is None:
            try:
                notifications = self._channel.recv(4096).decode().splitlines()
            except TimeoutError:
                notifications = []
            now_s = time.monotonic()
            if "READY=1" in notifications:
                self.ready.append(process.pid)
            if notifications:
                last_keepalive_s = now_s
            elif last_keepalive_s is not None and now_s - last_keepalive_s > self._watchdog_s:
                self.hung.append(process.pid)
                process.send_signal(signal.SIGABRT)
                process.send_signal(signal.SIGCONT)  # a stopped process cannot end; systemd does the same
                break
        if process.pid in self.hung:
            process.wait(10)
        process.kill()
        process.wait(10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(15)
        self._channel.close()
