"""Mute schedule of cameras and microphones: periods of the day on some or all weekdays, in local time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PERIOD_PATTERN = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+)?"
    r"(?P<begin_h>\d\d):(?P<begin_m>\d\d)-(?P<end_h>\d\d):(?P<end_m>\d\d)"
)
MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Period:
    """A period of the day on some weekdays (0 is Monday), in minutes since midnight; the end is exclusive.

    A period whose end lies before its begin ends on the next day.
    """

    days: frozenset[int]
    begin_min: int
    end_min: int

    def contains(self, weekday: int, minute: int) -> bool:
        if self.begin_min < self.end_min:
            return weekday in self.days and self.begin_min <= minute < self.end_min
        began_yesterday = (weekday - 1) % 7 in self.days and minute < self.end_min
        return began_yesterday or (weekday in self.days and minute >= self.begin_min)


def parse_periods(text: str) -> tuple[Period, ...]:
    """Parse `none`, or periods such as `22:00-07:00, sat-sun 12:00-13:30`. Raises ValueError that names the wrong part."""
    if text.strip().lower() == "none":
        return ()
    return tuple(_parse_period(part.strip()) for part in text.lower().split(","))


def _parse_period(part: str) -> Period:
    found = PERIOD_PATTERN.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is not a period; write it like 22:00-07:00 or mon-fri 09:00-17:00")
    for day in (found["first"], found["last"]):
        if day is not None and day not in DAYS:
            raise ValueError(f"{day!r} in {part!r} is not a day; use {', '.join(DAYS)}")
    first = DAYS.index(found["first"]) if found["first"] else 0
    last = DAYS.index(found["last"]) if found["last"] else first if found["first"] else 6
    days = frozenset((first + offset) % 7 for offset in range((last - first) % 7 + 1))
    begin, end = (60 * int(found[f"{edge}_h"]) + int(found[f"{edge}_m"]) for edge in ("begin", "end"))
    if (
        begin >= MINUTES_PER_DAY
        or end > MINUTES_PER_DAY
        or begin == end
        or max(int(found["begin_m"]), int(found["end_m"])) > 59
    ):
        raise ValueError(f"{part!r} is not a period of the day; use two different times between 00:00 and 24:00")
    return Period(days, begin, end)


class MuteSchedule:
    """Reports when the schedule of a device mutes or unmutes it. A user's choice in between holds until the next such change.

    `texts` holds the periods of each device in the format of `parse_periods`.
    """

    def __init__(self, texts: Mapping[str, str], local_time: Callable[[], time.struct_time] = time.localtime) -> None:
        self._periods = {device: parse_periods(text) for device, text in texts.items()}
        self._local_time = local_time
        self._previous = self.muted_now()

    def muted_now(self) -> dict[str, bool]:
        """Return for each device whether its schedule mutes it now."""
        now = self._local_time()
        minute = 60 * now.tm_hour + now.tm_min
        return {device: any(p.contains(now.tm_wday, minute) for p in periods) for device, periods in self._periods.items()}

    def changes(self) -> dict[str, bool]:
        """Return the devices whose schedule changed since the last call, each with whether it is muted now."""
        before, self._previous = self._previous, self.muted_now()
        return {device: muted for device, muted in self._previous.items() if muted != before[device]}
