"""Buffers: every drop is counted, the order is kept, and the counters add up."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.buffers import REANCHOR_NS, AudioRing, BoundedQueue, LatestSlot
from moodring.clock import NS_PER_MS, NS_PER_S

RATE_HZ = 1000  # one sample a millisecond


@given(actions=st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_slot_captured_equals_taken_overwritten_and_waiting(actions: list[str]):
    slot: LatestSlot[int] = LatestSlot()
    waiting: int | None = None
    for number, action in enumerate(actions):
        if action == "put":
            slot.put(number)
            waiting = number
        else:
            assert slot.take() == waiting
            waiting = None
        assert slot.waiting == (waiting is not None)
        assert slot.captured == slot.taken + slot.overwritten + slot.waiting
    assert slot.captured == actions.count("put")


def test_slot_stores_a_falsy_item():
    slot: LatestSlot[int] = LatestSlot()
    slot.put(0)
    slot.put(0)
    assert slot.overwritten == 1
    assert slot.take() == 0
    assert (slot.taken, slot.captured) == (1, 2)


ring_actions = st.lists(st.one_of(st.just("read"), st.integers(0, 25)), max_size=60)


@settings(max_examples=200)
@given(actions=ring_actions, seconds=st.sampled_from([0.001, 0.007, 0.01, 0.03]))
def test_ring_written_equals_read_lost_and_waiting_in_order(actions: list[str | int], seconds: float):
    ring = AudioRing(RATE_HZ, seconds)
    written = 0
    for action in [*actions, "read"]:
        if action == "read":
            before = ring.read_samples + ring.lost
            found = ring.read()
            lost = max(0, written - ring.capacity - before)
            assert found.lost_samples == lost
            expected = np.arange(before + lost, written, dtype=np.float32)
            if expected.size:
                np.testing.assert_array_equal(found.block.samples, expected)
                # The value of a sample is its millisecond: the block's time is that of its first sample.
                assert found.block.capture_time_ns == int(expected[0]) * NS_PER_MS
            else:
                assert found.block is None
        else:
            ring.write(np.arange(written, written + action, dtype=np.float32), (written + action) * NS_PER_MS)
            written += action
        assert ring.written == written
        assert ring.waiting == written - ring.read_samples - ring.lost >= 0
    assert written == ring.read_samples + ring.lost
    assert ring.reanchored == 0


def test_ring_read_waits_for_the_requested_samples_until_the_deadline():
    ring = AudioRing(RATE_HZ, 1.0)
    ring.write(np.zeros(5, np.float32), 5 * NS_PER_MS)
    assert ring.read(0.001, at_least=6).block.samples.size == 5
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(ring.read(10.0, at_least=6).block.samples.size))
    reader.start()
    while reader.is_alive():  # it may not be waiting yet
        ring.write(np.zeros(3, np.float32), 8 * NS_PER_MS)
        reader.join(0.01)
    assert found[0] >= 6


def test_ring_read_returns_a_copy():
    ring = AudioRing(RATE_HZ, 0.01)
    ring.write(np.arange(5, dtype=np.float32), 5 * NS_PER_MS)
    block = ring.read().block
    ring.write(np.full(10, 9, np.float32), 15 * NS_PER_MS)
    np.testing.assert_array_equal(block.samples, np.arange(5))


def times_of(ring: AudioRing, arrivals_ms: list[float]) -> list[float]:
    """Write 20 ms at each arrival and return the end times of the blocks read."""
    ends = []
    for arrival_ms in arrivals_ms:
        ring.write(np.zeros(20, np.float32), round(arrival_ms * NS_PER_MS))
        ends.append(ring.read().block.end_time_ns / NS_PER_MS)
    return ends


def test_ring_times_samples_by_count_and_not_by_arrival():
    rng = np.random.default_rng(0)
    true_ms = 20.0 * np.arange(1, 200)
    arrivals = true_ms + rng.uniform(0, 15, true_ms.size)
    arrivals[0] = true_ms[0]
    ring = AudioRing(RATE_HZ, 1.0)
    np.testing.assert_allclose(times_of(ring, list(arrivals)), true_ms)
    assert ring.reanchored == 0


@given(delays_ms=st.lists(st.floats(0, 150), min_size=2, max_size=50))
def test_ring_never_stamps_a_sample_later_than_its_arrival(delays_ms: list[float]):
    arrivals = [20.0 * (i + 1) + delay for i, delay in enumerate(delays_ms)]
    ends = times_of(AudioRing(RATE_HZ, 1.0), arrivals)
    assert all(end <= arrival + 1e-3 for end, arrival in zip(ends, arrivals, strict=True))


def test_ring_sets_its_anchor_again_after_a_gap():
    ring = AudioRing(RATE_HZ, 1.0)
    gap_ms = REANCHOR_NS / NS_PER_MS + 100
    ends = times_of(ring, [20, 40, 60 + gap_ms, 80 + gap_ms])
    assert ends == [20, 40, 60 + gap_ms, 80 + gap_ms]
    assert ring.reanchored == 1


def test_ring_keeps_the_newest_part_of_a_long_write():
    ring = AudioRing(RATE_HZ, 0.01)
    ring.write(np.arange(37, dtype=np.float32), 37 * NS_PER_MS)
    found = ring.read()
    np.testing.assert_array_equal(found.block.samples, np.arange(27, 37))
    assert (found.lost_samples, ring.lost, ring.read_samples) == (27, 27, 10)


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_ring_counts_every_loss_with_a_concurrent_writer_and_reader(seconds: float):
    ring = AudioRing(16_000, seconds)
    total, size = 400_000, 320
    done = threading.Event()

    def write() -> None:
        for start in range(0, total, size):
            ring.write(np.arange(start, start + size, dtype=np.float32), start * NS_PER_S // 16_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    position = 0
    while True:
        finished = done.is_set()
        found = ring.read(0.001)
        position += found.lost_samples
        if found.block is not None:
            samples = found.block.samples
            assert samples[0] == position
            np.testing.assert_array_equal(np.diff(samples), 1)
            position += samples.size
        elif finished:
            break
    writer.join()
    assert position == total == ring.read_samples + ring.lost


@given(actions=st.lists(st.one_of(st.none(), st.integers(0, 99)), max_size=60), capacity=st.integers(1, 5))
def test_queue_keeps_the_order_and_counts_drops(actions: list[int | None], capacity: int):
    """An integer is put; None takes an item if there is one."""
    queue: BoundedQueue[int] = BoundedQueue(capacity)
    model: list[int] = []
    taken = 0
    for action in actions:
        if action is not None:
            queue.put(action)
            model = [*model, action][-capacity:]
        elif model:
            assert queue.take() == model.pop(0)
            taken += 1
        assert len(queue) == len(model)
        assert queue.put_items == taken + queue.dropped + len(queue)
    queue.close()
    assert [queue.take() for _ in range(len(model) + 1)] == [*model, None]


def test_queue_put_waits_for_room():
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put(1)
    taker = threading.Timer(0.1, queue.take)
    taker.start()
    queue.put(2, wait_s=10.0)
    taker.join()
    assert (queue.take(), queue.dropped) == (2, 0)
    queue.put(3)
    queue.put(4, wait_s=0.01)
    assert (queue.take(), queue.dropped) == (4, 1)


def test_close_ends_all_waits_and_keeps_the_remaining_items():
    slot: LatestSlot[int] = LatestSlot()
    ring = AudioRing(RATE_HZ, 1.0)
    slot.put(1)
    ring.write(np.zeros(5, np.float32), 0)
    slot.close()
    ring.close()
    slot.put(2)
    ring.write(np.zeros(5, np.float32), 0)
    assert (slot.captured, ring.written) == (1, 5)
    assert (slot.take(60), slot.take(60)) == (1, None)
    assert ring.read(60).block.samples.size == 5
    assert ring.read(60).block is None


@pytest.mark.parametrize("drift_ppm", [-200, 200])
def test_ring_follows_a_drifting_microphone_clock_for_an_hour(drift_ppm: int):
    """Blocks of 250 ms by a fast or slow clock, each delivered up to 15 ms late."""
    rng = np.random.default_rng(1)
    ring = AudioRing(16_000, 1.0)
    block = np.zeros(4000, np.float32)
    worst_ms = 0.0
    for index in range(1, 3600 * 4 + 1):
        true_ns = round(index * 250 * NS_PER_MS / (1 + drift_ppm * 1e-6))
        ring.write(block, true_ns + int(rng.integers(0, 15 * NS_PER_MS)))
        found = ring.read().block
        worst_ms = max(worst_ms, abs(found.end_time_ns - true_ns) / NS_PER_MS)
    assert worst_ms < 40
    assert ring.reanchored == 0
