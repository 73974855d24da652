"""Draw the live view as a person sees it, from a real event of the bundled clip (docs/terminal.svg).

python -m docs.generate.draw_terminal docs/terminal.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from moodring.capture.media import AudioFile, VideoFile
from moodring.config import Config
from moodring.inference import bundle as bundles
from moodring.pipeline import Pipeline
from moodring.publish.terminal import panel
from moodring.run.replay import replay
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import EmotionEvent, EventIdentity

EVENT_INDEX = 50  # the event ten seconds into the clip
TICK_NS = 200_000_000


def draw(out: Path) -> None:
    pipeline = Pipeline(Config(), bundles.load(bundles.DEFAULT), EventIdentity("/moodring/docs/clip/0", lambda _: ""))
    panels = []

    def append_panel(event: EmotionEvent) -> None:
        panels.append(panel(event, "moodring: bundled clip", pipeline.level_dbfs))

    replay(pipeline, VideoFile(str(SAMPLE_CLIP)), AudioFile(str(SAMPLE_CLIP)), append_panel, tick_ns=TICK_NS)
    console = Console(record=True, width=76, file=io.StringIO())
    console.print(panels[EVENT_INDEX])
    out.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="make run")
    out.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")  # no fonts from the network


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
