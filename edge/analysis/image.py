"""The faces of one image, as rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from moodring.analysis.models import Models
from moodring.analysis.row import Row
from moodring.config import Config
from moodring.features.face.crop import crop_face
from moodring.features.face.geometry import Box
from moodring.features.face.haar import GROUP_IMAGE_SIDE, STILL_IMAGE_SIDE, FaceDetector
from moodring.features.face.quality import face_image_quality, frontal_pose_score
from moodring.inference.branches import FaceBranch
from moodring.labels import EventLabels
from moodring.types import U8, BranchView, FaceCrop


def image_rows(grey: U8, config: Config, models: Models) -> Iterator[Row]:
    """Yield a row for each face of an image uint8 [H, W], largest first; one row with the state no_face if there is none.

    A face that the face network does not accept, or of a lower quality than `face.min_quality`, has no label.
    """
    height, width = grey.shape
    image_side = min(GROUP_IMAGE_SIDE, max(STILL_IMAGE_SIDE, height, width))
    found = [
        (detection.box, frontal_pose_score(detection.neighbours) * face_image_quality(grey, detection.box))
        for detection in FaceDetector().detect_faces(grey, image_side)
        if _is_inside(detection.box, width, height)
    ]
    for index, (box, quality) in enumerate(found, start=1):
        face = Row(0.0, "no_face", face_id=index, box_xywh=box.xywh, quality=quality, faces=len(found))
        branch = models.networks.face
        yield face if branch is None or quality < config.face.min_quality else _classified(face, grey, branch, config, models)
    if not found:
        yield Row(0.0, "no_face")


def _is_inside(box: Box, width: int, height: int) -> bool:
    x, y, side, _ = box.xywh
    return side > 0 and x < width and y < height and x + side > 0 and y + side > 0


def _classified(face: Row, grey: U8, branch: FaceBranch, config: Config, models: Models) -> Row:
    """Return the row of a face with the output of the face network, and with a label if it accepts the face."""
    bundle = models.bundle
    labels = EventLabels(bundle.labels, merge_calm=config.labels.merge_calm, bundle=str(bundle.path))
    output = branch.run(FaceCrop(crop_face(grey, face.box_xywh or (0, 0, 0, 0), bundle.spec.face), 0, face.quality or 0.0))
    folded = labels.fold(output.probabilities)
    probabilities, top = labels.by_name(folded), int(folded.argmax())
    face = dataclasses.replace(face, face=BranchView(labels.names[top], probabilities, output.usable, 0.0))
    if output.usable < bundle.models["face"].usable_threshold:
        return face
    return dataclasses.replace(
        face,
        state="ok",
        label=labels.names[top],
        confidence=float(folded[top]),
        probabilities=probabilities,
        modalities=("face",),
    )
