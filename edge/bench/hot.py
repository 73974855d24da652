"""The whole chain as fast as it goes, over and over, beside the bare kernels: what everything costs at the least."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from edge.bench.floor import KERNELS, Floor
from edge.bench.measured import STAGES, MeasuredPipeline
from edge.bench.recording import BLOCK, RATE_HZ, Recording
from edge.bench.timing import NOISY_SPREAD, spread
from edge.clock import NS_PER_S
from edge.errors import MediaError
from edge.publish.base import Publisher
from edge.types import AudioBlock, DeviceState

LEAST_ROUNDS, MOST_ROUNDS = 3, 8
LAST = 3  # rounds that must agree
FRAME_STAGES = ("decode", "see")  # what a frame with a followed face goes through
FRAME_KERNELS = ("decode", "detect", "face")


@dataclass(slots=True)
class Round:
    """Medians of one pass over the recording, thread CPU in microseconds, and the CPU of all stages and kernels in seconds."""

    ours_us: dict[str, float]
    floor_us: dict[str, float]
    ours_s: float
    floor_s: float

    def ratios(self) -> dict[str, float]:
        """Return ours over the floor: for a frame with a followed face, for the whole stream, and by kernel."""
        found = {
            "frame": sum(self.ours_us[name] for name in FRAME_STAGES) / sum(self.floor_us[name] for name in FRAME_KERNELS),
            "stream": self.ours_s / self.floor_s,
        }
        return found | {name: self.ours_us[name] / self.floor_us[name] for name in KERNELS if self.floor_us.get(name)}


def measure(pipeline: MeasuredPipeline, floor: Floor, recording: Recording, publisher: Publisher) -> dict[str, Any]:
    """Repeat until the last rounds agree within a tenth on every ratio, or until it has been tried often enough."""
    _pass(pipeline, floor, recording, publisher)  # warm-up
    rounds: list[Round] = []
    stages: dict[str, Any] = {}
    while len(rounds) < MOST_ROUNDS:
        pipeline.clear()
        for stage in floor.stages.values():
            stage.clear()
        _pass(pipeline, floor, recording, publisher)
        rounds.append(_round(pipeline, floor))
        stages = {name: pipeline.stages[name].figures() for name in (*STAGES, "see")}
        if len(rounds) >= LEAST_ROUNDS and max(_spreads(rounds[-LAST:]).values()) <= NOISY_SPREAD:
            break
    last = rounds[-LAST:]
    spreads = _spreads(last)
    return {
        "rounds": len(rounds),
        "noisy": max(spreads.values()) > NOISY_SPREAD,
        "ratios": _ratios(last),
        "spread": spreads,
        "frame_us": statistics.median(sum(r.ours_us[name] for name in FRAME_STAGES) for r in last),
        "frame_floor_us": statistics.median(sum(r.floor_us[name] for name in FRAME_KERNELS) for r in last),
        "floor_us": {name: statistics.median(r.floor_us[name] for r in last) for name in last[0].floor_us},
        "core_percent": 100 * statistics.median(r.ours_s for r in last) / recording.seconds,
        "stages": stages,
    }


def _ratios(rounds: list[Round]) -> dict[str, float]:
    each = [r.ratios() for r in rounds]
    return {name: statistics.median(ratios[name] for ratios in each) for name in each[0]}


def _spreads(rounds: list[Round]) -> dict[str, float]:
    each = [r.ratios() for r in rounds]
    return {name: spread([ratios[name] for ratios in each]) for name in each[0]}


def _round(pipeline: MeasuredPipeline, floor: Floor) -> Round:
    if not pipeline.stages["see"].cpu_ns:
        raise MediaError("no face was read in the whole recording; name one with a face that can be seen")
    ours = {name: stage.cpu_ns for name, stage in pipeline.stages.items()}
    bare = {name: stage.cpu_ns for name, stage in floor.stages.items()}
    return Round(
        {name: statistics.median(times) / 1000 for name, times in ours.items() if times},
        {name: statistics.median(times) / 1000 for name, times in bare.items() if times},
        sum(sum(ours[name]) for name in STAGES) / 1e9,
        sum(statistics.median(bare[name]) * len(ours[name]) for name in KERNELS if bare[name]) / 1e9,
    )


def _pass(pipeline: MeasuredPipeline, floor: Floor, recording: Recording, publisher: Publisher) -> None:
    """Put the recording through once: pictures and sound in the order of their times, an event every fifth of a second."""
    pipeline.reset()
    publish = pipeline.stages["publish"].timed(publisher.publish)
    devices: dict[str, DeviceState] = {"camera": "ok", "microphone": "ok"}
    heard = ticks = 0
    for index, jpeg in enumerate(recording.jpegs):
        now_ns = int(index * NS_PER_S / recording.fps)
        while heard + BLOCK <= recording.sound.size and (heard + BLOCK) * NS_PER_S // RATE_HZ <= now_ns:
            windows = pipeline.counters.windows_read
            pipeline.hear(AudioBlock(recording.sound[heard : heard + BLOCK], heard * NS_PER_S // RATE_HZ))
            heard += BLOCK
            floor.block(BLOCK)
            if pipeline.counters.windows_read > windows:
                floor.window()
        read = pipeline.counters.faces_read
        if pipeline.is_face_due(now_ns) and (frame := pipeline.decode(recording.captured(index, now_ns))) is not None:
            pipeline.see(frame)
            box = pipeline.primary_box
            if pipeline.counters.faces_read > read and box is not None:
                floor.frame(jpeg, frame.grey, box)
        if now_ns * 5 // NS_PER_S > ticks:
            ticks += 1
            publish(pipeline.tick(now_ns, devices, time.monotonic_ns))
