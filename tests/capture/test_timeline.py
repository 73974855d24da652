"""Continuous times: jumps, restarts, wraps, gaps and single wrong time stamps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.capture.media.timeline import Jumps, SoundTimeline, VideoTimeline
from moodring.clock import NS_PER_MS, NS_PER_S

PERIOD_MS = 40


def video(jumps: Jumps | None = None, **options: object) -> VideoTimeline:
    return VideoTimeline(jumps or Jumps(), period_ns=PERIOD_MS * NS_PER_MS, **options)


def times_ms(timeline: VideoTimeline, stamps_ms: Sequence[int | None]) -> list[int]:
    """Return the times of the frames that are delivered."""
    found = []
    for stamp in stamps_ms:
        found += timeline.push(None, None if stamp is None else stamp * NS_PER_MS)
    return [time_ns // NS_PER_MS for _, time_ns in [*found, *timeline.flush()]]


def line_ms(count: int, start: int = 0) -> list[int]:
    return [start + PERIOD_MS * index for index in range(count)]


def sound_times_ms(timeline: SoundTimeline, stamps_ms: Sequence[int | None], duration_ms: int = 20) -> list[int]:
    """Return the time of each frame of sound."""
    found = []
    for index, stamp in enumerate(stamps_ms):
        timeline.push(None if stamp is None else stamp * NS_PER_MS, duration_ms * NS_PER_MS, restart=not index)
        found.append(timeline.next_ns // NS_PER_MS - duration_ms)
    return found


def test_regular_stamps_are_kept():
    stamps = [0, 10, 50, 55, 300, 301, 900, 1000, 2500, 2533]
    timeline = video()
    assert times_ms(timeline, stamps) == stamps
    assert (timeline.count, timeline.dropped) == (0, 0)


def test_frames_without_stamps_follow_at_the_frame_rate():
    assert times_ms(video(), [None] * 4) == [0, 40, 80, 120]
    assert times_ms(video(), [0, None, None, 120, 160]) == [0, 40, 80, 120, 160]


def test_a_restart_continues_on_one_clock():
    timeline = video()
    assert times_ms(timeline, [*line_ms(50), *line_ms(50), *line_ms(50)]) == line_ms(150)
    assert (timeline.count, timeline.dropped) == (2, 0)
    assert timeline.first == "at 2.0 s by -2.0 s"


def test_a_counter_of_33_bits_that_wraps_continues():
    wrap_ms = 2**33 * 1000 // 90_000
    timeline = video()
    assert times_ms(timeline, [*line_ms(10, 0), *line_ms(10, 400 - wrap_ms)]) == line_ms(20)
    assert timeline.count == 1


def test_a_jump_ahead_in_a_discontinuous_container_is_closed():
    timeline = video(is_discontinuous=True)
    assert times_ms(timeline, [*line_ms(10), *line_ms(10, 5_000_000)]) == line_ms(20)
    assert timeline.count == 1


def test_a_gap_that_the_container_states_stays():
    stamps = [*line_ms(10), *line_ms(10, 3_000_000)]
    assert times_ms(video(end_ns=3001 * NS_PER_S), stamps) == stamps
    assert times_ms(video(), stamps) == stamps  # no duration stated
    assert times_ms(video(end_ns=NS_PER_S), stamps) == line_ms(20)


def test_a_slide_show_keeps_its_times():
    slides = [0, 5000, 10_000, 15_000, 20_000, 55_000]
    for options in ({}, {"end_ns": 60 * NS_PER_S}, {"is_discontinuous": True}):
        timeline = video(**options)
        assert times_ms(timeline, slides) == slides
        assert (timeline.count, timeline.dropped) == (0, 0)


def test_a_single_wrong_stamp_drops_one_frame():
    for wrong in (5, 90_000, 1_000_000_000, -500):
        timeline = video()
        assert times_ms(timeline, [*line_ms(10), wrong, *line_ms(10, 440)]) == [*line_ms(10), *line_ms(10, 440)]
        assert (timeline.count, timeline.dropped) == (0, 1)


def test_stamps_that_never_increase_are_replaced():
    assert times_ms(video(), [0] * 30) == line_ms(30)[:28]  # the last two might be wrong stamps


def test_frames_before_the_stated_start_are_dropped_but_one():
    timeline = video()
    assert times_ms(timeline, [-80, -40, 0, 40]) == [0, 40]
    assert timeline.dropped == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.integers(-(10**7), 10**7), max_size=60), st.booleans())
def test_any_stamps_give_increasing_times_and_lose_no_frame_unseen(stamps: list[int | None], is_discontinuous: bool):
    timeline = video(is_discontinuous=is_discontinuous)
    times = times_ms(timeline, stamps)
    assert times == sorted(set(times))
    assert all(time >= 0 for time in times)
    assert len(times) + timeline.dropped == len(stamps)


def test_the_stamp_that_runs_backwards_less_often_is_used():
    timeline = video()
    reordered, decoded = [1, 3, 4, 2, 7, 8, 6, 9], [2, 3, 4, 6, 7, 8, 9, 10]  # an AVI file with B-frames
    chosen = [timeline.choose_stamp(pts, dts) for pts, dts in zip(reordered, decoded, strict=True)]
    assert chosen == [1, 3, 4, *decoded[3:]]
    assert timeline.choose_stamp(None, 11) == 11
    assert video().choose_stamp(5, None) == 5


# Sound


def test_sound_follows_the_sample_count_within_the_jitter_of_its_stamps():
    assert sound_times_ms(SoundTimeline(Jumps()), [0, 23, 39, 61, 85, 99]) == [0, 20, 40, 60, 80, 100]
    assert sound_times_ms(SoundTimeline(Jumps()), [None] * 3) == [0, 20, 40]


def test_sound_keeps_gaps_and_a_late_start():
    assert sound_times_ms(SoundTimeline(Jumps()), [700, 720, 1500, 1520]) == [700, 720, 1500, 1520]
    assert sound_times_ms(SoundTimeline(Jumps()), [5000, 5020]) == [5000, 5020]
    late = sound_times_ms(SoundTimeline(Jumps()), [0, 20, *range(9000, 9100, 20)])
    assert late[-3:] == [9040, 9060, 9080]


def test_sound_that_starts_again_continues():
    timeline = SoundTimeline(Jumps())
    stamps = [*range(0, 2000, 20), *range(0, 2000, 20)]
    assert sound_times_ms(timeline, stamps) == list(range(0, 4000, 20))
    assert (timeline.count, timeline.first) == (1, "at 2.0 s by -2.0 s")


def test_a_single_wrong_stamp_of_sound_changes_nothing():
    for wrong in (100_000_000, -100_000):
        timeline = SoundTimeline(Jumps())
        assert sound_times_ms(timeline, [0, 20, wrong, 60, 80]) == [0, 20, 40, 60, 80]
        assert timeline.count == 0


def test_video_and_sound_share_the_jumps():
    """The sound of each part is shorter than its video; without a common offset it would run ahead by 0.3 s for each part."""
    jumps = Jumps()
    frames, sound = video(jumps), SoundTimeline(jumps)
    frame_times = times_ms(frames, line_ms(50) * 4)
    sound_times = sound_times_ms(sound, list(range(0, 1700, 20)) * 4)
    starts = [index * 85 for index in range(4)]
    assert [frame_times[50 * part] for part in range(4)] == [0, 2000, 4000, 6000]
    for part, start in enumerate(starts[1:], 1):
        assert sound_times[start + 3] - (2000 * part + 60) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.integers(-(10**7), 10**7), max_size=60))
def test_any_stamps_of_sound_move_it_back_by_less_than_the_overlap(stamps: list[int | None]):
    times = sound_times_ms(SoundTimeline(Jumps()), stamps)
    assert all(later - earlier > -501 for earlier, later in itertools.pairwise(times))
    assert all(time >= 0 for time in times)


@pytest.mark.parametrize("step_ms", [0, 1, 10])
def test_stamps_of_sound_that_hardly_increase_follow_the_sample_count(step_ms: int):
    """Each of them overlapped the sound before it by less than the limit, so that the time stood still."""
    timeline = SoundTimeline(Jumps())
    found = sound_times_ms(timeline, [step_ms * index for index in range(100)], 64)
    assert found[-1] >= 64 * 99 - 1000
    assert all(after - before > -500 for before, after in itertools.pairwise(found))
    assert timeline.count > 0


def test_sound_may_overlap_once_a_second():
    """The parts of a stream that is joined at frames each start a little before the end of the one before."""
    timeline = SoundTimeline(Jumps())
    starts = [part * 1900 + frame * 20 for part in range(3) for frame in range(100)]
    assert sound_times_ms(timeline, starts) == starts
    assert timeline.count == 0
