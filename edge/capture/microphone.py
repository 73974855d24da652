"""A live microphone through PyAudio (extra `mic`), at whatever rate and channels it has, as mono 16 kHz.

Where the sound server hangs, no question to PortAudio returns until it goes on or is killed. So one thread puts all questions
about a recording, from opening to closing, and nobody waits for it longer than a limit; once it has its answer it cleans up.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moodring.buffers import BoundedQueue
from moodring.errors import DeviceError
from moodring.process import trim_heap
from moodring.types import F32

if TYPE_CHECKING:
    from moodring.capture.sound import Resampler

BLOCK_S = 0.1  # what a voice is heard late by, at most; each block wakes three threads
READ_TIMEOUT_S = 1.0  # without a sample: then a microphone is lost
INT16_SCALE = np.float32(1 / 32_768)
OPEN_TIMEOUT_S, CLOSE_TIMEOUT_S, LIST_TIMEOUT_S = 2.0, 1.0, 5.0  # how long the sound server may take
QUEUE_BLOCKS = 10  # a second that nobody read
SERVER_NOT_RESPONDING = "the sound server does not answer"


_PORTAUDIO_LOCK = threading.Lock()  # PortAudio may be opened and closed by one thread at a time; reading needs no turn

_ALSA_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
_JACK_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


@functools.cache
def suppress_driver_messages() -> tuple[object, ...]:
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


def release_alsa_config() -> None:
    """Let ALSA unload what it loaded to look at every device: encoders and drawing libraries by the dozen, 10 MB of them.

    What is in use stays, and what is looked for later is loaded again (snd_config_update_free_global(3)).
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no ALSA
        ctypes.CDLL("libasound.so.2").snd_config_update_free_global()
    trim_heap()


def _pyaudio() -> Any:
    try:
        import pyaudio  # noqa: PLC0415  the extra `mic`, imported only when a microphone is wanted
    except ImportError as error:
        raise DeviceError(
            "microphones need PyAudio: install portaudio (Debian: apt-get install portaudio19-dev gcc), "
            "then pip install 'moodring[mic]'"
        ) from error
    suppress_driver_messages()
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
    """Return all input devices, without opening any; raise DeviceError without PyAudio, or where the sound server hangs."""
    pyaudio = _pyaudio()
    found: list[InputDevice] = []
    failure: list[str] = []

    def query_devices() -> None:
        with _PORTAUDIO_LOCK:
            try:
                audio = pyaudio.PyAudio()
            except OSError as error:
                failure.append(str(error))
                return
            found.extend(_input_devices(audio))
            audio.terminate()
            release_alsa_config()

    query_thread = threading.Thread(target=query_devices, name="list microphones", daemon=True)
    query_thread.start()
    query_thread.join(LIST_TIMEOUT_S)
    if query_thread.is_alive() or failure:
        raise DeviceError(f"microphones cannot be listed: {failure[0] if failure else SERVER_NOT_RESPONDING}")
    return found


def _input_devices(audio: Any) -> list[InputDevice]:
    try:
        default = int(audio.get_default_input_device_info()["index"])
    except OSError:
        default = -1
    devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
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
    """Reads blocks of mono float32 at 16 kHz. `device` is a name (or a part of one), an index, or "default"."""

    def __init__(self, device: str = "default", rate_hz: int = 16_000) -> None:
        self.name = device
        self.rate_hz = rate_hz
        self._dropped_before = 0
        self._capture_thread: _CaptureThread | None = None
        self._resampler: Resampler | None = None

    @property
    def blocks_dropped(self) -> int:
        """How many blocks were recorded, or should have been, and were not read in time, since the start."""
        return self._dropped_before + (self._capture_thread.dropped_blocks if self._capture_thread else 0)

    def open(self) -> None:
        """Open the device at its own rate; raise DeviceError where it is absent, busy or not permitted."""
        pyaudio = _pyaudio()
        self.close()
        if self._capture_thread is not None:  # it waits for the sound server still, and what it waits for comes to us as well
            raise DeviceError(f"microphone {self.name} cannot be opened: {SERVER_NOT_RESPONDING}")
        self._capture_thread = capture_thread = _CaptureThread(pyaudio, self.name, self.rate_hz)
        capture_thread.start()
        if not capture_thread.ready.wait(OPEN_TIMEOUT_S):
            raise DeviceError(f"microphone {self.name} cannot be opened: {SERVER_NOT_RESPONDING}")
        if capture_thread.failure:
            raise DeviceError(capture_thread.failure)
        self._resampler = None
        if (capture_thread.rate_hz, capture_thread.channels) != (self.rate_hz, 1):
            from moodring.capture.sound import Resampler  # noqa: PLC0415  PyAV is large, and most microphones need none of it

            self._resampler = Resampler(self.rate_hz)

    def read(self) -> tuple[F32, int]:
        """Wait for the next samples, float32 [N], and the monotonic time in ns at which the last was captured.

        Raises DeviceError where none come for a second.
        """
        if self._capture_thread is None:
            raise DeviceError(f"microphone {self.name} is not open")
        block = self._capture_thread.blocks.take(READ_TIMEOUT_S)
        if block is None:
            raise DeviceError(f"microphone {self.name} gives no more sound")
        raw, captured_ns = block
        samples = np.frombuffer(raw, np.int16)
        if self._resampler is None:
            return samples * INT16_SCALE, captured_ns
        return self._resampler.push_int16(samples, self._capture_thread.rate_hz, self._capture_thread.channels), captured_ns

    def close(self) -> None:
        """Let the device go; one whose sound server hangs goes when that answers or ends."""
        capture_thread = self._capture_thread
        if capture_thread is not None and capture_thread.stop(CLOSE_TIMEOUT_S):
            self._dropped_before += capture_thread.dropped_blocks
            self._capture_thread = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _CaptureThread(threading.Thread):
    """One recording from opening to closing: only this thread asks PortAudio about it, and only it may hang there.

    It reads and waits. PortAudio's own thread, which calls back instead, never ends once its sound server was killed.
    """

    def __init__(self, pyaudio: Any, name: str, rate_hz: int) -> None:
        super().__init__(name=f"record {name}", daemon=True)
        self.ready = threading.Event()  # it records, or there is trouble
        self.failure: str | None = None
        self.blocks: BoundedQueue[tuple[bytes, int]] = BoundedQueue(QUEUE_BLOCKS)
        self.rate_hz, self.channels = rate_hz, 1
        self._pyaudio = pyaudio
        self._device = name
        self._is_running = True
        self._overruns = 0

    @property
    def dropped_blocks(self) -> int:
        return self._overruns + self.blocks.dropped

    def stop(self, timeout_s: float) -> bool:
        """Tell it to end; return whether it did within so many seconds."""
        self._is_running = False
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        audio = stream = None
        try:
            with _PORTAUDIO_LOCK:
                if self._is_running:  # nobody may want it any more by the time that it is its turn
                    audio = self._pyaudio.PyAudio()
                    info = self._find_device(audio)
                    stream = self._open_stream(audio, info)
                    release_alsa_config()
            self.ready.set()
            while self._is_running and stream is not None:
                if not self._read_block(stream):  # PyAudio closes a stream of which something was lost
                    with _PORTAUDIO_LOCK:
                        stream = self._create_stream(audio, info)
        except DeviceError as error:
            self.failure = str(error)
        except OSError as error:
            self.failure = (
                f"microphone {self._device} cannot be opened ({error}): is it plugged in, free, and may this user use it "
                "(group audio)?"
            )
        finally:
            self.ready.set()
            self.blocks.close()
            with _PORTAUDIO_LOCK, contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
                if audio is not None:
                    audio.terminate()

    def _read_block(self, stream: Any) -> bool:
        """Take over the next block; return False where sound was lost before it, OSError where none is to come."""
        samples = b""
        try:
            samples = stream.read(round(self.rate_hz * BLOCK_S))
            # What arrived along with the block's end goes with it: it would make the next block late, and so each after it.
            if (available := stream.get_read_available()) > 0:
                samples += stream.read(available)
        except OSError as error:
            if error.errno != self._pyaudio.paInputOverflowed:
                raise
            self._overruns += 1 + bool(samples)  # the block that was read goes as well
            return False
        self.blocks.put((samples, time.monotonic_ns()))
        return True

    def _open_stream(self, audio: Any, info: Any) -> Any:
        """Let it record with our rate and one channel where a sound server converts for us, else with the device's own."""
        try:
            return self._create_stream(audio, info)
        except OSError:
            self.rate_hz = int(info["defaultSampleRate"])
            self.channels = max(1, min(2, int(info["maxInputChannels"])))
            return self._create_stream(audio, info)

    def _create_stream(self, audio: Any, info: Any) -> Any:
        # Whether a form is supported is found out by opening it: PyAudio's question for that keeps the interpreter while it
        # waits for the sound server, and with it the whole process.
        return audio.open(
            format=self._pyaudio.paInt16,
            channels=self.channels,
            rate=self.rate_hz,
            input=True,
            input_device_index=int(info["index"]),
            frames_per_buffer=round(self.rate_hz * BLOCK_S),
        )

    def _find_device(self, audio: Any) -> Any:
        if self._device == "default":
            return audio.get_default_input_device_info()
        devices = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
        inputs = [d for d in devices if d["maxInputChannels"] > 0]
        for device in inputs:
            if self._device == str(device["index"]) or self._device.lower() in str(device["name"]).lower():
                return device
        names = ", ".join(str(d["name"]) for d in inputs) or "none"
        raise DeviceError(f"no microphone is called {self._device!r}; there are: {names}")
