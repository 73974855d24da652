"""A live microphone through PyAudio (extra `mic`), at whatever rate and channels it has, as mono 16 kHz."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edge.buffers import BoundedQueue
from edge.errors import DeviceError
from edge.types import F32

if TYPE_CHECKING:
    from edge.capture.sound import Resampler

BLOCK_S = 0.05  # what a voice is heard late by, at most; each block wakes three threads
SILENT_S = 1.0  # without a sample: then a microphone is lost
FULL_SCALE = np.float32(1 / 32_768)
CLOSE_S = 1.0  # closing one that hangs may take for ever: it is left to itself
WAITING_BLOCKS = 20  # a second that nobody read


# PortAudio may be asked by one thread at a time, but for a question that hangs: nobody waits for that longer than CLOSE_S.
_PORTAUDIO = threading.Lock()

_ALSA_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
_JACK_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


@functools.cache
def hush() -> tuple[object, ...]:
    """Give ALSA and JACK a handler that drops their messages: they print pages while PortAudio looks for devices.

    The handlers are returned, and so kept: the libraries call them as long as the process lives.
    """
    handlers = (_ALSA_HANDLER(lambda *_: None), _JACK_HANDLER(lambda _: None))
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no ALSA
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handlers[0])
    with contextlib.suppress(OSError, AttributeError):
        jack = ctypes.CDLL("libjack.so.0")
        jack.jack_set_error_function(handlers[1])
        jack.jack_set_info_function(handlers[1])
    return handlers


def forget_what_alsa_tried() -> None:
    """Let ALSA unload what it loaded to look at every device: encoders and drawing libraries by the dozen, 10 MB of them.

    What is in use stays, and what is looked for later is loaded again (snd_config_update_free_global(3)).
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no ALSA
        ctypes.CDLL("libasound.so.2").snd_config_update_free_global()


def _pyaudio() -> Any:
    try:
        import pyaudio  # noqa: PLC0415  the extra `mic`, imported only when a microphone is wanted
    except ImportError as error:
        raise DeviceError(
            "microphones need PyAudio: install portaudio (Debian: apt-get install portaudio19-dev gcc), "
            "then pip install 'moodring[mic]'"
        ) from error
    hush()
    return pyaudio


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone as PortAudio knows it."""

    index: int
    name: str
    rate_hz: int
    channels: int
    default: bool


def list_microphones() -> list[InputDevice]:
    """Return all input devices, without opening any; raise DeviceError where PyAudio is not installed."""
    pyaudio = _pyaudio()
    with _PORTAUDIO:
        audio = pyaudio.PyAudio()
        try:
            try:
                default = int(audio.get_default_input_device_info()["index"])
            except OSError:
                default = -1
            devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
        finally:
            audio.terminate()
    return [
        InputDevice(d["index"], str(d["name"]), int(d["defaultSampleRate"]), d["maxInputChannels"], d["index"] == default)
        for d in devices
        if d["maxInputChannels"] > 0
    ]


def default_microphone() -> str | None:
    """Return the name of the default input device, or None where there is none (or no PyAudio)."""
    try:
        return next((microphone.name for microphone in list_microphones() if microphone.default), None)
    except DeviceError:
        return None


class Microphone:
    """Reads blocks of mono float32 at 16 kHz. `device` is a name (or a part of one), an index, or "default".

    PortAudio hands over what it recorded from a thread of its own. Asking it would be simpler, but where the sound server was
    killed or hangs, no question to PortAudio ever returns; so nothing here waits for it without a limit.
    """

    def __init__(self, device: str = "default", rate_hz: int = 16_000) -> None:
        self.name = device
        self.rate_hz = rate_hz
        self.blocks_lost = 0
        self._audio: Any = None
        self._stream: Any = None
        self._recorded: BoundedQueue[tuple[bytes, int]] = BoundedQueue(WAITING_BLOCKS)
        self._resampler: Resampler | None = None
        self._native_rate_hz = rate_hz
        self._channels = 1

    def open(self) -> None:
        """Open the device at its own rate; raise DeviceError where it is absent, busy or not permitted."""
        self.close()
        pyaudio = _pyaudio()
        recorded = self._recorded = BoundedQueue(WAITING_BLOCKS)

        def take_over(samples: bytes, _count: int, _times: object, flags: int) -> tuple[None, int]:
            lost = recorded.dropped
            recorded.put((samples, time.monotonic_ns()))
            self.blocks_lost += recorded.dropped - lost + bool(flags & pyaudio.paInputOverflow)
            return None, int(pyaudio.paContinue)

        if not _PORTAUDIO.acquire(timeout=2 * CLOSE_S):
            raise DeviceError(f"microphone {self.name} cannot be opened: the sound server does not answer")
        try:
            self._start(pyaudio, take_over)
        except OSError as error:
            trouble = f"microphone {self.name} cannot be opened ({error}): is it plugged in, free, and may this user use it"
            raise DeviceError(f"{trouble} (group audio)?") from error
        finally:
            _PORTAUDIO.release()
            if self._stream is None:
                self.close()
        if (self._native_rate_hz, self._channels) != (self.rate_hz, 1):
            from edge.capture.sound import Resampler  # noqa: PLC0415  PyAV is large, and most microphones need none of it

            self._resampler = Resampler(self.rate_hz)

    def _start(self, pyaudio: Any, take_over: Callable[..., tuple[None, int]]) -> None:
        """Find the device and let it record; OSError or DeviceError where it will not."""
        self._audio = pyaudio.PyAudio()
        info = self._find()
        self._native_rate_hz, self._channels = self._form(info, pyaudio.paInt16)
        self._resampler = None
        self._stream = self._audio.open(
            format=pyaudio.paInt16,
            channels=self._channels,
            rate=self._native_rate_hz,
            input=True,
            input_device_index=int(info["index"]),
            frames_per_buffer=round(self._native_rate_hz * BLOCK_S),
            stream_callback=take_over,
        )
        forget_what_alsa_tried()

    def _form(self, info: Any, sample_format: int) -> tuple[int, int]:
        """Return the rate and channels to record with: ours where a sound server converts for us, else the device's own."""
        try:
            self._audio.is_format_supported(
                self.rate_hz, input_device=int(info["index"]), input_channels=1, input_format=sample_format
            )
        except ValueError:
            return int(info["defaultSampleRate"]), max(1, min(2, int(info["maxInputChannels"])))
        return self.rate_hz, 1

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
        """Wait for the next samples, float32 [N], and the monotonic time in ns at which the last was captured.

        Raises DeviceError where none come for a second.
        """
        if self._stream is None:
            raise DeviceError(f"microphone {self.name} is not open")
        block = self._recorded.take(SILENT_S)
        if block is None:
            raise DeviceError(f"microphone {self.name} gives no more sound")
        raw, captured_ns = block
        samples = np.frombuffer(raw, np.int16)
        if self._resampler is None:
            return samples * FULL_SCALE, captured_ns
        return self._resampler.push_int16(samples, self._native_rate_hz, self._channels), captured_ns

    def close(self) -> None:
        self._recorded = BoundedQueue(WAITING_BLOCKS)
        stream, audio = self._stream, self._audio
        self._stream = self._audio = None
        if audio is None:
            return
        closed, left = threading.Event(), threading.Event()
        with _PORTAUDIO:  # a close that hangs has by then let go of what others use: it hangs waiting for its own recording
            arguments = (stream, audio, closed, left)
            threading.Thread(target=_release, args=arguments, name=f"close {self.name}", daemon=True).start()
            if not closed.wait(CLOSE_S):
                left.set()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _release(stream: Any, audio: Any, closed: threading.Event, left: threading.Event) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.close()
    with _PORTAUDIO if left.is_set() else contextlib.nullcontext():  # who waits for this has the turn
        audio.terminate()
    closed.set()
