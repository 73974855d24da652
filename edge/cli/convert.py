"""Subcommand that converts event files to annotation files, and the options of annotation files of other subcommands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moodring.arguments import frozen, names
from moodring.cli.lazy import lazy

FORMATS = ("vtt", "srt", "elan", "textgrid", "bids", "xdf")


def add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="convert an event file to subtitles or annotations (extra: formats)",
        description="Convert an event file, written by `moodring run --events FILE`, to WebVTT or SubRip subtitles, an ELAN or "
        "Praat annotation file, a BIDS table of events or an XDF recording. Events of several recordings get a file each.",
    )
    convert.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    convert.add_argument("--to", choices=FORMATS, required=True, help="the format to write")
    convert.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write, or folder that exists (default: beside the event file)"
    )
    convert.add_argument(
        "--video",
        type=Path,
        metavar="CLIP",
        help="the recording: ELAN opens it, and the output is beside it, with its name",
    )
    convert.add_argument(
        "--tiers",
        type=names("expression", "face", "speech"),
        metavar="LIST",
        help="expression (face and voice together), face, speech (all; in subtitles: expression)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace files that exist")
    convert.set_defaults(command=_convert)


def _convert(arguments: Any) -> int:
    command = lazy("dashboard.convert")
    return int(command.convert(frozen(command.ConvertOptions, arguments)))


def add_annotations(command: Any) -> None:
    """Add the options that write annotation files of recordings."""
    command.add_argument(
        "--subtitles",
        type=names("vtt", "srt"),
        default=(),
        metavar="vtt|srt",
        help="write subtitles beside each recording, with its name (extra: formats)",
    )
    command.add_argument("--elan", action="store_true", help="write an ELAN file beside each recording (extra: formats)")
    command.add_argument("--textgrid", action="store_true", help="write a Praat TextGrid beside each (extra: formats)")
    command.add_argument("--bids", action="store_true", help="write a BIDS table of events and its sidecar beside each")
    command.add_argument("--xdf", action="store_true", help="write an XDF file beside each")
    command.add_argument("--annotations", type=Path, metavar="DIR", help="write these files into DIR, which must exist")
