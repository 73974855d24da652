"""Write the outputs of the examples in docs/library.md, docs/analyze.md and docs/annotations.md again: what their code prints.

python -m docs.generate.example_outputs docs DATA
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moodring import cli
from moodring.evaluation.data.readers import read_sound
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import F32, SAMPLE_RATE_HZ

TEXT = r"(?:(?!```).)*"  # inside one block
EXAMPLE = re.compile(rf"(?P<head>```(?P<language>python|sh)\n(?P<code>{TEXT})```\n\n```text\n)(?P<output>{TEXT})```", re.DOTALL)
PAGES = ("library.md", "analyze.md", "annotations.md")
# The names in the examples, and the files that they stand for in the folder of recordings.
INPUTS = {
    "couple.jpg": "face_images/fr_two_people.jpg",
    "group.jpg": "face_images/pyfeat_multi_face.jpg",
    "film.mp4": "av_clips/short_hamilton_clip.mp4",
    "clips": "crema_d_sample/clips",
}
VOICE = "ravdess/Actor_01/03-01-05-02-01-01-01.flac"  # the examples read it as voice.wav


@contextlib.contextmanager
def example_folder(data: Path) -> Iterator[None]:
    """Make a temporary folder with links to the inputs of the examples the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        Path(folder, "clip.mp4").symlink_to(SAMPLE_CLIP)
        for name, target in INPUTS.items():
            Path(folder, name).symlink_to(data.resolve() / target)
        Path(folder, "notes.txt").write_text("This is no recording.", encoding="utf-8")
        write_wav(Path(folder, "voice.wav"), read_sound(data / VOICE))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def write_wav(path: Path, samples: F32) -> None:
    """Write sound, float32 [N] at 16 kHz, as a WAV file with 16 bits a sample."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())


def with_outputs(page: str) -> str:
    """Return a page with the present output of each example. The Python examples share their names."""
    names: dict[str, Any] = {}
    return EXAMPLE.sub(lambda found: f"{found['head']}{_output(found['language'], found['code'], names)}```", page)


def _output(language: str, code: str, names: dict[str, Any]) -> str:
    """Return what an example prints to standard output and error. Raises what it raises."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if language == "python":
            exec(code, names)  # noqa: S102  the code of this repository
        else:
            for line in code.splitlines():
                cli.main(shlex.split(line, comments=True)[1:])
    printed.seek(0)
    return printed.read()


def main(argv: Sequence[str]) -> int:
    """Write the outputs into the pages of a folder of documentation; return 0."""
    docs, data = Path(argv[0]).resolve(), Path(argv[1])
    with example_folder(data):
        for page in PAGES:
            (docs / page).write_text(with_outputs((docs / page).read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
