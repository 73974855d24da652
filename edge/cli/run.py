"""Subcommands that publish or show events: run, replay, report; and that of their configuration."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from moodring.arguments import frame_rate, frozen, port, positive, source, whole
from moodring.cli.convert import add_annotations
from moodring.cli.lazy import lazy
from moodring.errors import UsageError


def add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="recognise expression from devices or a recording, and publish events",
        description="Read a recording, a network stream, or the camera and microphone of this machine, and publish fused "
        "expression events. A terminal shows them in a panel; otherwise they are written to standard output as JSON lines. "
        "Messages go to standard error.",
    )
    run.add_argument(
        "source", nargs="?", type=source, metavar="SOURCE",
        help="media file, pipe or stream URL with video, sound or both; '-' is standard input",
    )  # fmt: skip
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (moodring config init writes one)")
    add_settings(run)
    run.add_argument("--video", type=source, metavar="SRC", help="source of video: file, URL, camera path or index, or 'none'")
    run.add_argument("--audio", type=source, metavar="SRC", help="source of sound: file, URL, microphone name, or 'none'")
    add_tracks(run)
    run.add_argument("--events", metavar="FILE", help="write events to FILE as JSON lines; '-' is standard output")
    run.add_argument("--seconds", type=positive, metavar="N", help="stop after N seconds")
    run.add_argument(
        "--pace",
        choices=("realtime", "max"),
        default="realtime",
        help="how fast to read a recording (default: realtime)",
    )
    run.add_argument("--page", action="store_true", help="show events in a browser on this machine")
    _page_port(run)
    run.add_argument("--preview", action="store_true", help="also show the camera image on the page, on this machine only")
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    note_unread_variables()
    options = frozen(lazy("run.options").RunOptions, arguments)
    with lazy("run.options").naming_places(options):
        return int(lazy("run.command").run(options, _open_page))


def add_analyze(commands: Any) -> None:
    analyze = commands.add_parser(
        "analyze",
        help="analyse images, recordings and sounds, and print a table",
        description="Analyse images, recordings and sounds. The table has the faces of each image, and a summary of each "
        "recording; the other formats have a row for each face or event.",
        epilog="Exit codes: 0 all inputs were analysed, 1 an input could not be decoded, 2 a path does not exist or the "
        "command line is wrong, 130 interrupted. An input that fails is reported, and the others are analysed.",
    )
    analyze.add_argument(
        "paths",
        nargs="+",
        type=source,
        metavar="PATH",
        help="file, URL, quoted pattern, or folder, of which all images, recordings and sounds are read; '-' is standard input",
    )
    analyze.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (moodring config init writes one)")
    add_settings(analyze)
    analyze.add_argument(
        "--format", choices=("table", "json", "csv", "parquet"), default="table", help="parquet needs the extra batch (table)"
    )
    analyze.add_argument(
        "--per", choices=("event", "file"), help="a row for each event or face, or one for each file (event; of a table: file)"
    )
    analyze.add_argument("--out", type=Path, metavar="FILE", help="write to FILE, which must not exist, for its owner alone")
    analyze.add_argument("--seconds", type=positive, metavar="N", help="read the first N seconds of each recording")
    add_tracks(analyze)
    add_annotations(analyze)
    analyze.set_defaults(command=_analyze)


def _analyze(arguments: argparse.Namespace) -> int:
    note_unread_variables()
    command = lazy("analysis.command")
    return int(command.run(frozen(command.AnalyzeOptions, arguments)))


def _open_page(*arguments: Any) -> Any:
    """Open the page only where the configuration or the command line asks for it: asyncio costs start-up time and memory."""
    return lazy("dashboard.opening").open_page(*arguments)


def _page_port(command: Any) -> None:
    command.add_argument("--page-port", type=port, metavar="N", help="port of the page (8737); 0 is any free port")


def add_tracks(command: Any) -> None:
    command.add_argument(
        "--video-track", type=whole(0), metavar="N", help="video track of the source, from 0 (its default track)"
    )
    command.add_argument(
        "--audio-track", type=whole(0), metavar="N", help="audio track of the source, from 0 (its default track)"
    )
    command.add_argument(
        "--frame-rate", type=frame_rate, metavar="FPS", help="frame rate of video without time stamps, such as raw H.264"
    )
    command.add_argument(
        "--raw-audio",
        metavar="FORMAT:RATE:CHANNELS",
        help="read sound without a header in this format, for example s16le:16000:1",
    )


def add_settings(command: Any) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the configuration, such as fusion.rate_hz=2; can be repeated, and the last of one key counts",
    )


def note_unread_variables() -> None:
    for note in lazy("config").unread_variables(os.environ):
        print(f"moodring: {note}", file=sys.stderr)


def add_config(commands: Any) -> None:
    config = commands.add_parser(
        "config",
        help="check or write a configuration file",
        description="Check a configuration file, or write one that explains every key.",
        epilog="Defaults are replaced by the file, these by the environment (MOODRING_FUSION__RATE_HZ=2), these by "
        "--set fusion.rate_hz=2, and these by the other options of moodring run.",
    )
    kinds = config.add_subparsers(required=True, metavar="WHAT")
    check = kinds.add_parser(
        "check",
        help="print every error of a configuration file",
        description="Read a configuration file as moodring run does, with the environment, and print every error with its "
        "line. Also load the bundle and read the files of mqtt. No device or socket is opened.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    add_settings(check)
    check.set_defaults(command=_check)
    init = kinds.add_parser(
        "init",
        help="write a configuration file that explains every key",
        description="Write a configuration file that explains every key and holds its default. A file that exists stays.",
    )
    init.add_argument("file", type=Path, nargs="?", default=Path("moodring.yaml"), metavar="FILE", help="moodring.yaml")
    init.set_defaults(command=lambda a: lazy("run.check").init(a.file))


def _check(arguments: argparse.Namespace) -> int:
    note_unread_variables()
    return int(lazy("run.check").check(arguments.file, arguments.settings))


def add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="play a recorded event file on the page",
        description="Play an event file, written by `moodring run --events FILE`, on the page. Ctrl-C ends it.",
    )
    replay.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    replay.add_argument("--page", action="store_true", required=True, help="show it in a browser on this machine")
    _page_port(replay)
    replay.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration; its page: section is used")
    replay.add_argument("--speed", type=positive, default=1.0, metavar="X", help="speed relative to real time (1)")
    replay.set_defaults(command=lambda a: lazy("dashboard.replay").replay(a.events, a.config, a.page_port, a.speed))


def add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="summarise a recorded event file or a batch in one HTML file",
        description="Write a summary to one HTML file. Of an event file: timeline, shares, transitions, drops and devices. Of "
        "the output folder of moodring batch: shares, a strip of labels over time for each file or group, failures and "
        "settings.",
    )
    report.add_argument("events", type=Path, metavar="EVENTS.jsonl|DIR", help="event file, or the DIR of moodring batch")
    report.add_argument("--html", type=Path, required=True, metavar="OUT", help="the file to write")
    report.add_argument("--group", metavar="COLUMN", help="of a batch: one strip for each value of a column of the manifest")
    report.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    if arguments.events.is_dir():
        return int(lazy("dashboard.batch.report").write_report(arguments.events, arguments.html, arguments.group))
    if arguments.group is not None:
        raise UsageError(f"--group needs the output folder of moodring batch; {arguments.events} is none")
    return int(lazy("dashboard.report").write_report(arguments.events, arguments.html))
