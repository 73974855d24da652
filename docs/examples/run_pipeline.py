#!/usr/bin/env python3
"""Run the pipeline on a media file with video and audio, and print five events for each second.

`moodring.run.replay` does the same for `moodring run FILE`, also for files with video or audio alone.

usage: python run_pipeline.py MEDIA_FILE
"""

import datetime as dt
import heapq
import sys

from moodring.capture.media import AudioFile, VideoFile
from moodring.config import Config
from moodring.inference import bundle
from moodring.pipeline import Pipeline
from moodring.types import EventIdentity, VideoFrame

TICK_NS = 200_000_000
DEVICES = {"camera": "ok", "microphone": "ok"}


def utc(time_ns: int) -> str:
    """Return the media time as UTC text; the recording starts at 1970-01-01T00:00:00Z."""
    return dt.datetime.fromtimestamp(time_ns / 1e9, dt.UTC).isoformat()


pipeline = Pipeline(Config(), bundle.load(bundle.DEFAULT), EventIdentity("/moodring/example/file/1", utc))
due_ns = TICK_NS
with VideoFile(sys.argv[1]) as video, AudioFile(sys.argv[1]) as audio:
    frames = ((frame.capture_time_ns, 1, frame) for frame in video)
    blocks = ((block.end_time_ns, 0, block) for block in audio)
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        while due_ns < time_ns:
            event = pipeline.tick(due_ns, DEVICES)
            print(f"{due_ns / 1e9:5.1f} s  {event.label or event.state:10} {event.confidence or 0.0:.2f}")
            due_ns += TICK_NS
        if isinstance(datum, VideoFrame):
            pipeline.process_frame(datum)
            pipeline.search_new_faces(datum)
        else:
            pipeline.process_audio(datum)
