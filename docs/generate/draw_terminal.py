"""Draw docs/terminal.svg: the panel of the terminal for one event of the bundled clip.

python -m docs.generate.draw_terminal docs/terminal.svg
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from moodring.capture.media import AudioFile, VideoFile
from moodring.config import Config
from moodring.inference import bundle as bundles
from moodring.pipeline import Pipeline
from moodring.publish.terminal import panel
from moodring.run.replay import replay
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import EventIdentity

EVENT_INDEX = 50  # the event ten seconds into the clip
TICK_NS = 200_000_000


def draw(out: Path) -> None:
    """Replay the bundled clip and write the panel of one of its events as SVG."""
    pipeline = Pipeline(Config(), bundles.load(bundles.DEFAULT), EventIdentity("/moodring/docs/clip/0", lambda _: ""))
    events = replay(pipeline, VideoFile(str(SAMPLE_CLIP)), AudioFile(str(SAMPLE_CLIP)), tick_ns=TICK_NS)
    panels = [panel(event, "moodring: bundled clip", pipeline.level_dbfs) for _, event in events]
    console = Console(record=True, width=76, file=io.StringIO())
    console.print(panels[EVENT_INDEX])
    out.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="make run")
    out.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")  # without fonts from the network


def main(argv: Sequence[str]) -> int:
    """Draw the panel into the named file; return 0."""
    draw(Path(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
