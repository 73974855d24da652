"""The synchronous chain of stages, in the order in which a datum passes through them.

    capture -> features -> inference -> fusion -> smoothing -> publish

`process_frame` and `process_audio` accept captured data, `tick` returns the fused event. The pipeline owns no thread, and reads
no clock except to measure latency: the same recording gives the same events, byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from moodring.capture.base import CapturedFrame
from moodring.clock import NS_PER_MS, NS_PER_S, UNTIMED, StageTimer
from moodring.config import Config
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.face.crop import crop_face
from moodring.features.face.tracker import HaarTracker
from moodring.fusion import freshness
from moodring.inference.branches import SpeechBranch
from moodring.inference.bundle import Bundle
from moodring.labels import EventLabels
from moodring.networks import Networks, open_networks
from moodring.smoothing import Smoother
from moodring.types import (  # fmt: skip
    AudioBlock,
    BranchOutput,
    BranchView,
    Counters,
    DeviceState,
    EmotionEvent,
    EventIdentity,
    Face,
    FaceCrop,
    Modality,
    State,
    VideoFrame,
)

GAP_NS = 20 * NS_PER_MS  # a larger gap or overlap between blocks starts a new signal


class Pipeline:
    """One stream: a camera and a microphone, or a recording of both.

    Three threads can drive a pipeline: one calls `process_frame`, then `search_new_faces`; one calls `process_audio`; one calls
    `tick`. They exchange immutable values, and each counter has one writer. `timer` times each stage, by its published name.
    `on_frame` is called with each frame that `process_frame` receives.
    """

    def __init__(
        self,
        config: Config,
        bundle: Bundle,
        identity: EventIdentity,
        networks: Networks | None = None,
        first_seq: int = 0,
        *,
        timer: StageTimer = UNTIMED,
        on_frame: Callable[[VideoFrame], None] | None = None,
    ) -> None:
        networks = networks or open_networks(config, bundle)
        self._config = config
        self._bundle = bundle
        self._identity = identity
        self._timer = timer
        self._on_frame = on_frame
        self._labels = EventLabels(bundle.labels, merge_calm=config.labels.merge_calm, bundle=str(bundle.path))
        self._tracker = HaarTracker(config.face.tracker, timer)
        self._face_branch = networks.face
        baseline = bundle.models["speech"].baseline if "speech" in bundle.models and config.speech.baseline else None
        self._speech_front_end = SpeechFrontEnd(bundle.spec.speech, config.speech.kernel, baseline)
        self._speech_branch = networks.speech
        self._fuser = networks.fuser
        self._stale_s: dict[Modality, float] = {"face": config.fusion.face_stale_s, "speech": config.fusion.speech_stale_s}
        self._smoother = Smoother(config.smoothing)
        self._first_seq = first_seq
        self.reset()

    def reset(self) -> None:
        """Start a new stream: clear all state, including counters."""
        self._newest: dict[Modality, BranchOutput] = {}
        self._reduction = 1
        self._frame_wh: tuple[int, int] | None = None
        self._face_due_ns = 0
        self.reset_video()
        self.reset_audio()
        self.reset_smoothing()
        self._seq = self._first_seq
        self.counters = Counters()

    def reset_video(self) -> None:
        """Clear all tracked faces and the newest output of the face branch."""
        self._tracker.reset()
        self._faces: tuple[Face, ...] = ()
        self._newest.pop("face", None)

    def reset_audio(self) -> None:
        """Clear the buffered sound, the baseline of the voice and the newest output of the speech branch."""
        self._speech_front_end.reset()
        self._sound_end_ns: int | None = None
        self._newest.pop("speech", None)

    def reset_smoothing(self) -> None:
        """Clear the smoothed probabilities: the next event is not smoothed with earlier ones."""
        self._smoother.reset()

    @property
    def next_seq(self) -> int:
        """The sequence number of the next event."""
        return self._seq

    @property
    def source(self) -> str:
        """The CloudEvents source of this stream's events."""
        return self._identity.source

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that events may carry, in the order of their probabilities."""
        return self._labels.names

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces tracked in the newest frame, primary face first; boxes in pixels of the frame that was processed."""
        return self._faces

    @property
    def level_dbfs(self) -> float:
        """Level of the newest sound, in dB relative to a full-scale sine."""
        return self._speech_front_end.level_dbfs

    # capture -> features -> inference

    def is_face_due(self, capture_time_ns: int) -> bool:
        """Return whether a frame captured at this time would be processed, given the face rate."""
        return capture_time_ns >= self._face_due_ns

    def decode(self, captured: CapturedFrame) -> VideoFrame | None:
        """Decode a frame; None where its data is damaged."""
        with self._timer.stage("decode"):
            return captured.decode_frame()

    def process_frame(self, frame: VideoFrame) -> None:
        """Accept a captured frame: track faces and classify the primary one, at most `face.rate_hz` times a second."""
        with self._timer.stage("see"):
            if self._on_frame is not None:
                self._on_frame(frame)
            self.counters.frames_seen += 1
            if not self.is_face_due(frame.capture_time_ns):
                self.counters.frames_skipped_rate += 1
                return
            self._face_due_ns = self._next_due_ns(frame.capture_time_ns)
            with self._timer.stage("detect"):
                self._faces = self._tracker.track_faces(frame)
            self._reduction = frame.reduction
            self._frame_wh = (frame.grey.shape[1] * frame.reduction, frame.grey.shape[0] * frame.reduction)
            if self._faces:
                self._classify_face(frame, self._faces[0])
            self.counters.frames_tracked += 1

    def _classify_face(self, frame: VideoFrame, face: Face) -> None:
        if face.held:
            self.counters.faces_held += 1
        elif face.quality < self._config.face.min_quality:
            self.counters.faces_unfit += 1
        elif self._face_branch is not None:
            crop = FaceCrop(crop_face(frame.grey, face.box_xywh, self._bundle.spec.face), frame.capture_time_ns, face.quality)
            with self._timer.stage("face"):
                output = self._newest["face"] = self._face_branch.run(crop)
            self._tracker.update_confidence(face.id, output.usable)
            self.counters.faces_read += 1

    def search_new_faces(self, frame: VideoFrame) -> None:
        """Search a part of the newest processed frame for faces that are not tracked yet, and measure face quality.

        It cannot change the output for this frame: faces that it finds are tracked from the next frame on.
        """
        with self._timer.stage("explore"):
            self._tracker.search_new_faces(frame)

    def samples_to_next_batch(self) -> int:
        """Return the number of samples still missing to complete the next batch of feature frames (0.1 s)."""
        return self._speech_front_end.samples_to_next_batch

    def process_audio(self, block: AudioBlock) -> None:
        """Accept captured sound: the speech branch classifies each window that is due during speech."""
        with self._timer.stage("hear"):
            if self._sound_end_ns is not None and abs(block.capture_time_ns - self._sound_end_ns) > GAP_NS:
                self._speech_front_end.reset(keep_voice=True)
                self.counters.sound_gaps += 1
            self._sound_end_ns = block.end_time_ns
            if self._speech_branch is not None:
                self._classify_windows(block, self._speech_branch)
            self.counters.samples_heard += block.samples.size

    def _classify_windows(self, block: AudioBlock, branch: SpeechBranch) -> None:
        windows = self._speech_front_end.push(block)
        while True:
            with self._timer.stage("mfcc"):
                window = next(windows, None)
            if window is None:
                return
            with self._timer.stage("speech"):
                self._newest["speech"] = branch.run(window)
            self.counters.windows_read += 1

    # fusion -> smoothing -> an event to publish

    def tick(self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None) -> EmotionEvent:
        """Return the event at `now_ns`, fused from the newest outputs that are not stale.

        `clock_ns` measures the latency of a live event. In replay it is None, and so is the event's latency.
        """
        with self._timer.stage("fuse"):
            return self._tick(now_ns, devices, clock_ns)

    def _tick(self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None) -> EmotionEvent:
        if devices["camera"] in ("muted", "frozen"):  # discard the output from before the mute, or of the frozen image
            self._newest.pop("face", None)
        if devices["microphone"] == "muted":
            self._newest.pop("speech", None)
        face, speech = self._not_stale("face", now_ns), self._not_stale("speech", now_ns)
        usable = [b for b in (face, speech) if b and b.usable >= self._bundle.models[b.modality].usable_threshold]
        used = {output.modality: output for output in usable}
        state = _state(devices, used)
        probabilities = label = confidence = None
        if used:
            fresh = (self._freshness(face, now_ns), self._freshness(speech, now_ns))
            with self._timer.stage("fusion"):
                fused = self._fuser.fuse(used.get("face"), used.get("speech"), fresh)
            smoothed, index = self._smoother.update(self._labels.fold(fused), now_ns)
            probabilities, label, confidence = self._labels.by_name(smoothed), self._labels.names[index], float(smoothed[index])
        capture_time_ns = max((b.capture_time_ns for b in used.values()), default=now_ns)
        is_seen = devices["camera"] not in ("muted", "frozen") and self._tracked_recently(now_ns)
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
        """Return when the next frame is due: one period after the last due time, or half a period from now if overdue."""
        period_ns = int(NS_PER_S / self._config.face.rate_hz)
        on_time = self._face_due_ns + period_ns
        return on_time if on_time > now_ns else now_ns + period_ns // 2

    def _not_stale(self, modality: Modality, now_ns: int) -> BranchOutput | None:
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
        """Return the faces with boxes in pixels of the captured frame."""
        r = self._reduction
        boxes = ((face, face.box_xywh) for face in self._faces)
        return tuple(dataclasses.replace(face, box_xywh=(r * x, r * y, r * w, r * h)) for face, (x, y, w, h) in boxes)

    def _view(self, output: BranchOutput | None, now_ns: int) -> BranchView | None:
        if output is None:
            return None
        probabilities = self._labels.fold(output.probabilities)
        label = self._labels.names[int(probabilities.argmax())]
        age_ms = (now_ns - output.capture_time_ns) / NS_PER_MS
        return BranchView(label, self._labels.by_name(probabilities), output.usable, age_ms, output.settled)


def _state(devices: Mapping[str, DeviceState], used: Mapping[Modality, BranchOutput]) -> State:
    if used:
        return "ok"
    if "ok" not in devices.values():
        return "no_signal"
    return "no_face" if devices["camera"] == "ok" else "no_speech"
