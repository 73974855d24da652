#!/usr/bin/env python3
"""Process a recording with `moodring run` and draw the share of each label as text.

usage: python plot_shares.py MEDIA_FILE
"""

import subprocess
import sys
from collections import Counter

from moodring import EmotionEvent

WIDTH = 40  # characters of a full bar

command = [sys.executable, "-m", "moodring.cli", "run", sys.argv[1], "--pace", "max", "--events", "-"]
lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()  # noqa: S603  a fixed command
events = [EmotionEvent.from_json(line) for line in lines]
counts = Counter(event.label or event.state for event in events)
for name, count in counts.most_common():
    print(f"{name:10} {'#' * round(WIDTH * count / len(events)):{WIDTH}} {count / len(events):6.1%}")
