"""moodring's runtime: capture, features, inference, fusion and publishing. Never imports torch, scipy, train or export."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("moodring")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+unknown"
