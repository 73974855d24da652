"""The retained MQTT topic `state`: the newest event, published at once if it changed, otherwise once a second."""

from __future__ import annotations

import time
from dataclasses import dataclass

from moodring.types import EmotionEvent

STATE_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class StateMessage:
    """An event and its JSON."""

    event: EmotionEvent
    body: bytes


class StateTopic:
    """Decides when the state is due on one connection."""

    def __init__(self) -> None:
        self._sent: StateMessage | None = None
        self._sent_s = 0.0

    def due(self, newest: StateMessage | None) -> StateMessage | None:
        """Return the newest message if it is due now, and count it as sent; otherwise None.

        It is due if state, label or devices differ from the message sent last, or if that one is `STATE_INTERVAL_S` old.
        """
        if newest is None or newest is self._sent:
            return None
        now_s = time.monotonic()
        is_changed = self._sent is None or _state_key(newest.event) != _state_key(self._sent.event)
        if not is_changed and now_s - self._sent_s < STATE_INTERVAL_S:
            return None
        self._sent, self._sent_s = newest, now_s
        return newest


def _state_key(event: EmotionEvent) -> tuple[object, ...]:
    return event.state, event.label, event.devices
