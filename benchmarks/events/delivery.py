"""Comparison of the published events with those that a subscriber received."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any, Protocol

POLL_S = 0.2


class Received(Protocol):
    """A subscriber that stores its messages."""

    def payloads(self, topic: str) -> list[str]: ...


def received_events(subscriber: Received) -> list[dict[str, Any]]:
    """Return the events that have arrived, with duplicates."""
    return [json.loads(body) for body in subscriber.payloads("events")]


def wait_for_events(subscriber: Received, expected_ids: set[str], timeout_s: float) -> bool:
    """Wait until the expected events have arrived; return whether they have within the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not expected_ids <= {event["id"] for event in received_events(subscriber)}:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def check_delivery(expected_ids: list[str], received: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many of the expected events were lost, and how many arrived twice, out of order or changed."""
    first: dict[str, dict[str, Any]] = {}
    payload_mismatches = 0
    for event in received:
        payload_mismatches += first.setdefault(event["id"], event) != event
    by_source: dict[str, list[int]] = {}
    for event in first.values():
        by_source.setdefault(event["source"], []).append(event["data"]["seq"])
    return {
        "reported": len(expected_ids),
        "arrived": len(received),
        "distinct": len(first),
        "lost": len(set(expected_ids) - set(first)),
        "duplicates": len(received) - len(first),
        "duplicates_that_differ": payload_mismatches,
        "out_of_order": sum(a > b for seqs in by_source.values() for a, b in itertools.pairwise(seqs)),
        "gaps": sum(max(seqs) + 1 - len(seqs) for seqs in by_source.values()),
        "sources": len(by_source),
    }
