"""A part of the media corpus through the command line: one file of each kind, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.media_corpus import Decoded, Outcome, examine, judge
from tests.support.media.corpus import DAMAGE, Recipe, is_available, recipes

FILES = [
    "libx264_aac.mp4", "libx265_libopus.mkv", "mpeg4_libmp3lame.avi", "mpeg2video_mp2.ts", "wmv2_wmav2.wmv", "fragments.mp4",
    "video_0.h264", "video_2.hevc", "image.png", "sound_2.mp3", "8_channels.wav", "64_channels.wav", "layout_22.2.wav",
    "inverted.mp4", "pal8.avi", "gray10le.mkv", "uneven.mkv", "aspect_0.mp4", "joined_offsets.ts", "joined_mpeg2video_mp2.mpg",
    "two_sounds.mkv", "cover.m4a", "cut_60_libx264_aac.mkv", "flip_many_libx264_aac.ts", "zeros_mpeg2video_mp2.mpg",
    "leading_faststart.mp4", "cut_01_sound_13.wav",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.mark.skipif(not is_available(), reason="ffmpeg and ffprobe are not installed")
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_processed_as_documented(folder: Path, name: str):
    (recipe,) = [recipe for recipe in recipes() if recipe.name == name]
    outcome = examine(recipe, folder)
    assert outcome is not None, f"this ffmpeg cannot write {name}"
    assert outcome.faults == [], outcome


def test_the_corpus_is_large_and_its_names_are_unique():
    names = [recipe.name for recipe in recipes()]
    assert len(names) == len(set(names)) >= 300
    assert {part for recipe in recipes() for part in recipe.parts} <= set(names)
    assert sum(recipe.is_damaged for recipe in recipes()) >= 10 * len(DAMAGE)


@pytest.mark.parametrize(
    ("outcome", "decoded", "fault"),
    [
        (Outcome("a", "", code=0, events=1, frames=50, wall_s=11.0), Decoded(50, 2.0), "took 11.0 s"),
        (Outcome("a", "", code=0, events=1, frames=40), Decoded(50, 2.0), "40 frames used"),
        (Outcome("a", "", code=0, events=1, frames=50), Decoded(50, 2.0, 2.0), "0.0 s of sound used"),
        (Outcome("a", "", code=0, events=50, frames=50), Decoded(50, 2.0), "events for 10.0 s"),
        (Outcome("a", "", code=0), Decoded(), "exit code 0, but no event"),
        (Outcome("a", "", code=1, message="no file is named", lines=1), Decoded(), "exit code 1 without one message"),
        (Outcome("a", "", code=3), Decoded(), "exit code 3"),
    ],
)
def test_each_fault_is_found(outcome: Outcome, decoded: Decoded, fault: str):
    judge(outcome, Recipe("clip.mkv", "containers"), decoded)
    assert any(fault in found for found in outcome.faults), outcome
