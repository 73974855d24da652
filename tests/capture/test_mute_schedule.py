"""Mute schedule: periods are parsed and apply to the minute; `changes` reports a device only when its schedule changes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.capture.mute_schedule import DAYS, MuteSchedule, parse_periods
from moodring.config import parse as parse_config
from moodring.errors import ConfigError

MINUTES = st.integers(0, 24 * 60 - 1)
WEEKDAYS = st.integers(0, 6)


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def muted(text: str, day: str, at: str) -> bool:
    hour, minute = at.split(":")
    return any(period.contains(DAYS.index(day), 60 * int(hour) + int(minute)) for period in parse_periods(text))


def test_a_period_over_midnight_ends_on_the_next_day():
    night = "fri 22:00-07:00"
    assert [muted(night, *moment.split()) for moment in ("fri 21:59", "fri 22:00", "sat 06:59", "sat 07:00", "fri 03:00")] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_a_range_of_days_may_span_the_end_of_the_week():
    assert [muted("sat-mon 08:00-24:00", day, "23:59") for day in DAYS] == [True, False, False, False, False, True, True]


def test_several_periods_are_combined_and_none_gives_no_period():
    assert muted("08:00-09:00, Sun 12:00-13:00", "sun", "12:30")
    assert not muted("08:00-09:00, sun 12:00-13:00", "mon", "12:30")
    assert parse_periods("none") == ()


@given(begin=MINUTES, end=MINUTES, day=WEEKDAYS, now=MINUTES)
def test_each_minute_lies_either_in_a_period_or_in_its_complement(begin: int, end: int, day: int, now: int):
    if begin == end:
        return
    in_period, in_complement = (muted(f"{clock(a)}-{clock(b)}", DAYS[day], clock(now)) for a, b in ((begin, end), (end, begin)))
    assert in_period is not in_complement


@pytest.mark.parametrize(
    "text", ["", "22-07", "25:00-26:00", "08:00-08:00", "10:60-11:00", "fre 10:00-11:00", "10:00-11:00;12:00-13:00", "always"]
)
def test_an_invalid_period_raises_config_error_with_its_key(text: str):
    with pytest.raises(ConfigError, match=r"^here: mute\.camera"):
        parse_config({"mute": {"camera": text}}, "here")


def test_changes_reports_a_device_once_when_its_schedule_changes():
    now = "fri 21:59"

    def local_time() -> time.struct_time:
        day, at = now.split()
        return time.struct_time((2026, 1, 1, int(at[:2]), int(at[3:]), 0, DAYS.index(day), 1, -1))

    schedule = MuteSchedule({"camera": "22:00-07:00", "microphone": "none"}, local_time)
    assert schedule.changes() == {}
    now = "fri 22:00"
    assert schedule.changes() == {"camera": True}
    assert schedule.changes() == {}
    assert schedule.muted_now() == {"camera": True, "microphone": False}
    now = "sat 07:00"
    assert schedule.changes() == {"camera": False}
