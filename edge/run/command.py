"""`moodring run`: from its options to a replay of a recording, or to a session of live streams."""

from __future__ import annotations

import cv2

from moodring.process import log
from moodring.run.counters import TimerFactory
from moodring.run.options import RunOptions, load_bundle, read_configuration, select_sources
from moodring.run.sinks import OpenPage
from moodring.telemetry import HistogramTimer


def run(options: RunOptions, open_page: OpenPage, make_timer: TimerFactory = HistogramTimer) -> int:
    """Run until the sources end or the time limit passes; return 0. An interrupt raises KeyboardInterrupt.

    `open_page` serves the page. `make_timer` makes the timer of each stream's stages; the default feeds the telemetry.
    """
    cv2.setNumThreads(1)  # frames are too small to gain from more threads
    config = read_configuration(options)
    bundle = load_bundle(config, options)
    sources = select_sources(options, config, bundle, log)
    if next(iter(sources.values())).live:
        from moodring.run.session import Session  # noqa: PLC0415  devices and threads: a recording starts without them

        session = Session(options, config, bundle, sources, open_page, make_timer=make_timer)
        return session.run()
    from moodring.run.replay import replay_recording  # noqa: PLC0415  PyAV is large, and devices do not need it

    (recording,) = sources.values()
    replay_recording(options, config, bundle, recording, open_page=open_page, log=log, make_timer=make_timer)
    return 0
