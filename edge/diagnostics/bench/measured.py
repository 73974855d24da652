"""A pipeline whose stages are timed for the benchmark: wall time and thread CPU time of every call."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from moodring.clock import StageTimer
from moodring.config import Config
from moodring.diagnostics.bench.timing import Stage
from moodring.inference.bundle import Bundle
from moodring.networks import Networks
from moodring.pipeline import Pipeline
from moodring.types import EventIdentity, VideoFrame

STAGES = ("decode", "detect", "search", "crop", "face", "mfcc", "speech", "fusion", "publish")
FRAME_STAGES = ("decode", "see", "explore")
AUDIO_STAGES = ("hear", "mfcc", "speech")


class StageRecorder(StageTimer):
    """Records the calls of each stage in `stages`.

    `see` is the total of a frame in which a face was classified, with the search for new faces. `crop` is what remains of it
    without the other stages. With `inner=False` only decode and see are timed, because an inner timer adds to the outer one.

    `answers_ns` are the times from the capture of a frame to its face output, measured with `clock_ns` where it is set.
    `taken_ns` returns the capture time; the default is the time at which the runtime stamped the frame.
    """

    def __init__(self, *, inner: bool = True) -> None:
        self.stages = {name: Stage() for name in (*STAGES, "see")}
        self.answers_ns: list[int] = []
        self.clock_ns: Callable[[], int] | None = None
        self.captured_at_ns: Callable[[VideoFrame], int] = lambda frame: frame.capture_time_ns
        self._timed = {*FRAME_STAGES, *AUDIO_STAGES, "detect", "search", "face", "fusion"} if inner else {*FRAME_STAGES}
        self._newest: VideoFrame | None = None
        self._is_tracked = self._is_read = self._is_searched = self._is_searched_at_once = False  # the newest frame
        self._mfcc = Stage()  # the parts of one block

    def on_frame(self, frame: VideoFrame) -> None:
        """Remember the frame that is processed now: the frame callback of the pipeline."""
        self._newest = frame
        self._is_tracked = self._is_read = self._is_searched = self._is_searched_at_once = False

    def clear(self) -> None:
        """Drop all times so far: they were warm-up."""
        for stage in self.stages.values():
            stage.clear()
        self.answers_ns.clear()

    def stage(self, name: str) -> contextlib.AbstractContextManager[object]:
        if name == "detect":  # the flags of a frame have one writer, the thread that processes it
            self._is_tracked = True
        elif name == "face":
            self._is_read = True
        elif name == "search":
            self._is_searched = True
        return _Watch(self, name) if name in self._timed else super().stage(name)

    def finish(self, name: str, wall_ns: int, cpu_ns: int) -> None:
        """Record one call of a stage."""
        if name in ("detect", "search", "face", "decode", "speech", "fusion"):
            self.stages[name].record(wall_ns, cpu_ns)
            if name == "detect" and self._is_searched:
                self.stages["detect"].subtract(self.stages["search"])
        elif name == "mfcc":
            self._mfcc.record(wall_ns, cpu_ns)
        elif name == "hear":
            self.stages["mfcc"].record(sum(self._mfcc.wall_ns), sum(self._mfcc.cpu_ns))
            self._mfcc.clear()
        elif name == "see":
            self._finish_frame(wall_ns, cpu_ns)
        elif name == "explore":
            self._finish_search(wall_ns, cpu_ns)

    def _finish_frame(self, wall_ns: int, cpu_ns: int) -> None:
        if not self._is_read:
            return
        if self.clock_ns is not None and self._newest is not None:
            self.answers_ns.append(self.clock_ns() - self.captured_at_ns(self._newest))
        for name in ("see", "crop"):
            self.stages[name].record(wall_ns, cpu_ns)
        self._is_searched_at_once = self._is_searched
        for name in ("detect", "face", *(["search"] if self._is_searched else [])):
            self.stages["crop"].subtract(self.stages[name])

    def _finish_search(self, wall_ns: int, cpu_ns: int) -> None:
        if self._is_read:
            for name in ("see", "crop"):
                self.stages[name].add(wall_ns, cpu_ns)
            if self._is_searched and not self._is_searched_at_once:
                self.stages["crop"].subtract(self.stages["search"])
        if self._is_tracked and not self._is_searched:
            self.stages["search"].record(0, 0)  # the mean is over all frames, as for every other stage


class _Watch:
    """Context manager that reports the wall time and the thread CPU time of its body."""

    __slots__ = ("_cpu_ns", "_name", "_recorder", "_wall_ns")

    def __init__(self, recorder: StageRecorder, name: str) -> None:
        self._recorder = recorder
        self._name = name

    def __enter__(self) -> None:
        self._cpu_ns, self._wall_ns = time.thread_time_ns(), time.perf_counter_ns()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        wall_ns, cpu_ns = time.perf_counter_ns() - self._wall_ns, time.thread_time_ns() - self._cpu_ns
        if kind is None:
            self._recorder.finish(self._name, wall_ns, cpu_ns)


@dataclass(frozen=True, slots=True)
class Measured:
    """A pipeline and the recorder of its stages."""

    pipeline: Pipeline
    recorder: StageRecorder


def measured_pipeline(
    config: Config, bundle: Bundle, identity: EventIdentity, networks: Networks, *, inner: bool = True
) -> Measured:  # fmt: skip
    """Return a pipeline that is timed. Its events are those of any other pipeline."""
    recorder = StageRecorder(inner=inner)
    return Measured(Pipeline(config, bundle, identity, networks, timer=recorder, on_frame=recorder.on_frame), recorder)
