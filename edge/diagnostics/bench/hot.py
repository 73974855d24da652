"""The whole chain at full speed, beside the kernel baseline.

The memory layout of a process changes its times more than anything inside it. Several processes therefore run the rounds one
after the other, and each is one sample.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from moodring.clock import NS_PER_S
from moodring.config import Config
from moodring.diagnostics.bench import recording as recordings
from moodring.diagnostics.bench.kernels import KERNELS, KernelBaseline
from moodring.diagnostics.bench.measured import STAGES, Measured, measured_pipeline
from moodring.diagnostics.bench.recording import RATE_HZ, Recording
from moodring.diagnostics.bench.timing import NOISY_SPREAD, spread
from moodring.errors import MediaError, MoodringError
from moodring.inference import bundle as bundles
from moodring.inference import tuning
from moodring.networks import open_networks
from moodring.publish.base import Publisher
from moodring.publish.jsonl import JsonLines
from moodring.types import AudioBlock, DeviceState, EventIdentity

ROUNDS = 2  # in each process after one for warm-up: each round times every stage, then whole frames
MIN_PROCESSES, MAX_PROCESSES = 3, 8
LAST = 3  # processes that must agree
IDENTITY = EventIdentity("/moodring/bench/bench/0", lambda ns: f"1970-01-01T00:00:{ns // 10**9 % 60:02d}.000000Z")
FRAME_STAGES = ("decode", "see")  # the stages of a frame with a tracked face
FRAME_KERNELS = ("decode", "detect", "face")


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one process: medians and means of thread CPU time in us, and CPU time of a whole pass in s."""

    ours_us: dict[str, float]
    floor_us: dict[str, float]
    ours_mean_us: dict[str, float]
    ours_s: float
    floor_s: float
    stages: dict[str, Any]

    def ratios(self) -> dict[str, float]:
        """Return our time relative to the kernel baseline: median and mean frame, the whole stream, and each kernel."""
        floor_us = sum(self.floor_us[name] for name in FRAME_KERNELS)
        found = {
            "frame": sum(self.ours_us[name] for name in FRAME_STAGES) / floor_us,
            "frame_mean": sum(self.ours_mean_us[name] for name in FRAME_STAGES) / floor_us,
            "stream": self.ours_s / self.floor_s,
        }
        return found | {name: self.ours_us[name] / self.floor_us[name] for name in KERNELS if self.floor_us.get(name)}


def measure(source: str, bundle: Path) -> dict[str, Any]:
    """Start processes until the last ones agree within 10 % on every ratio, or the maximum number is reached."""
    command = [sys.executable, "-m", "moodring.diagnostics.bench.hot", "--", source, str(bundle)]

    def one() -> Sample:
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  this program itself
        if run.returncode:
            raise MoodringError(f"measuring failed: {run.stderr.strip().rpartition(chr(10))[2]}")
        return Sample(**json.loads(run.stdout))

    return judge(one)


def judge(one: Callable[[], Sample]) -> dict[str, Any]:
    """Take samples until the last ones agree, and return their medians."""
    samples = [one() for _ in range(MIN_PROCESSES)]
    while max(_spreads(samples[-LAST:]).values()) > NOISY_SPREAD and len(samples) < MAX_PROCESSES:
        samples.append(one())
    last = samples[-LAST:]
    spreads = _spreads(last)
    typical = sorted(last, key=lambda sample: sample.ratios()["frame"])[LAST // 2]
    frame_floor_us = [sum(sample.floor_us[name] for name in FRAME_KERNELS) for sample in last]
    return {
        "processes": len(samples),
        "noisy": max(spreads.values()) > NOISY_SPREAD,
        "ratios": {name: statistics.median(sample.ratios()[name] for sample in last) for name in spreads},
        "spread": spreads,
        "frame_us": statistics.median(sum(sample.ours_us[name] for name in FRAME_STAGES) for sample in last),
        "frame_mean_us": statistics.median(sum(sample.ours_mean_us[name] for name in FRAME_STAGES) for sample in last),
        "frame_floor_us": statistics.median(frame_floor_us),
        "floor_us": {name: statistics.median(sample.floor_us[name] for sample in last) for name in last[0].floor_us},
        "stages": typical.stages,
    }


def _spreads(samples: list[Sample]) -> dict[str, float]:
    each = [sample.ratios() for sample in samples]
    return {name: spread([ratios[name] for ratios in each]) for name in each[0]}


def sample(staged: Measured, whole: Measured, floor: KernelBaseline, recording: Recording, publisher: Publisher) -> Sample:
    """Play the recording several times after a warm-up; `whole` times whole frames, `staged` each stage."""
    for one in (staged, whole):
        _pass(one, floor, recording, publisher)
        one.recorder.clear()
    for stage in floor.stages.values():
        stage.clear()
    for _ in range(ROUNDS):
        for one in (staged, whole):
            _pass(one, floor, recording, publisher)
    stages = staged.recorder.stages
    if not stages["see"].cpu_ns:
        raise MediaError("no face was classified in the recording; name a file that shows a face")
    ours = {name: stage.cpu_ns for name, stage in stages.items() if stage.cpu_ns}
    ours |= {name: whole.recorder.stages[name].cpu_ns for name in FRAME_STAGES}
    bare = {name: stage.cpu_ns for name, stage in floor.stages.items() if stage.cpu_ns}
    return Sample(
        ours_us={name: statistics.median(times) / 1000 for name, times in ours.items()},
        floor_us={name: statistics.median(times) / 1000 for name, times in bare.items()},
        ours_mean_us={name: statistics.fmean(times) / 1000 for name, times in ours.items()},
        ours_s=sum(sum(ours.get(name, [])) for name in STAGES) / ROUNDS / 1e9,
        floor_s=sum(statistics.median(bare[name]) * len(ours[name]) for name in KERNELS if name in bare) / ROUNDS / 1e9,
        stages={name: stages[name].figures() for name in (*STAGES, "see")},
    )


def _pass(measured: Measured, floor: KernelBaseline, recording: Recording, publisher: Publisher) -> None:
    """Play the recording once: frames and sound in the order of their times, and an event every 0.2 s."""
    pipeline = measured.pipeline
    pipeline.reset()
    publish = measured.recorder.stages["publish"].timed(publisher.publish)
    devices: dict[str, DeviceState] = {"camera": "ok", "microphone": "ok"}
    processed = ticks = 0
    for index, jpeg in enumerate(recording.jpegs):
        now_ns = int(index * NS_PER_S / recording.fps)
        while (end := processed + pipeline.samples_to_next_batch()) <= min(recording.sound.size, now_ns * RATE_HZ // NS_PER_S):
            windows = pipeline.counters.windows_read
            pipeline.process_audio(AudioBlock(recording.sound[processed:end], processed * NS_PER_S // RATE_HZ))
            floor.block(end - processed)
            processed = end
            if pipeline.counters.windows_read > windows:
                floor.window()
        read = pipeline.counters.faces_read
        if pipeline.is_face_due(now_ns) and (frame := pipeline.decode(recording.captured(index, now_ns))) is not None:
            pipeline.process_frame(frame)
            pipeline.search_new_faces(frame)
            if pipeline.counters.faces_read > read and pipeline.faces:
                floor.frame(jpeg, frame.grey, pipeline.faces[0].box_xywh)
        if now_ns * 5 // NS_PER_S > ticks:
            ticks += 1
            publish(pipeline.tick(now_ns, devices, time.monotonic_ns))


def main() -> int:
    """Print one sample as JSON. `measure` starts this in a new process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("source")
    parser.add_argument("bundle", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)  # as the daemon does
    config, bundle = Config(), bundles.load(arguments.bundle)
    engine = config.inference
    plan, _ = tuning.plan(bundle, engine.backend, engine.precision, engine.threads)
    played = recordings.load(arguments.source)
    try:
        with tempfile.TemporaryDirectory(prefix="moodring-bench-") as folder:
            publisher = JsonLines(str(Path(folder) / "events.jsonl"))
            networks = open_networks(config, bundle, plan)
            each, whole = (measured_pipeline(config, bundle, IDENTITY, networks, inner=inner) for inner in (True, False))
            found = sample(each, whole, KernelBaseline(bundle, plan, played.reduction), played, publisher)
            publisher.close()
    except MoodringError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(dataclasses.asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
