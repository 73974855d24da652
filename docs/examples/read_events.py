#!/usr/bin/env python3
"""Print the events of a file that `moodring run FILE --events EVENTS.jsonl` wrote.

usage: python read_events.py EVENTS.jsonl
"""

import sys
from pathlib import Path

from moodring import EmotionEvent

for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    event = EmotionEvent.from_json(line)
    print(event.time_utc, event.state, event.label, event.confidence)
