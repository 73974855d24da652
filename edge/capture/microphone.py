"""A live microphone through PyAudio (extra `mic`), at whatever rate and channels it has, as mono 16 kHz."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Self

import av
import numpy as np

from edge.errors import DeviceError
from edge.types import F32

BLOCK_S = 0.02


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """ALSA and JACK print pages to file descriptor 2 while PortAudio looks for devices; keep the terminal clean."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _pyaudio() -> Any:
    try:
        import pyaudio  # noqa: PLC0415  the extra `mic`, imported only when a microphone is wanted
    except ImportError as error:
        raise DeviceError(
            "microphones need PyAudio: install portaudio (Debian: apt-get install portaudio19-dev gcc), "
            "then pip install 'moodring[mic]'"
        ) from error
    return pyaudio


def default_microphone() -> str | None:
    """Return the name of the default input device, or None where there is none (or no PyAudio)."""
    try:
        pyaudio = _pyaudio()
    except DeviceError:
        return None
    with _quiet_stderr():
        audio = pyaudio.PyAudio()
        try:
            return str(audio.get_default_input_device_info()["name"])
        except OSError:
            return None
        finally:
            audio.terminate()


class Microphone:
    """Reads blocks of mono float32 at 16 kHz. `device` is a name (or a part of one), an index, or "default"."""

    def __init__(self, device: str = "default", rate_hz: int = 16_000) -> None:
        self.name = device
        self.rate_hz = rate_hz
        self._audio: Any = None
        self._stream: Any = None
        self._resampler: av.AudioResampler | None = None
        self._native_rate_hz = rate_hz
        self._channels = 1

    def open(self) -> None:
        """Open the device at its own rate; raise DeviceError where it is absent, busy or not permitted."""
        self.close()
        pyaudio = _pyaudio()
        with _quiet_stderr():
            self._audio = pyaudio.PyAudio()
            try:
                info = self._find()
                self._native_rate_hz = int(info["defaultSampleRate"])
                self._channels = max(1, min(2, int(info["maxInputChannels"])))
                self._stream = self._audio.open(
                    format=pyaudio.paInt16,
                    channels=self._channels,
                    rate=self._native_rate_hz,
                    input=True,
                    input_device_index=int(info["index"]),
                    frames_per_buffer=round(self._native_rate_hz * BLOCK_S),
                )
            except OSError as error:
                self.close()
                raise DeviceError(
                    f"microphone {self.name} cannot be opened ({error}): is it plugged in, free, and may this user use it "
                    "(group audio)?"
                ) from error
        self._resampler = av.AudioResampler("fltp", rate=self.rate_hz)

    def _find(self) -> Any:
        if self.name == "default":
            return self._audio.get_default_input_device_info()
        devices = [self._audio.get_device_info_by_index(i) for i in range(self._audio.get_device_count())]
        inputs = [d for d in devices if d["maxInputChannels"] > 0]
        for device in inputs:
            if self.name == str(device["index"]) or self.name.lower() in str(device["name"]).lower():
                return device
        names = ", ".join(str(d["name"]) for d in inputs) or "none"
        raise DeviceError(f"no microphone is called {self.name!r}; there are: {names}")

    def read(self) -> tuple[F32, int]:
        """Block for the next samples, float32 [N], and the monotonic time in ns at which the last was captured."""
        if self._stream is None or self._resampler is None:
            raise DeviceError(f"microphone {self.name} is not open")
        wanted = round(self._native_rate_hz * BLOCK_S)
        try:
            raw = self._stream.read(wanted, exception_on_overflow=False)
        except OSError as error:
            raise DeviceError(f"microphone {self.name} was lost ({error})") from error
        now_ns = time.monotonic_ns()
        interleaved = np.frombuffer(raw, np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="mono" if self._channels == 1 else "stereo")
        frame.sample_rate = self._native_rate_hz
        blocks = [resampled.to_ndarray().mean(axis=0, dtype=np.float32) for resampled in self._resampler.resample(frame)]
        return (np.concatenate(blocks) if blocks else np.zeros(0, np.float32)), now_ns

    def close(self) -> None:
        with _quiet_stderr():
            if self._stream is not None:
                with contextlib.suppress(OSError):
                    self._stream.close()
                self._stream = None
            if self._audio is not None:
                self._audio.terminate()
                self._audio = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
