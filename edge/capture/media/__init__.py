"""Media files: `readers` delivers frames and sound, `container` opens files, `timeline` gives continuous times."""

from moodring.capture.media.container import probe
from moodring.capture.media.readers import AudioFile, MediaCounters, VideoFile

__all__ = ["AudioFile", "MediaCounters", "VideoFile", "probe"]
