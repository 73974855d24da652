"""Sound cards that no sound server stands before: other rates, other channels, sound lost in them. PortAudio is played here."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from moodring.capture import microphone as microphones
from moodring.capture.microphone import BLOCK_S, Microphone
from moodring.errors import DeviceError

OVERFLOWED = -9981


class Card:
    """Stands in PyAudio's place: a card that records 48 kHz in stereo alone, and loses sound once where it is told to."""

    paInt16, paInputOverflowed = 8, OVERFLOWED  # noqa: N815  PyAudio's own names

    def __init__(self, *, overflow: bool = False, busy: bool = False) -> None:
        self.opened: list[tuple[int, int]] = []
        self.overflow, self.busy = overflow, busy
        self.closed = threading.Event()

    def PyAudio(self) -> Card:  # noqa: N802  the same
        return self

    def get_default_input_device_info(self) -> dict[str, Any]:
        return {"index": 0, "name": "card", "defaultSampleRate": 48_000.0, "maxInputChannels": 2}

    def open(self, *, rate: int, channels: int, **_: object) -> Card:
        if self.busy or (rate, channels) != (48_000, 2):
            raise OSError(-9985 if self.busy else -9997, "Device unavailable" if self.busy else "Invalid sample rate")
        self.opened.append((rate, channels))
        return self

    def read(self, count: int) -> bytes:
        time.sleep(BLOCK_S / 10)  # as a card does, though faster
        if self.overflow and len(self.opened) == 1:
            raise OSError(OVERFLOWED, "Input overflowed")
        return np.full(2 * count, 8192, "<i2").tobytes()

    def get_read_available(self) -> int:
        return 0

    def close(self) -> None:
        self.closed.set()

    def terminate(self) -> None:
        pass


def playing(monkeypatch: pytest.MonkeyPatch, card: Card) -> Microphone:
    monkeypatch.setattr(microphones, "_pyaudio", lambda: card)
    return Microphone()


def test_a_card_that_knows_its_own_form_alone_is_heard_in_ours(monkeypatch: pytest.MonkeyPatch):
    card = Card()
    with playing(monkeypatch, card) as microphone:
        pieces = [microphone.read()[0] for _ in range(5)]
    sound = np.concatenate(pieces)
    assert card.opened == [(48_000, 2)]
    assert sound.size == pytest.approx(5 * BLOCK_S * 16_000, abs=100)
    assert sound[-1000:] == pytest.approx(0.25, abs=0.01)
    assert card.closed.is_set()


def test_what_a_card_loses_is_counted_and_the_rest_is_heard(monkeypatch: pytest.MonkeyPatch):
    card = Card(overflow=True)
    with playing(monkeypatch, card) as microphone:
        assert microphone.read()[0].size
        assert microphone.blocks_dropped == 1
    assert len(card.opened) == 2  # PyAudio closes a stream that lost something
    assert microphone.blocks_dropped >= 1


def test_a_card_that_is_busy_says_so(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DeviceError, match=r"cannot be opened \(.*Device unavailable\): is it plugged in, free"):
        playing(monkeypatch, Card(busy=True)).open()
