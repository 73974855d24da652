"""A simulated microphone: a private PulseAudio daemon whose source reads from a pipe.

PyAudio finds it as the default device through a private ALSA configuration. The sound settings of the machine do not change.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np

from moodring.types import F32, SAMPLE_RATE_HZ

BLOCK_SAMPLES = 160  # 10 ms
ASOUNDRC = """
</usr/share/alsa/alsa.conf>
pcm.!default {{ type pulse server "unix:{socket}" }}
ctl.!default {{ type pulse server "unix:{socket}" }}
"""
SKIP_REASON = "PulseAudio and PyAudio are not installed (Debian: pulseaudio, libasound2-plugins, and the extra mic)"


def is_available() -> bool:
    """Return whether PulseAudio, its ALSA plug-in and PyAudio are installed."""
    plugin = any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    try:
        import pyaudio  # noqa: F401, PLC0415
    except ImportError:
        return False
    return plugin and shutil.which("pulseaudio") is not None


class SoftwareMicrophone:
    """A microphone that repeats `samples` float32 [N] at 16 kHz in real time (None: silence).

    `folder` is for its files. A context manager that starts the daemon and kills it.
    """

    def __init__(self, folder: Path, samples: F32 | None = None) -> None:
        self._folder = folder
        self._socket, self._pipe = folder / "pulse.sock", folder / "source.pipe"
        self._config = folder / "asound.conf"
        self._config.write_text(ASOUNDRC.format(socket=self._socket), encoding="utf-8")
        sound = np.zeros(SAMPLE_RATE_HZ, np.float32) if samples is None else samples
        self._pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(self._config),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._clicks: queue.SimpleQueue[queue.SimpleQueue[int]] = queue.SimpleQueue()
        self._player: threading.Thread | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make this the default microphone of a process."""
        return {key: self._environment[key] for key in ("PULSE_SERVER", "ALSA_CONFIG_PATH", "HOME", "XDG_RUNTIME_DIR")}

    def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        self._socket.unlink(missing_ok=True)
        self._pipe.unlink(missing_ok=True)
        commands = (
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={self._socket}\n"
            f"load-module module-pipe-source source_name=microphone file={self._pipe} "
            f"format=s16le rate={SAMPLE_RATE_HZ} channels=1\n"
            "set-default-source microphone\n"
        )
        script = self._folder / "default.pa"
        script.write_text(commands, encoding="utf-8")
        options = ["-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "--use-pid-file=no"]
        log = (self._folder / "pulse.log").open("ab")
        self._process = subprocess.Popen(["pulseaudio", *options], env=self._environment, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while not (self._socket.exists() and self._pipe.exists()):
            assert self._process.poll() is None, (self._folder / "pulse.log").read_text()
            assert time.monotonic() < deadline, "PulseAudio did not start within 10 s"
            time.sleep(0.01)
        self._stopping.clear()
        self._player = threading.Thread(target=self._play, daemon=True)
        self._player.start()

    def kill(self) -> None:
        """Kill the daemon, as if the microphone were unplugged."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
            self._process = None
        if self._player is not None:
            self._player.join(5)

    def freeze(self) -> None:
        """Stop the daemon with SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def unfreeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def play_click(self) -> int:
        """Play a loud block of 10 ms next; return the time of its start in ns of the monotonic clock."""
        reply: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._clicks.put(reply)
        return reply.get(timeout=5)

    def _play(self) -> None:
        """Write a block of 10 ms every 10 ms."""
        handle = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        position, due = 0, time.monotonic()
        try:
            while not self._stopping.is_set():
                block = np.take(self._pcm, range(position, position + BLOCK_SAMPLES), mode="wrap")
                position = (position + BLOCK_SAMPLES) % len(self._pcm)
                with contextlib.suppress(queue.Empty):
                    reply = self._clicks.get_nowait()
                    block = np.full(BLOCK_SAMPLES, 30_000, "<i2")
                    reply.put(time.monotonic_ns())
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    os.write(handle, block.tobytes())
                due += BLOCK_SAMPLES / SAMPLE_RATE_HZ
                self._stopping.wait(max(0.0, due - time.monotonic()))
        finally:
            os.close(handle)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
