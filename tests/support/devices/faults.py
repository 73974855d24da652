"""Faults, injected for real into a live run, and what is asked of the run in each. Used by tests, and by the soak."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moodring.capture.microphone import Microphone
from moodring.capture.network import NetworkCamera
from moodring.config import FusionConfig
from moodring.pipeline import Pipeline
from moodring.types import AudioBlock, EmotionEvent, VideoFrame
from tests.support.devices.camera_process import OTHER_SIZE, SIZE, CameraProcess, encode_jpegs, garbage_parts
from tests.support.devices.microphone import SoftwareMicrophone
from tests.support.watched import MonitoredRun, monitored_run

STALE_MS = {"face": 1000 * FusionConfig().face_stale_s, "speech": 1000 * FusionConfig().speech_stale_s}
HOLD_S = 1.5  # how long a fault lasts once it shows
TIMEOUT_S = 20.0
STARVATION = "CPU taken by others"


class FaultInjector:
    """Stands before a pipeline; its stages can be made to fail, or to take ten times as long."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.failing_stages: set[str] = set()
        self.slowed_stages: set[str] = set()
        self.is_face_due, self.samples_to_next_batch, self.decode = (
            pipeline.is_face_due,
            pipeline.samples_to_next_batch,
            pipeline.decode,
        )
        self.reset_video, self.reset_audio = pipeline.reset_video, pipeline.reset_audio
        self.reset_smoothing, self.tick = pipeline.reset_smoothing, pipeline.tick

    def process_frame(self, frame: VideoFrame) -> None:
        self._call_stage("see", self._pipeline.process_frame, frame)

    def search_new_faces(self, frame: VideoFrame) -> None:
        self._pipeline.search_new_faces(frame)

    def process_audio(self, block: AudioBlock) -> None:
        self._call_stage("hear", self._pipeline.process_audio, block)

    def _call_stage(self, stage: str, call: Callable[[Any], None], datum: Any) -> None:
        if stage in self.failing_stages:
            raise RuntimeError(f"{stage} was made to fail")
        start = time.monotonic()
        call(datum)
        if stage in self.slowed_stages:
            time.sleep(9 * (time.monotonic() - start))


@dataclass
class FaultRig:
    """A run on real devices, and what can be done to them."""

    run: MonitoredRun
    injector: FaultInjector
    camera: CameraProcess
    microphone: SoftwareMicrophone


@dataclass(frozen=True)
class Fault:
    """What is done, what undoes it, and by which modalities events must go while it lasts (None: any)."""

    name: str
    inject: Callable[[FaultRig], None]
    restore: Callable[[FaultRig], None]
    modalities: tuple[str, ...] | None
    devices: dict[str, str] = field(default_factory=dict)
    frame_wh: tuple[int, int] | None = None

    @property
    def may_be_invisible(self) -> bool:
        return self.modalities is None and self.frame_wh is None

    def is_visible_in(self, event: EmotionEvent) -> bool:
        """Whether an event says what it must while this lasts."""
        told = all(event.devices[device] == state for device, state in self.devices.items())
        fits = self.modalities is None or event.modalities == self.modalities
        return told and fits and (self.frame_wh is None or (event.frame_wh == self.frame_wh and "face" in event.modalities))


def is_healthy(event: EmotionEvent) -> bool:
    return event.modalities == ("face", "speech") and set(event.devices.values()) == {"ok"} and event.frame_wh == SIZE


def _kill_both(rig: FaultRig) -> None:
    rig.camera.kill()
    rig.microphone.kill()


def _start_both(rig: FaultRig) -> None:
    rig.camera.start()
    rig.microphone.start()


def _busy_loop() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    while True:
        pass


class _Starvation:
    """Four processes that do nothing but take the one core that this one is then held to."""

    def __init__(self) -> None:
        self._busy: list[Any] = []
        self._cores: set[int] = set()

    def begin(self, _: FaultRig) -> None:
        self._cores = os.sched_getaffinity(0)
        _set_affinity({max(self._cores)})
        context = multiprocessing.get_context("fork")
        self._busy = [context.Process(target=_busy_loop, daemon=True) for _ in range(4)]
        for process in self._busy:
            process.start()

    def end(self, _: FaultRig) -> None:
        for process in self._busy:
            process.kill()
            process.join(10)
        _set_affinity(self._cores)


def _set_affinity(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def faults() -> list[Fault]:
    lost_camera, lost_microphone = {"camera": "lost"}, {"microphone": "lost"}
    starvation = _Starvation()
    return [
        Fault("microphone killed", lambda b: b.microphone.kill(), lambda b: b.microphone.start(), ("face",), lost_microphone),
        Fault("microphone frozen", lambda b: b.microphone.freeze(), lambda b: b.microphone.unfreeze(), ("face",), lost_microphone),
        Fault("camera killed", lambda b: b.camera.kill(), lambda b: b.camera.start(), ("speech",), lost_camera),
        Fault("camera frozen", lambda b: b.camera.freeze(), lambda b: b.camera.unfreeze(), ("speech",), lost_camera),
        Fault(
            "camera sends garbage", lambda b: b.camera.send(garbage_parts()), lambda b: b.camera.send(encode_jpegs(*SIZE)),
            ("speech",), lost_camera,
        ),
        Fault(
            "camera changes resolution", lambda b: b.camera.send(encode_jpegs(*OTHER_SIZE)), lambda b: b.camera.send(encode_jpegs(*SIZE)),
            None, frame_wh=OTHER_SIZE,
        ),
        Fault("both killed", _kill_both, _start_both, (), lost_camera | lost_microphone),
        Fault("seeing raises", lambda b: b.injector.failing_stages.add("see"), lambda b: b.injector.failing_stages.clear(), ("speech",)),
        Fault("hearing raises", lambda b: b.injector.failing_stages.add("hear"), lambda b: b.injector.failing_stages.clear(), ("face",)),
        Fault("seeing slowed 10x", lambda b: b.injector.slowed_stages.add("see"), lambda b: b.injector.slowed_stages.clear(), None),
        Fault("hearing slowed 10x", lambda b: b.injector.slowed_stages.add("hear"), lambda b: b.injector.slowed_stages.clear(), None),
        Fault(STARVATION, starvation.begin, starvation.end, None),
    ]  # fmt: skip


@dataclass(frozen=True)
class Injection:
    """What became of one fault. Times are in seconds; `wrong` says in words what should not have been."""

    fault: str
    degraded_s: float | None
    recovered_s: float
    longest_gap_s: float
    max_age_ms: dict[str, float]
    violations: tuple[str, ...]


def inject(rig: FaultRig, fault: Fault) -> Injection:
    """Inject one fault into a run in which all is well, and wait until it is again."""
    run = rig.run
    run.wait_for(is_healthy, TIMEOUT_S)
    violations: list[str] = []
    injected_s = time.monotonic()
    fault.inject(rig)
    degraded_s = None
    if not fault.may_be_invisible:
        try:
            run.wait_for(fault.is_visible_in, TIMEOUT_S)
        except AssertionError:
            fault.restore(rig)
            raise
        degraded_at = next(arrival_s for arrival_s, event in run.events_since(injected_s) if fault.is_visible_in(event))
        degraded_s = degraded_at - injected_s
    held_until = time.monotonic() + HOLD_S
    run.wait_for(lambda _: time.monotonic() >= held_until, TIMEOUT_S)
    if fault.modalities is not None and degraded_s is not None:
        during = [event for arrival_s, event in run.events_since(degraded_at) if arrival_s < held_until]
        violations += [f"used {event.modalities}" for event in during if not set(event.modalities) <= set(fault.modalities)]
    fault.restore(rig)
    restored_s = time.monotonic()
    run.wait_for(is_healthy, TIMEOUT_S)
    recovered_s = next(arrival_s for arrival_s, event in run.events_since(restored_s) if is_healthy(event)) - restored_s

    told = run.events_since(injected_s)
    oldest = {"face": 0.0, "speech": 0.0}
    for _, event in told:
        for modality in event.modalities:
            oldest[modality] = max(oldest[modality], getattr(event, modality).age_ms)
    violations += [f"a {modality} of {age:.0f} ms was used" for modality, age in oldest.items() if age > STALE_MS[modality]]
    moments = [arrival_s for arrival_s, _ in told]
    gap_s = max((b - a for a, b in itertools.pairwise(moments)), default=0.0)
    return Injection(fault.name, degraded_s, recovered_s, gap_s, oldest, tuple(violations))


@contextlib.contextmanager
def rig(bundle: Path, microphone: SoftwareMicrophone) -> Iterator[FaultRig]:
    """Run live on a camera process and a microphone; the run's counters must add up when it has ended."""
    injectors: list[FaultInjector] = []

    def wrap_pipeline(pipeline: Pipeline) -> FaultInjector:
        injectors.append(FaultInjector(pipeline))
        return injectors[0]

    with CameraProcess() as camera, monitored_run(bundle, NetworkCamera(camera.url), Microphone(), wrap_pipeline, None) as run:
        yield FaultRig(run, injectors[0], camera, microphone)


def unaccounted(run: MonitoredRun) -> dict[str, int]:
    """Captured, less what was used and every drop: 0 each, once a run has ended."""
    captured, dropped, used = run.stream.captured, run.stream.dropped, run.pipeline.counters

    def lost(kind: str) -> int:
        return sum(count for reason, count in dropped.items() if reason.startswith(kind))

    frames = captured["frames_captured"] - used.frames_tracked - used.frames_skipped_rate - lost("frames_")
    return {"frames": frames, "samples": captured["samples_captured"] - used.samples_heard - lost("samples_")}
