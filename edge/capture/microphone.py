"""Microphones through PyAudio (extra `mic`), converted from their own sample rate and channels to mono at 16 kHz.

A call to PortAudio blocks while the sound server hangs. One thread per microphone therefore makes all calls, from opening to
closing, and its callers wait for it no longer than a limit. When a blocked call returns, the thread closes the device.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moodring.buffers import BoundedQueue
from moodring.capture.base import NO_MORE_SOUND, LiveDevice
from moodring.capture.downmix import MAX_CHANNELS
from moodring.capture.portaudio import input_device_infos, load_pyaudio, release_alsa_config
from moodring.errors import DeviceError
from moodring.types import F32, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from moodring.capture.sound import Resampler

BLOCK_S = 0.1  # the largest delay that capture adds to speech; each block wakes three threads
READ_TIMEOUT_S = 1.0  # without a sample; the microphone then counts as lost
INT16_SCALE = np.float32(1 / 32_768)
OPEN_TIMEOUT_S, CLOSE_TIMEOUT_S, LIST_TIMEOUT_S = 2.0, 1.0, 5.0  # limits on the response of the sound server
QUEUE_BLOCKS = 10  # one second of blocks that are captured and not read yet
SERVER_NOT_RESPONDING = "the sound server does not respond; restart it"

_PORTAUDIO_LOCK = threading.Lock()  # hold it to open or close PortAudio or a stream; reading a stream needs no lock


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone that PortAudio lists. `rate_hz` and `channels` are its own; `default` marks the default input device."""

    index: int
    name: str
    rate_hz: int
    channels: int
    default: bool


def list_microphones() -> list[InputDevice]:
    """Return all input devices without opening them. Raises DeviceError without PyAudio, or if the sound server hangs."""
    pyaudio = load_pyaudio()
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
    return [
        InputDevice(d["index"], str(d["name"]), int(d["defaultSampleRate"]), d["maxInputChannels"], d["index"] == default)
        for d in input_device_infos(audio)
    ]


def default_microphone() -> str | None:
    """Return the name of the default input device, or None if there is none or PyAudio is not installed."""
    try:
        return next((microphone.name for microphone in list_microphones() if microphone.default), None)
    except DeviceError:
        return None


class Microphone(LiveDevice):
    """A microphone of this machine. Delivers mono float32 at `rate_hz`.

    `device` is an index, a name or a part of one (upper and lower case are equal), or "default".
    """

    kind = "microphone"

    def __init__(self, device: str = "default", rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self.name = device
        self.rate_hz = rate_hz
        self._dropped_before = 0
        self._capture_thread: _CaptureThread | None = None
        self._resampler: Resampler | None = None

    @property
    def blocks_dropped(self) -> int:
        """Count of the blocks that were lost because of an overrun, or because they were not read in time."""
        return self._dropped_before + (self._capture_thread.dropped_blocks if self._capture_thread else 0)

    def open(self) -> None:
        """Open the device. Raises DeviceError if it is absent, busy or not permitted, or if the sound server hangs."""
        pyaudio = load_pyaudio()
        self.close()
        if self._capture_thread is not None:  # it still waits for the sound server; a new thread would wait as well
            raise self.error(f"cannot be opened: {SERVER_NOT_RESPONDING}")
        self._capture_thread = capture_thread = _CaptureThread(pyaudio, self.name, self.rate_hz)
        capture_thread.start()
        if not capture_thread.ready.wait(OPEN_TIMEOUT_S):
            raise self.error(f"cannot be opened: {SERVER_NOT_RESPONDING}")
        if capture_thread.failure:
            raise self.error(capture_thread.failure)
        self._resampler = None
        if (capture_thread.rate_hz, capture_thread.channels) != (self.rate_hz, 1):
            from moodring.capture.sound import Resampler  # noqa: PLC0415  imports PyAV, which is large and seldom needed here

            self._resampler = Resampler(self.rate_hz)

    def read(self) -> tuple[F32, int]:
        """Block until samples arrive; return them, float32 [N], and the monotonic time in ns at which the last was captured.

        Raises DeviceError if no sample arrives within `READ_TIMEOUT_S`.
        """
        if self._capture_thread is None:
            raise self.error("is not open")
        block = self._capture_thread.blocks.take(READ_TIMEOUT_S)
        if block is None:
            raise self.error(NO_MORE_SOUND)
        raw, captured_ns = block
        samples = np.frombuffer(raw, np.int16)
        if self._resampler is None:
            return samples * INT16_SCALE, captured_ns
        return self._resampler.push_int16(samples, self._capture_thread.rate_hz, self._capture_thread.channels), captured_ns

    def close(self) -> None:
        """Release the device. If the sound server hangs, the device is released when the server continues or ends."""
        capture_thread = self._capture_thread
        if capture_thread is not None and capture_thread.stop(CLOSE_TIMEOUT_S):
            self._dropped_before += capture_thread.dropped_blocks
            self._capture_thread = None


class _CaptureThread(threading.Thread):
    """Captures from one device, from opening to closing. Only this thread calls PortAudio for it, so only it can block there.

    It uses blocking reads. PortAudio's callback thread never ends once the sound server was killed.
    """

    def __init__(self, pyaudio: Any, name: str, rate_hz: int) -> None:
        super().__init__(name=f"record {name}", daemon=True)
        self.ready = threading.Event()  # set when the device captures, or could not be opened
        self.failure: str | None = None  # why the device could not be opened
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
        """Request the end of the thread; return whether it ended within `timeout_s`."""
        self._is_running = False
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        audio = stream = None
        try:
            with _PORTAUDIO_LOCK:
                if self._is_running:  # it may have been stopped while it waited for the lock
                    audio = self._pyaudio.PyAudio()
                    info = self._find_device(audio)
                    stream = self._open_stream(audio, info)
                    release_alsa_config()
            self.ready.set()
            while self._is_running and stream is not None:
                if not self._read_block(stream):  # PyAudio closes a stream after an overrun
                    with _PORTAUDIO_LOCK:
                        stream = self._create_stream(audio, info)
        except DeviceError as error:
            self.failure = str(error)
        except OSError as error:
            self.failure = (
                f"cannot be opened ({error}); check that it is plugged in and not in use, and that this user may use it "
                "(group audio)"
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
        """Read the next block into the queue; return False after an overrun. Raises OSError if the device delivers no more."""
        samples = b""
        try:
            samples = stream.read(round(self.rate_hz * BLOCK_S))
            # Samples that have arrived in the meantime join this block. Otherwise each following block would be late.
            if (available := stream.get_read_available()) > 0:
                samples += stream.read(available)
        except OSError as error:
            if error.errno != self._pyaudio.paInputOverflowed:
                raise
            self._overruns += 1 + bool(samples)  # the block that was already read is dropped as well
            return False
        self.blocks.put((samples, time.monotonic_ns()))
        return True

    def _open_stream(self, audio: Any, info: Any) -> Any:
        """Open a stream at `rate_hz` and one channel if a sound server converts, else at the device's own rate and channels."""
        try:
            return self._create_stream(audio, info)
        except OSError:
            self.rate_hz = int(info["defaultSampleRate"])
        channels = int(info["maxInputChannels"])
        try:
            self.channels = max(1, min(2, channels))
            return self._create_stream(audio, info)
        except OSError:
            if channels <= 2:
                raise
            self.channels = min(channels, MAX_CHANNELS)  # a device with a fixed number of channels
            return self._create_stream(audio, info)

    def _create_stream(self, audio: Any, info: Any) -> Any:
        # Opening the stream also tests whether the format is supported. PyAudio's is_format_supported would hold the
        # interpreter lock while it waits for the sound server, and so block the whole process.
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
        devices = input_device_infos(audio)
        for device in devices:
            if self._device == str(device["index"]) or self._device.lower() in str(device["name"]).lower():
                return device
        names = ", ".join(str(device["name"]) for device in devices) or "none"
        raise DeviceError(f"does not exist; available microphones: {names}")
