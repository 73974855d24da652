"""Faults of devices, stages and CPU time, injected into a live run, and what its events must show during each."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moodring.capture.microphone import Microphone
from moodring.capture.network import NetworkCamera
from moodring.clock import StageTimer
from moodring.config import FusionConfig
from moodring.types import EmotionEvent
from tests.support.devices.camera_process import OTHER_SIZE, SIZE, CameraProcess, encode_jpegs, random_bodies
from tests.support.devices.microphone import SoftwareMicrophone
from tests.support.watched import MonitoredRun, monitored_run

STALE_MS = {"face": 1000 * FusionConfig().face_stale_s, "speech": 1000 * FusionConfig().speech_stale_s}
HOLD_S = 1.5  # how long a fault lasts after it shows in an event
TIMEOUT_S = 20.0
STARVATION = "CPU taken by others"


class FaultInjector(StageTimer):
    """The stage timer of a pipeline that makes its stages fail, or take ten times as long.

    `failing_stages` and `slowed_stages` hold names of stages: see, hear, and the others of `Pipeline`.
    """

    def __init__(self) -> None:
        self.failing_stages: set[str] = set()
        self.slowed_stages: set[str] = set()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if name in self.failing_stages:
            raise RuntimeError(f"injected failure of the stage {name}")
        start_s = time.monotonic()
        yield
        if name in self.slowed_stages:
            time.sleep(9 * (time.monotonic() - start_s))


@dataclass
class FaultRig:
    """A live run with the devices and the stages that the faults act on."""

    run: MonitoredRun
    injector: FaultInjector
    camera: CameraProcess
    microphone: SoftwareMicrophone


RigAction = Callable[[FaultRig], None]


@dataclass(frozen=True)
class Fault:
    """One fault: how to inject it, how to restore the run, and what its events must show meanwhile.

    `modalities` are those that events use (None: any), `devices` the states of devices, `frame_wh` the size of the frame.
    """

    name: str
    inject: RigAction
    restore: RigAction
    modalities: tuple[str, ...] | None
    devices: dict[str, str] = field(default_factory=dict)
    frame_wh: tuple[int, int] | None = None

    @property
    def may_be_invisible(self) -> bool:
        """Whether no event has to show this fault."""
        return self.modalities is None and self.frame_wh is None

    def is_visible_in(self, event: EmotionEvent) -> bool:
        """Return whether an event shows this fault."""
        states_match = all(event.devices[device] == state for device, state in self.devices.items())
        modalities_match = self.modalities is None or event.modalities == self.modalities
        size_matches = self.frame_wh is None or (event.frame_wh == self.frame_wh and "face" in event.modalities)
        return states_match and modalities_match and size_matches


def is_healthy(event: EmotionEvent) -> bool:
    """Return whether an event shows that both devices and both branches work."""
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
    """Pins this process to one core and starts four busy processes on the same core."""

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


def _send(frame_wh: tuple[int, int]) -> RigAction:
    return lambda rig: rig.camera.send(encode_jpegs(*frame_wh))


def _fail(stage: str) -> RigAction:
    return lambda rig: rig.injector.failing_stages.add(stage)


def _slow(stage: str) -> RigAction:
    return lambda rig: rig.injector.slowed_stages.add(stage)


def _restore_stages(rig: FaultRig) -> None:
    rig.injector.failing_stages.clear()
    rig.injector.slowed_stages.clear()


def faults() -> list[Fault]:
    """Return every fault that `inject` can cause. Names are published in the results of `benchmarks.faults`."""
    lost_camera, lost_microphone = {"camera": "lost"}, {"microphone": "lost"}
    starvation = _Starvation()
    return [
        Fault("microphone killed", lambda r: r.microphone.kill(), lambda r: r.microphone.start(), ("face",), lost_microphone),
        Fault(
            "microphone frozen", lambda r: r.microphone.freeze(), lambda r: r.microphone.unfreeze(), ("face",), lost_microphone
        ),
        Fault("camera killed", lambda r: r.camera.kill(), lambda r: r.camera.start(), ("speech",), lost_camera),
        Fault("camera frozen", lambda r: r.camera.freeze(), lambda r: r.camera.unfreeze(), ("speech",), lost_camera),
        Fault("camera sends garbage", lambda r: r.camera.send(random_bodies()), _send(SIZE), ("speech",), lost_camera),
        Fault("camera changes resolution", _send(OTHER_SIZE), _send(SIZE), None, frame_wh=OTHER_SIZE),
        Fault("both killed", _kill_both, _start_both, (), lost_camera | lost_microphone),
        Fault("seeing raises", _fail("see"), _restore_stages, ("speech",)),
        Fault("hearing raises", _fail("hear"), _restore_stages, ("face",)),
        Fault("seeing slowed 10x", _slow("see"), _restore_stages, None),
        Fault("hearing slowed 10x", _slow("hear"), _restore_stages, None),
        Fault(STARVATION, starvation.begin, starvation.end, None),
    ]


@dataclass(frozen=True)
class Injection:
    """The result of one injected fault: times in seconds, ages in ms, `violations` in words."""

    fault: str
    degraded_s: float | None
    recovered_s: float
    longest_gap_s: float
    max_age_ms: dict[str, float]
    violations: tuple[str, ...]


def inject(rig: FaultRig, fault: Fault) -> Injection:
    """Wait until the run is healthy, inject one fault, hold it, restore the run and wait until it is healthy again.

    Raises AssertionError if an expected event does not arrive within `TIMEOUT_S`.
    """
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
        degraded_at_s = next(arrival_s for arrival_s, event in run.events_since(injected_s) if fault.is_visible_in(event))
        degraded_s = degraded_at_s - injected_s
    hold_until_s = time.monotonic() + HOLD_S
    run.wait_for(lambda _: time.monotonic() >= hold_until_s, TIMEOUT_S)
    if fault.modalities is not None and degraded_s is not None:
        during = [event for arrival_s, event in run.events_since(degraded_at_s) if arrival_s < hold_until_s]
        violations += [f"used {event.modalities}" for event in during if not set(event.modalities) <= set(fault.modalities)]
    fault.restore(rig)
    restored_s = time.monotonic()
    run.wait_for(is_healthy, TIMEOUT_S)
    recovered_s = next(arrival_s for arrival_s, event in run.events_since(restored_s) if is_healthy(event)) - restored_s

    events = run.events_since(injected_s)
    max_age_ms = _max_age_ms(event for _, event in events)
    violations += [f"a {name} output of {age:.0f} ms was used" for name, age in max_age_ms.items() if age > STALE_MS[name]]
    gap_s = max((b - a for (a, _), (b, _) in itertools.pairwise(events)), default=0.0)
    return Injection(fault.name, degraded_s, recovered_s, gap_s, max_age_ms, tuple(violations))


def _max_age_ms(events: Iterable[EmotionEvent]) -> dict[str, float]:
    oldest = {"face": 0.0, "speech": 0.0}
    for event in events:
        for modality in event.modalities:
            oldest[modality] = max(oldest[modality], getattr(event, modality).age_ms)
    return oldest


@contextlib.contextmanager
def rig(bundle: Path, microphone: SoftwareMicrophone) -> Iterator[FaultRig]:
    """Run live on a camera process and a microphone until the context ends."""
    injector = FaultInjector()
    with CameraProcess() as camera, monitored_run(bundle, NetworkCamera(camera.url), Microphone(), injector, None) as run:
        yield FaultRig(run, injector, camera, microphone)


def unaccounted(run: MonitoredRun) -> dict[str, int]:
    """Return captured minus processed minus dropped, of frames and samples: 0 each after the end of a run."""
    captured, dropped, processed = run.stream.captured, run.stream.dropped, run.pipeline.counters

    def drops(kind: str) -> int:
        return sum(count for reason, count in dropped.items() if reason.startswith(kind))

    frames = captured["frames_captured"] - processed.frames_tracked - processed.frames_skipped_rate - drops("frames_")
    return {"frames": frames, "samples": captured["samples_captured"] - processed.samples_heard - drops("samples_")}
