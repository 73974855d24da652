"""The synchronous chain, in the order in which a datum travels.

    capture -> features -> inference -> fusion -> smoothing -> publish

`see` and `hear` take what was captured, `tick` says what it amounts to. The pipeline owns no thread and reads no clock: given
a replayed recording it gives the same events twice, byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from moodring.capture.base import Undecoded
from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.config import Config
from moodring.errors import ConfigError
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.face.crop import crop_face
from moodring.features.face.tracker import HaarTracker
from moodring.fusion import Fuser, freshness, open_fuser
from moodring.inference.branches import FaceBranch, SpeechBranch
from moodring.inference.bundle import Bundle
from moodring.inference.variants import SAFE, Plan, pinned
from moodring.smoothing import Smoother
from moodring.types import (  # fmt: skip
    F32,
    AudioBlock,
    BranchOutput,
    BranchView,
    DeviceState,
    EmotionEvent,
    Face,
    FaceCrop,
    Modality,
    State,
    VideoFrame,
)

GAP_NS = 20 * NS_PER_MS  # sound further than this from where it should be starts a new signal


@dataclass(slots=True)
class Counters:
    """What became of everything that reached the pipeline: seen = tracked + skipped (+ what a stage failed on).

    A datum is counted as tracked or heard when the stage is done with it.
    """

    frames_seen: int = 0
    frames_tracked: int = 0
    frames_skipped_rate: int = 0  # faster than the face branch's rate
    faces_read: int = 0
    faces_held: int = 0  # known, but not to be seen in this frame
    faces_unfit: int = 0  # too small, blurred, dark or turned away
    samples_heard: int = 0
    sound_gaps: int = 0
    windows_read: int = 0
    events: int = 0
    events_with_both: int = 0


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """How a stream's events name themselves: the CloudEvents source, and UTC text for a monotonic time."""

    source: str
    utc: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Networks:
    """The loaded models: they keep nothing of what they are shown, so all streams of a process share them."""

    face: FaceBranch | None
    speech: SpeechBranch | None
    fuser: Fuser


def open_networks(config: Config, bundle: Bundle, plan: Plan | None = None) -> Networks:
    """Load a bundle's networks; BundleError or BackendError where that cannot be.

    `plan` says in which form each runs; without it that is what the configuration pins, else the safe one.
    """
    threads = config.inference.threads
    forms = plan or pinned(bundle, config.inference.backend, config.inference.precision)
    branches = [name for name in ("face", "speech") if name in bundle.models]
    models = {name: bundle.open(name, forms[name].precision, forms[name].backend, threads) for name in branches}
    joins = forms.get("fusion", SAFE)
    return Networks(
        FaceBranch(models["face"], bundle.models["face"]) if "face" in models else None,
        SpeechBranch(models["speech"], bundle.models["speech"]) if "speech" in models else None,
        open_fuser(bundle, config.fusion.method, joins.precision, joins.backend, threads=threads),
    )


class Pipeline:
    """One stream: a camera and a microphone, or a recording of both.

    `see` with `explore` after it, `hear` and `tick` may each be called from a thread of its own: what one leaves for another is
    a whole value that takes the place of the one before, and no counter has two writers.
    """

    def __init__(
        self, config: Config, bundle: Bundle, identity: EventIdentity, networks: Networks | None = None, first_seq: int = 0
    ) -> None:
        networks = networks or open_networks(config, bundle)
        self._config = config
        self._bundle = bundle
        self._identity = identity
        self._labels = _published_labels(config, bundle)
        self._tracker = HaarTracker(config.face.tracker)
        self._face_branch = networks.face
        self._speech_front_end = SpeechFrontEnd(bundle.spec.speech, config.speech.kernel)
        self._speech_branch = networks.speech
        self._fuser = networks.fuser
        self._stale_s: dict[Modality, float] = {"face": config.fusion.face_stale_s, "speech": config.fusion.speech_stale_s}
        self._smoother = Smoother(config.smoothing)
        self._first_seq = first_seq
        self.reset()

    def reset(self) -> None:
        """Forget what was seen and heard: the next datum starts a new stream."""
        self._newest: dict[Modality, BranchOutput] = {}
        self._reduction = 1
        self._frame_wh: tuple[int, int] | None = None
        self._face_due_ns = 0
        self.forget_sight()
        self.forget_sound()
        self.forget_said()
        self._seq = self._first_seq
        self.counters = Counters()

    def forget_sight(self) -> None:
        """Begin to see anew: no face is known."""
        self._tracker.reset()
        self._faces: tuple[Face, ...] = ()
        self._newest.pop("face", None)

    def forget_sound(self) -> None:
        """Begin to hear anew."""
        self._speech_front_end.reset()
        self._sound_end_ns: int | None = None
        self._newest.pop("speech", None)

    def forget_said(self) -> None:
        """Begin to speak anew: the next answer is not smoothed with those before."""
        self._smoother.reset()

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._seq

    @property
    def source(self) -> str:
        """The CloudEvents source of this stream's events."""
        return self._identity.source

    @property
    def labels(self) -> tuple[str, ...]:
        """What the events may name, in the order of their probabilities."""
        return self._labels

    @property
    def level_dbfs(self) -> float:
        """Level of the newest sound, for whoever watches."""
        return self._speech_front_end.level_dbfs

    # capture -> features -> inference

    def is_face_due(self, capture_time_ns: int) -> bool:
        """Whether a frame captured then would be looked at."""
        return capture_time_ns >= self._face_due_ns

    def decode(self, captured: Undecoded) -> VideoFrame | None:
        """Return the frame that a camera sent undecoded; None where it is damaged."""
        return captured.decoded()

    def see(self, frame: VideoFrame) -> None:
        """Take a captured frame: track faces, and let the face branch read the primary one, at no more than its rate."""
        self.counters.frames_seen += 1
        if not self.is_face_due(frame.capture_time_ns):
            self.counters.frames_skipped_rate += 1
            return
        self._face_due_ns = self._next_due_ns(frame.capture_time_ns)
        self._faces = self._tracker.follow(frame)
        self._reduction = frame.reduction
        self._frame_wh = (frame.grey.shape[1] * frame.reduction, frame.grey.shape[0] * frame.reduction)
        primary = self._faces[0] if self._faces else None
        if primary is not None and primary.held:
            self.counters.faces_held += 1
        elif primary is not None and primary.quality < self._config.face.min_quality:
            self.counters.faces_unfit += 1
        elif primary is not None and self._face_branch is not None:
            pixels = crop_face(frame.grey, primary.box_xywh, self._bundle.spec.face)
            crop = FaceCrop(pixels, frame.capture_time_ns, primary.quality)
            output = self._newest["face"] = self._face_branch.run(crop)
            self._tracker.believe(primary.id, output.usable)
            self.counters.faces_read += 1
        self.counters.frames_tracked += 1

    def explore(self, frame: VideoFrame) -> None:
        """Do with the frame that was seen last its answer does not wait for: search for others, judge how clear it is."""
        self._tracker.explore(frame)

    def sound_due(self) -> int:
        """How many samples are worth being heard at once: those up to the next window, or to a tenth of a second."""
        return self._speech_front_end.samples_due

    def hear(self, block: AudioBlock) -> None:
        """Take captured sound: the speech branch reads each window that is due while somebody speaks."""
        if self._sound_end_ns is not None and abs(block.capture_time_ns - self._sound_end_ns) > GAP_NS:
            self._speech_front_end.reset()
            self.counters.sound_gaps += 1
        self._sound_end_ns = block.end_time_ns
        if self._speech_branch is not None:
            for window in self._speech_front_end.push(block):
                self._newest["speech"] = self._speech_branch.run(window)
                self.counters.windows_read += 1
        self.counters.samples_heard += block.samples.size

    # fusion -> smoothing -> an event to publish

    def tick(self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None) -> EmotionEvent:
        """Say what is known at `now_ns`. `clock_ns` measures the latency of a live event; in replay there is none."""
        if devices["camera"] == "muted":  # what was seen before counts no longer
            self._newest.pop("face", None)
        if devices["microphone"] == "muted":
            self._newest.pop("speech", None)
        face, speech = self._fresh("face", now_ns), self._fresh("speech", now_ns)
        used = {b.modality: b for b in (face, speech) if b is not None and self._is_usable(b)}
        state = _state(devices, used)
        probabilities, label, confidence = None, None, None
        if used:
            fresh = (self._freshness(face, now_ns), self._freshness(speech, now_ns))
            fused = self._published(self._fuser.fuse(used.get("face"), used.get("speech"), fresh))
            smoothed, index = self._smoother.update(fused, now_ns)
            probabilities, label, confidence = self._by_label(smoothed), self._labels[index], float(smoothed[index])
        capture_time_ns = max((b.capture_time_ns for b in used.values()), default=now_ns)
        is_seen = devices["camera"] != "muted" and self._tracked_recently(now_ns)
        event = EmotionEvent(
            source=self._identity.source,
            time_utc=self._identity.utc(now_ns),
            seq=self._seq,
            capture_time_ns=capture_time_ns,
            state=state,
            label=label,
            confidence=confidence,
            probabilities=probabilities,
            modalities=tuple(used),
            face=self._view(face, now_ns),
            speech=self._view(speech, now_ns),
            faces=self._published_faces() if is_seen else (),
            latency_ms=(clock_ns() - capture_time_ns) / NS_PER_MS if clock_ns and used else None,
            bundle_id=self._bundle.id,
            devices=dict(devices),
            frame_wh=self._frame_wh if is_seen else None,
        )
        self._seq += 1
        self.counters.events += 1
        self.counters.events_with_both += len(used) == 2
        return event

    def _next_due_ns(self, now_ns: int) -> int:
        """Keep the rate on average: a frame that came late does not push all later ones back."""
        period_ns = int(NS_PER_S / self._config.face.rate_hz)
        on_time = self._face_due_ns + period_ns
        return on_time if on_time > now_ns else now_ns + period_ns // 2

    def _fresh(self, modality: Modality, now_ns: int) -> BranchOutput | None:
        output = self._newest.get(modality)
        if output is None or now_ns - output.capture_time_ns > self._stale_s[modality] * NS_PER_S:
            return None
        return output

    def _freshness(self, output: BranchOutput | None, now_ns: int) -> float:
        if output is None:
            return 0.0
        return freshness((now_ns - output.capture_time_ns) / NS_PER_S, self._stale_s[output.modality])

    def _tracked_recently(self, now_ns: int) -> bool:
        return now_ns - self._face_due_ns <= self._config.fusion.face_stale_s * NS_PER_S

    def _published_faces(self) -> tuple[Face, ...]:
        """Faces with their boxes in pixels of what the camera captured."""
        by = self._reduction
        boxes = [face.box_xywh for face in self._faces]
        scaled = [(by * x, by * y, by * w, by * h) for x, y, w, h in boxes]
        return tuple(dataclasses.replace(face, box_xywh=box) for face, box in zip(self._faces, scaled, strict=True))

    def _is_usable(self, output: BranchOutput) -> bool:
        return output.usable >= self._bundle.models[output.modality].usable_threshold

    def _published(self, probabilities: F32) -> F32:
        """Fold calm into neutral where the configuration says so: float32 [n] -> [n] or [n - 1]."""
        if not self._config.labels.merge_calm:
            return probabilities
        calm = self._bundle.labels.index("calm")
        merged: F32 = np.delete(probabilities, calm)
        merged[self._labels.index("neutral")] += probabilities[calm]
        return merged

    def _view(self, output: BranchOutput | None, now_ns: int) -> BranchView | None:
        if output is None:
            return None
        said = self._published(output.probabilities)
        age_ms = (now_ns - output.capture_time_ns) / NS_PER_MS
        return BranchView(self._labels[int(said.argmax())], self._by_label(said), output.usable, age_ms)

    def _by_label(self, probabilities: F32) -> dict[str, float]:
        return dict(zip(self._labels, np.asarray(probabilities, np.float64).tolist(), strict=True))


def _published_labels(config: Config, bundle: Bundle) -> tuple[str, ...]:
    """Return the bundle's labels, without calm where that is folded into neutral."""
    if not config.labels.merge_calm:
        return bundle.labels
    if not {"calm", "neutral"} <= set(bundle.labels):
        raise ConfigError(f"labels.merge_calm: bundle {bundle.path} does not answer both calm and neutral; set it to false")
    return tuple(label for label in bundle.labels if label != "calm")


def _state(devices: Mapping[str, DeviceState], used: Mapping[Modality, BranchOutput]) -> State:
    if used:
        return "ok"
    if "ok" not in devices.values():
        return "no_signal"
    return "no_face" if devices["camera"] == "ok" else "no_speech"
