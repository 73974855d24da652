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
from moodring.memory import trim_heap
from moodring.types import F32

if TYPE_CHECKING:
    from moodring.capture.sound import Resampler

BLOCK_S = 0.1  # what a voice is heard late by, at most; each block wakes three threads
SILENT_S = 1.0  # without a sample: then a microphone is lost
FULL_SCALE = np.float32(1 / 32_768)
OPEN_S, CLOSE_S, LIST_S = 2.0, 1.0, 5.0  # how long the sound server may take
WAITING_BLOCKS = 10  # a second that nobody read
RESPONSELESS = "the sound server does not answer"


_PORTAUDIO = threading.Lock()  # PortAudio may be opened and closed by one thread at a time; reading needs no turn

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
    trim_heap()


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
    """Return all input devices, without opening any; raise DeviceError without PyAudio, or where the sound server hangs."""
    pyaudio = _pyaudio()
    found: list[InputDevice] = []
    trouble: list[str] = []

    def look() -> None:
        with _PORTAUDIO:
            try:
                audio = pyaudio.PyAudio()
            except OSError as error:
                trouble.append(str(error))
                return
            found.extend(_inputs(audio))
            audio.terminate()
            forget_what_alsa_tried()

    asking = threading.Thread(target=look, name="list microphones", daemon=True)
    asking.start()
    asking.join(LIST_S)
    if asking.is_alive() or trouble:
        raise DeviceError(f"microphones cannot be listed: {trouble[0] if trouble else RESPONSELESS}")
    return found


def _inputs(audio: Any) -> list[InputDevice]:
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
        self._lost_before = 0
        self._recording: _Recording | None = None
        self._resampler: Resampler | None = None

    @property
    def blocks_lost(self) -> int:
        """How many blocks were recorded, or should have been, and were not read in time, since the start."""
        return self._lost_before + (self._recording.lost if self._recording else 0)

    def open(self) -> None:
        """Open the device at its own rate; raise DeviceError where it is absent, busy or not permitted."""
        pyaudio = _pyaudio()
        self.close()
        if self._recording is not None:  # it waits for the sound server still, and what it waits for comes to us as well
            raise DeviceError(f"microphone {self.name} cannot be opened: {RESPONSELESS}")
        self._recording = recording = _Recording(pyaudio, self.name, self.rate_hz)
        recording.start()
        if not recording.begun.wait(OPEN_S):
            raise DeviceError(f"microphone {self.name} cannot be opened: {RESPONSELESS}")
        if recording.trouble:
            raise DeviceError(recording.trouble)
        self._resampler = None
        if (recording.rate_hz, recording.channels) != (self.rate_hz, 1):
            from moodring.capture.sound import Resampler  # noqa: PLC0415  PyAV is large, and most microphones need none of it

            self._resampler = Resampler(self.rate_hz)

    def read(self) -> tuple[F32, int]:
        """Wait for the next samples, float32 [N], and the monotonic time in ns at which the last was captured.

        Raises DeviceError where none come for a second.
        """
        if self._recording is None:
            raise DeviceError(f"microphone {self.name} is not open")
        block = self._recording.blocks.take(SILENT_S)
        if block is None:
            raise DeviceError(f"microphone {self.name} gives no more sound")
        raw, captured_ns = block
        samples = np.frombuffer(raw, np.int16)
        if self._resampler is None:
            return samples * FULL_SCALE, captured_ns
        return self._resampler.push_int16(samples, self._recording.rate_hz, self._recording.channels), captured_ns

    def close(self) -> None:
        """Let the device go; one whose sound server hangs goes when that answers or ends."""
        recording = self._recording
        if recording is not None and recording.ended(CLOSE_S):
            self._lost_before += recording.lost
            self._recording = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Recording(threading.Thread):
    """One recording from opening to closing: only this thread asks PortAudio about it, and only it may hang there.

    It reads and waits. PortAudio's own thread, which calls back instead, never ends once its sound server was killed.
    """

    def __init__(self, pyaudio: Any, name: str, rate_hz: int) -> None:
        super().__init__(name=f"record {name}", daemon=True)
        self.begun = threading.Event()  # it records, or there is trouble
        self.trouble: str | None = None
        self.blocks: BoundedQueue[tuple[bytes, int]] = BoundedQueue(WAITING_BLOCKS)
        self.rate_hz, self.channels = rate_hz, 1
        self._pyaudio = pyaudio
        self._device = name
        self._wanted = True
        self._overflows = 0

    @property
    def lost(self) -> int:
        return self._overflows + self.blocks.dropped

    def ended(self, within_s: float) -> bool:
        """Tell it to end; return whether it did within so many seconds."""
        self._wanted = False
        self.join(within_s)
        return not self.is_alive()

    def run(self) -> None:
        audio = stream = None
        try:
            with _PORTAUDIO:
                if self._wanted:  # nobody may want it any more by the time that it is its turn
                    audio = self._pyaudio.PyAudio()
                    info = self._find(audio)
                    stream = self._open(audio, info)
                    forget_what_alsa_tried()
            self.begun.set()
            while self._wanted and stream is not None:
                if not self._read(stream):  # PyAudio closes a stream of which something was lost
                    with _PORTAUDIO:
                        stream = self._stream(audio, info)
        except DeviceError as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = (
                f"microphone {self._device} cannot be opened ({error}): is it plugged in, free, and may this user use it "
                "(group audio)?"
            )
        finally:
            self.begun.set()
            self.blocks.close()
            with _PORTAUDIO, contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
                if audio is not None:
                    audio.terminate()

    def _read(self, stream: Any) -> bool:
        """Take over the next block; return False where sound was lost before it, OSError where none is to come."""
        samples = b""
        try:
            samples = stream.read(round(self.rate_hz * BLOCK_S))
            # What arrived along with the block's end goes with it: it would make the next block late, and so each after it.
            if (waiting := stream.get_read_available()) > 0:
                samples += stream.read(waiting)
        except OSError as error:
            if error.errno != self._pyaudio.paInputOverflowed:
                raise
            self._overflows += 1 + bool(samples)  # the block that was read goes as well
            return False
        self.blocks.put((samples, time.monotonic_ns()))
        return True

    def _open(self, audio: Any, info: Any) -> Any:
        """Let it record with our rate and one channel where a sound server converts for us, else with the device's own."""
        try:
            return self._stream(audio, info)
        except OSError:
            self.rate_hz = int(info["defaultSampleRate"])
            self.channels = max(1, min(2, int(info["maxInputChannels"])))
            return self._stream(audio, info)

    def _stream(self, audio: Any, info: Any) -> Any:
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

    def _find(self, audio: Any) -> Any:
        if self._device == "default":
            return audio.get_default_input_device_info()
        devices = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
        inputs = [d for d in devices if d["maxInputChannels"] > 0]
        for device in inputs:
            if self._device == str(device["index"]) or self._device.lower() in str(device["name"]).lower():
                return device
        names = ", ".join(str(d["name"]) for d in inputs) or "none"
        raise DeviceError(f"no microphone is called {self._device!r}; there are: {names}")
