"""Sound cards without a sound server: other sample rates and channels, overruns. PortAudio is simulated."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from moodring.capture import microphone as microphone_module
from moodring.capture.microphone import BLOCK_S, Microphone
from moodring.errors import DeviceError
from moodring.types import SAMPLE_RATE_HZ

OVERFLOWED = -9981


class Card:
    """Replaces the module pyaudio. The card records only 48 kHz stereo; `overflow` makes its first stream overrun."""

    paInt16, paInputOverflowed = 8, OVERFLOWED  # noqa: N815  names of PyAudio

    def __init__(self, *, overflow: bool = False, busy: bool = False) -> None:
        self.opened: list[tuple[int, int]] = []
        self.overflow, self.busy = overflow, busy
        self.closed = threading.Event()

    def PyAudio(self) -> Card:  # noqa: N802  as above
        return self

    def get_default_input_device_info(self) -> dict[str, Any]:
        return {"index": 0, "name": "card", "defaultSampleRate": 48_000.0, "maxInputChannels": 2}

    def open(self, *, rate: int, channels: int, **_: object) -> Card:
        if self.busy or (rate, channels) != (48_000, 2):
            raise OSError(-9985 if self.busy else -9997, "Device unavailable" if self.busy else "Invalid sample rate")
        self.opened.append((rate, channels))
        return self

    def read(self, count: int) -> bytes:
        time.sleep(BLOCK_S / 10)  # a card blocks as well, for longer
        if self.overflow and len(self.opened) == 1:
            raise OSError(OVERFLOWED, "Input overflowed")
        return np.full(2 * count, 8192, "<i2").tobytes()

    def get_read_available(self) -> int:
        return 0

    def close(self) -> None:
        self.closed.set()

    def terminate(self) -> None:
        pass


def microphone_on(monkeypatch: pytest.MonkeyPatch, card: Card) -> Microphone:
    monkeypatch.setattr(microphone_module, "load_pyaudio", lambda: card)
    return Microphone()


def test_audio_is_converted_to_mono_16_khz_if_the_card_supports_only_another_format(monkeypatch: pytest.MonkeyPatch):
    card = Card()
    with microphone_on(monkeypatch, card) as microphone:
        blocks = [microphone.read()[0] for _ in range(5)]
    sound = np.concatenate(blocks)
    assert card.opened == [(48_000, 2)]
    assert sound.size == pytest.approx(5 * BLOCK_S * SAMPLE_RATE_HZ, abs=100)
    assert sound[-1000:] == pytest.approx(0.25, abs=0.01)
    assert card.closed.is_set()


def test_capture_continues_after_an_overrun_and_counts_it(monkeypatch: pytest.MonkeyPatch):
    card = Card(overflow=True)
    with microphone_on(monkeypatch, card) as microphone:
        assert microphone.read()[0].size
        assert microphone.blocks_dropped == 1
    assert len(card.opened) == 2  # PyAudio closes a stream after an overrun
    assert microphone.blocks_dropped >= 1


def test_a_busy_card_raises_device_error(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        DeviceError, match=r"cannot be opened \(.*Device unavailable\); check that it is plugged in and not in use"
    ):
        microphone_on(monkeypatch, Card(busy=True)).open()
