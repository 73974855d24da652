"""Soak test: the broker and the publishing process are killed at random times while many events are published."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.events.delivery import check_delivery, received_events, wait_for_events
from benchmarks.events.publisher import RATE_HZ, SPOOL, TOPIC, log, reported_ids, start_publisher
from benchmarks.recorder import MqttRecorder
from moodring.publish.mqtt.spool import Spool

# No limit on the messages in flight or in the broker's queues, so that the broker itself drops none.
BROKER_OPTIONS = ("allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
LAST_EVENTS_S = 30.0  # timeout for the events that are still on their way


class Kills(NamedTuple):
    """How often the broker and the publishing process are killed; the seed determines the times."""

    broker: int
    daemon: int
    seed: int
    broker_signal: signal.Signals


def measure(events: int, kills: Kills) -> dict[str, Any]:
    """Publish this many events through the kills; return what arrived and what was lost."""
    from tests.support.servers.broker import Broker  # needs the tools of the tests

    rng = random.Random(kills.seed)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(Broker(folder, *BROKER_OPTIONS))
        subscriber = stack.enter_context(MqttRecorder(broker.port, f"{TOPIC}/#"))
        broker.save()
        runs = itertools.count()
        daemon = start_publisher(events, broker.port, folder, next(runs))
        start_s = time.monotonic()
        for at_s, target in _kill_schedule(rng, kills, events / RATE_HZ):
            time.sleep(max(0.0, start_s + at_s - time.monotonic()))
            log(f"kill {target}; {len(subscriber.messages)} messages so far")
            if target == "broker":
                subscriber.wait_until_connected()
                broker.kill(kills.broker_signal)
                time.sleep(rng.uniform(0.2, 3.0))
                broker.start()
            elif daemon.poll() is None:
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()
                left = max(1, events - len(reported_ids(folder)))
                daemon = start_publisher(left, broker.port, folder, next(runs))
        if daemon.wait(600) != 0:
            raise SystemExit("the publishing process failed: see its error message above")
        expected_ids = reported_ids(folder)
        wait_for_events(subscriber, set(expected_ids), LAST_EVENTS_S)
        with Spool(folder / SPOOL, max_bytes=1, max_age_s=1e9) as spool:
            spool_counts = {"acknowledged_by_the_broker": len(expected_ids) - spool.pending, "spool_dropped": spool.dropped}
        return spool_counts | check_delivery(expected_ids, received_events(subscriber)) | {
            "broker_kills": kills.broker, "broker_signal": kills.broker_signal.name, "daemon_kills": kills.daemon,
            "seconds": round(time.monotonic() - start_s, 1), "rate_hz": RATE_HZ, "seed": kills.seed,
            "availability": subscriber.payloads("availability"),
        }  # fmt: skip


def _kill_schedule(rng: random.Random, kills: Kills, seconds: float) -> list[tuple[float, str]]:
    """Return the time in seconds and the target of each kill, in order."""
    return sorted(
        [(rng.uniform(0.03, 0.95) * seconds, "broker") for _ in range(kills.broker)]
        + [(rng.uniform(0.05, 0.9) * seconds, "daemon") for _ in range(kills.daemon)]
    )
