"""State of one tracked face: an alpha-beta filter of its box, running means, and its quality."""

from __future__ import annotations

from dataclasses import dataclass

from moodring.clock import NS_PER_S
from moodring.features.face.geometry import Box
from moodring.features.face.haar import Detection
from moodring.features.face.quality import face_image_quality, frontal_pose_score
from moodring.types import U8

DOUBLE_HIT_NEIGHBOURS = 8  # a detection with this many windows counts as two hits
POSITION_GAIN, VELOCITY_GAIN, SIDE_GAIN = 0.6, 0.15, 0.35  # of the alpha-beta filter
NEIGHBOURS_GAIN = 0.2
COAST_DECAY = 0.5  # fraction of the velocity that an undetected face keeps from frame to frame
REACQUIRE_DISTANCE = 1.5  # largest distance between a lost and a new face, relative to the side of the lost one
REACQUIRE_SIDE_RATIOS = (0.6, 1.6)  # range of the side of the new face relative to the lost one
CONFIDENCE_READS = 15  # outputs of the face branch that the mean covers: a hand before the face for a moment rejects no track


@dataclass(slots=True)
class Track:
    """One tracked face. Times are capture times in nanoseconds, boxes are in pixels of the frame."""

    id: int
    box: Box
    detected_ns: int
    hits: int = 0
    neighbours: float = 0.0  # running mean
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels per second
    updated_ns: int = 0
    is_missed: bool = False  # not detected in the previous frame
    is_profile: bool = False  # turned aside at the last detection
    image_quality: float = 0.0
    quality_updated_ns: int | None = None
    confidence: float = 1.0  # running mean of the face branch's `usable`
    reads: int = 0

    def predict(self, now_ns: int) -> None:
        """Move the box to its expected position at `now_ns`."""
        seconds = (now_ns - self.updated_ns) / NS_PER_S
        self.box = Box(self.box.x + self.velocity[0] * seconds, self.box.y + self.velocity[1] * seconds, self.box.side)
        self.is_missed = self.updated_ns != self.detected_ns
        if self.is_missed:
            self.velocity = (self.velocity[0] * COAST_DECAY, self.velocity[1] * COAST_DECAY)
        self.updated_ns = now_ns

    def correct(self, detection: Detection, now_ns: int) -> None:
        """Correct the track with a detection. An alpha-beta filter smooths without lag behind a constant velocity."""
        if self.is_missed:
            self.quality_updated_ns = None  # a face that reappears may be blurred: evaluate it before it is published
        seconds = max(1e-3, (now_ns - self.detected_ns) / NS_PER_S)
        dx, dy = detection.box.x - self.box.x, detection.box.y - self.box.y
        self.box = Box(
            self.box.x + POSITION_GAIN * dx,
            self.box.y + POSITION_GAIN * dy,
            self.box.side + SIDE_GAIN * (detection.box.side - self.box.side),
        )
        self.velocity = (self.velocity[0] + VELOCITY_GAIN * dx / seconds, self.velocity[1] + VELOCITY_GAIN * dy / seconds)
        self.is_profile = detection.neighbours == 0
        self.hits += 2 if detection.neighbours >= DOUBLE_HIT_NEIGHBOURS else 1
        self.neighbours += (detection.neighbours - self.neighbours) * (NEIGHBOURS_GAIN if self.neighbours else 1.0)
        self.detected_ns = now_ns

    def reacquire(self, detection: Detection, now_ns: int) -> None:
        """Continue a lost track at a detection elsewhere."""
        self.box, self.velocity, self.quality_updated_ns = detection.box, (0.0, 0.0), None
        self.correct(detection, now_ns)

    def can_reacquire(self, box: Box) -> bool:
        """Return whether a new face can be this lost one: near its last box, and of similar size."""
        is_near = max(abs(self.box.x - box.x), abs(self.box.y - box.y)) <= REACQUIRE_DISTANCE * self.box.side
        smallest, largest = REACQUIRE_SIDE_RATIOS
        return is_near and smallest < box.side / self.box.side < largest

    def update_confidence(self, usable: float) -> None:
        """Average the face branch's `usable` over the last outputs."""
        self.reads += 1
        self.confidence += (usable - self.confidence) / min(self.reads, CONFIDENCE_READS)

    def update_image_quality(self, grey: U8, now_ns: int) -> None:
        """Evaluate the image quality of the face in this frame."""
        self.image_quality, self.quality_updated_ns = face_image_quality(grey, self.box), now_ns

    def quality(self, grey: U8, now_ns: int) -> float:
        """Return the quality in [0, 1]: the image quality at its last evaluation, times the current pose score."""
        if self.quality_updated_ns is None:
            self.update_image_quality(grey, now_ns)
        return self.image_quality * frontal_pose_score(self.neighbours)
