"""The pipeline with a stop watch at each stage; it gives the same events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moodring.capture.base import Undecoded
from moodring.config import Config
from moodring.diagnostics.bench.timing import Stage
from moodring.features.audio.window import SpeechFrontEnd
from moodring.inference.bundle import Bundle
from moodring.pipeline import EventIdentity, Networks, Pipeline
from moodring.types import AudioBlock, Face, VideoFrame

STAGES = ("decode", "detect", "search", "crop", "face", "mfcc", "speech", "fusion", "publish")


class MeasuredPipeline(Pipeline):
    """`stages` tells what each took. `see` is the whole of a frame that was read, the search for more faces in it among that;
    crop is what is left of it.

    `answers_ns` are the times from a frame's capture to what the face branch says of it; `taken_ns` says when that was, where
    somebody knows better than the runtime, which stamps a frame when it arrives. Without `within`, decode and see alone are
    timed: a watch within a watch adds to what the outer one shows.
    """

    def __init__(
        self, config: Config, bundle: Bundle, identity: EventIdentity, networks: Networks, *, within: bool = True
    ) -> None:
        super().__init__(config, bundle, identity, networks)
        self.stages = {name: Stage() for name in (*STAGES, "see")}
        self.answers_ns: list[int] = []
        self.clock_ns: Callable[[], int] | None = None
        self.taken_ns: Callable[[VideoFrame], int] = lambda frame: frame.capture_time_ns
        if within:
            self._watch_within()
        self._timed_decode = self.stages["decode"].timed(super().decode)
        self._see, self._explore = Stage(), Stage()
        self._timed_see = self._see.timed(super().see)
        self._timed_explore = self._explore.timed(super().explore)
        self._is_read = self._is_unsearched = False

    def _watch_within(self) -> None:
        self._tracker.search = self.stages["search"].timed(self._tracker.search)  # type: ignore[method-assign]
        self._tracker = _watched(self._tracker, "follow", self.stages["detect"])
        self._face_branch = _watched(self._face_branch, "run", self.stages["face"])
        self._speech_branch = _watched(self._speech_branch, "run", self.stages["speech"])
        self._speech_front_end = _watched(_Whole(self._speech_front_end), "push", self.stages["mfcc"])
        self._fuser = _watched(self._fuser, "fuse", self.stages["fusion"])

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces followed in the newest frame."""
        return self._faces

    @property
    def primary_box(self) -> tuple[int, int, int, int] | None:
        """The box of the face read in the newest frame, in its pixels."""
        return self._faces[0].box_xywh if self._faces else None

    def clear(self) -> None:
        """Forget all times so far: they were warm-up."""
        for stage in (*self.stages.values(), self._see, self._explore):
            stage.clear()
        self.answers_ns.clear()

    def decode(self, captured: Undecoded) -> VideoFrame | None:
        frame: VideoFrame | None = self._timed_decode(captured)
        return frame

    def see(self, frame: VideoFrame) -> None:
        detect, search, face = self.stages["detect"], self.stages["search"], self.stages["face"]
        read, follows, searches = self.counters.faces_read, len(detect.wall_ns), len(search.wall_ns)
        self._timed_see(frame)
        self._is_unsearched = len(detect.wall_ns) > follows and len(search.wall_ns) == searches
        parts = [detect, face]
        if len(search.wall_ns) > searches:
            detect.subtract(search)
            parts.append(search)
        self._is_read = self.counters.faces_read > read
        if not self._is_read:
            return
        if self.clock_ns is not None:
            self.answers_ns.append(self.clock_ns() - self.taken_ns(frame))
        whole, crop = self.stages["see"], self.stages["crop"]
        for one in (whole, crop):
            one.append(self._see)
        for part in parts:
            crop.subtract(part)

    def explore(self, frame: VideoFrame) -> None:
        search, crop = self.stages["search"], self.stages["crop"]
        searches = len(search.wall_ns)
        self._timed_explore(frame)
        if self._is_read:
            for one in (self.stages["see"], crop):
                one.add(self._explore)
            if len(search.wall_ns) > searches:
                crop.subtract(search)
        if self._is_unsearched and len(search.wall_ns) == searches:
            search.skip()  # a mean is one of all frames, as that of any other stage


def _watched(inner: Any, method: str, stage: Stage) -> Any:
    """Return something that does as `inner` does and takes the time of one of its methods; None stays None."""
    return None if inner is None else _Watched(inner, method, stage)


class _Watched:
    def __init__(self, inner: Any, method: str, stage: Stage) -> None:
        self._inner = inner
        setattr(self, method, stage.timed(getattr(inner, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Whole:
    """A speech front end whose windows are all made when it is asked, so that their making can be timed by itself."""

    def __init__(self, inner: SpeechFrontEnd) -> None:
        self._inner = inner

    def push(self, block: AudioBlock) -> list[Any]:
        return list(self._inner.push(block))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
