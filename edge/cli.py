"""The `moodring` command. A subcommand builds its objects and calls them; heavy packages are imported only where asked for."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from edge import __version__
from edge.errors import MoodringError, UsageError, without_credentials

T = TypeVar("T", int, float)

INTERRUPTED = 130
ACTORS = 24
PRECISIONS = ("fp32", "int8")
BACKENDS = ("onnx", "openvino")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted."""
    arguments = parser().parse_args(argv)
    # One thread is enough for matrices of this size, and BLAS would otherwise spin up one per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("moodring: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MoodringError as error:
        print(f"moodring: {without_credentials(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  what is left to flush has no reader
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"moodring: {where}{error.strerror or error}; name a place that this user may use and that has room",
            file=sys.stderr,
        )
        return 1


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(
        prog="moodring",
        description="Fuse facial and vocal expression into a stream of events, on this machine, in milliseconds.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"moodring {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_replay(commands)
    _add_report(commands)
    _add_devices(commands)
    _add_doctor(commands)
    _add_service(commands)
    _add_train(commands)
    _add_export(commands)
    _add_evaluate(commands)
    return top


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="watch and listen, or read a recording, and publish events",
        description="Read a recording, a stream, or this machine's camera and microphone, and publish fused expression events. "
        "On a terminal a panel shows them; piped, they come as JSON lines on standard output. Messages go to standard error.",
    )
    run.add_argument("source", nargs="?", metavar="SOURCE", help="media file or stream URL with picture and/or sound")
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (see configs/laptop.yaml)")
    run.add_argument("--video", metavar="SRC", help="picture only from here: file, URL, camera path or index, or 'none'")
    run.add_argument("--audio", metavar="SRC", help="sound only from here: file, URL, microphone name, or 'none'")
    run.add_argument("--events", metavar="FILE", help="write events to FILE as JSON lines; '-' is standard output")
    run.add_argument("--seconds", type=_positive, metavar="N", help="stop after N seconds")
    run.add_argument(
        "--pace",
        choices=("realtime", "max"),
        default="realtime",
        help="how fast to read a recording (default: realtime)",
    )
    run.add_argument("--page", action="store_true", help="show what is sensed in a browser on this machine")
    _page_port(run)
    run.add_argument("--preview", action="store_true", help="let the page show the camera's picture too, on this machine alone")
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge.session import run  # noqa: PLC0415

    return run(arguments)


def _page_port(command: Any) -> None:
    command.add_argument("--page-port", type=_port, metavar="N", help="where the page listens (8737); 0 is any free port")


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="play a recorded event file on the page",
        description="Play a file of events, as `moodring run --events FILE` writes it, on the page. Ctrl-C ends it.",
    )
    replay.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    replay.add_argument("--page", action="store_true", required=True, help="show it in a browser on this machine")
    _page_port(replay)
    replay.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration, for what stands under page:")
    replay.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="times as fast (1)")
    replay.set_defaults(command=lambda a: importlib.import_module("edge.page.replay").main(a))


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="summarise a recorded event file on one page",
        description="Write a summary of a file of events: timeline, shares, transitions, drops and devices, in one HTML file.",
    )
    report.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    report.add_argument("--html", type=Path, required=True, metavar="OUT", help="the file to write")
    report.set_defaults(command=lambda a: importlib.import_module("edge.page.report").write_report(a.events, a.html))


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what works on this machine and what to do about the rest",
        description="Check devices, libraries, cascade, bundle, backends and permissions.",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the one that ships)")
    doctor.add_argument(
        "--tune",
        action="store_true",
        help="measure which form of each network is the fastest here, for `inference.backend: auto`",
    )
    doctor.set_defaults(
        command=lambda a: importlib.import_module("edge.doctor").main(json=a.json, bundle=a.bundle, tuned=a.tune)
    )


def _add_devices(commands: Any) -> None:
    devices = commands.add_parser(
        "devices",
        help="list this machine's cameras and microphones",
        description="List cameras and microphones, what --video and --audio call them, and what keeps them from being used.",
    )
    devices.add_argument("--json", action="store_true", help="print them as JSON")
    devices.set_defaults(command=lambda a: importlib.import_module("edge.devices").main(as_json=a.json))


def _add_service(commands: Any) -> None:
    service = commands.add_parser(
        "service",
        help="run as a service of systemd",
        description="Install moodring as a hardened service of systemd that starts at every boot, ask how it is, or remove it.",
    )
    service.add_argument("action", choices=("install", "status", "remove"))
    service.add_argument("--config", type=Path, metavar="FILE", help="the configuration that the service runs with")
    service.set_defaults(command=_service)


def _service(arguments: argparse.Namespace) -> int:
    unit = importlib.import_module("edge.service.unit")
    if arguments.action == "install":
        return int(unit.install(arguments.config))
    return int(unit.status() if arguments.action == "status" else unit.remove())


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a branch or the fusion (extra: train)",
        description="Train one network from a recipe. Interrupted runs resume; Ctrl-C ends cleanly and keeps the best weights.",
    )
    train.add_argument("kind", choices=("face", "speech", "fusion"))
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="recipe (see configs/train/)")
    train.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder: checkpoints, metrics, pictures")
    train.set_defaults(command=lambda a: _extra("train").train(a.kind, a.config, a.data, a.out))


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write a verified model bundle from checkpoints (extra: export)",
        description="Export checkpoints to ONNX, compare each network with its original, and write a model bundle.",
    )
    export.add_argument("checkpoints", type=Path, metavar="CHECKPOINTS", help="folder with {face,speech,fusion}.safetensors")
    export.add_argument("--out", type=Path, required=True, metavar="BUNDLE_DIR")
    export.add_argument("--data", type=Path, required=True, metavar="DIR", help="real inputs to compare on")
    export.add_argument("--formats", default="onnx", type=_names("onnx"), metavar="LIST", help="onnx")
    export.add_argument("--precision", default="fp32,int8", type=_names(*PRECISIONS), metavar="LIST", help="fp32,int8")
    export.add_argument(
        "--max-drop", type=_positive, default=0.5, metavar="PP", help="points of accuracy that int8 may cost (0.5)"
    )
    export.add_argument(
        "--calibration-samples", type=_whole(16), default=256, metavar="N", help="training inputs that set int8's ranges (256)"
    )
    export.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")
    export.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    run = _extra("export")
    options = run.Options(arguments.formats, arguments.precision, arguments.max_drop, arguments.calibration_samples)
    return int(run.export(arguments.checkpoints, arguments.out, arguments.data, options, arguments.json))


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a bundle on published data (needs no torch)",
        description="Run a bundle over a data set as published and write accuracy, calibration and confusion as JSON.",
    )
    kinds = evaluate.add_subparsers(required=True, metavar="WHAT", dest="what")
    face = kinds.add_parser(
        "face", help="FER2013 (official and FER+ labels), photographs in class folders, or pictures of nobody"
    )
    source = face.add_mutually_exclusive_group(required=True)
    source.add_argument("--fer2013", type=Path, metavar="CSV", help="fer2013.csv")
    source.add_argument("--images", type=Path, metavar="DIR", help="class folders, read through detection and crop")
    source.add_argument("--nonfaces", type=Path, nargs="+", metavar="FILE", help="pictures and clips in which nobody is")
    face.add_argument("--robustness", action="store_true", help="with --fer2013: the accuracy under each disturbance instead")
    face.add_argument("--ferplus", type=Path, metavar="CSV", help="fer2013new.csv, for the ferplus label set")
    _split(face)
    for name, text in (
        ("speech", "RAVDESS speech, a clip's answer being the mean over its hops, weighed by the sound in their windows"),
        ("stream", "the same clips through the daemon's path, the majority of a clip's events"),
    ):
        kind = kinds.add_parser(name, help=text)
        _ravdess(kind)
        if name == "speech":
            kind.add_argument("--noise", type=Path, metavar="DIR", help="mix each recording of this folder in as well")
            kind.add_argument("--snr", type=_floats, default=(20.0, 10.0, 5.0, 0.0), metavar="LIST", help="dB: 20,10,5,0")
            kind.add_argument("--clips", action="store_true", help="write each clip's probabilities as well")
    fusion = kinds.add_parser("fusion", help="pairs by class of FER2013 pictures and RAVDESS clips (different people)")
    fusion.add_argument("--fer2013", type=Path, required=True, metavar="CSV")
    _split(fusion)
    _ravdess(fusion)
    fusion.add_argument("--pairs", type=_whole(1), default=4000, metavar="N")
    fusion.add_argument("--seed", type=_whole(0), default=0, metavar="K")
    fusion.add_argument("--method", choices=("feature", "weighted", "voting"), default="feature")
    for kind in kinds.choices.values():
        kind.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the one that ships)")
        kind.add_argument("--json", type=Path, required=True, metavar="FILE", help="write the figures here")
        kind.add_argument("--precision", choices=PRECISIONS, default="fp32")
        kind.add_argument("--backend", choices=BACKENDS, default="onnx")
    evaluate.set_defaults(command=lambda a: importlib.import_module("edge.evaluation.run").evaluate(a))


def _split(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--split", choices=("Training", "PublicTest", "PrivateTest"), default="PublicTest")


def _ravdess(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--ravdess", type=Path, required=True, metavar="DIR", help="folder of Actor_NN folders")
    kind.add_argument("--actors", type=_actors, metavar="LIST", help="only these, such as 1,2 (default: all there are)")


def _extra(name: str) -> Any:
    """Import train.run or export.run, or say which extra is missing."""
    try:
        return importlib.import_module(f"{name}.run")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in (name, "edge"):
            raise
        raise UsageError(f"`moodring {name}` needs {error.name}: pip install 'moodring[{name}]'") from error


def _number(kind: type[T], text: str) -> T:
    try:
        return kind(text)
    except ValueError as error:
        what = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}") from error


def _positive(text: str) -> float:
    value = _number(float, text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return value


def _floats(text: str) -> tuple[float, ...]:
    values = tuple(_number(float, part) for part in text.split(","))
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"must be numbers, got {text}")
    return values


def _whole(lowest: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = _number(int, text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, got {text}")
        return value

    return whole


def _port(text: str) -> int:
    port = _number(int, text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"must lie in 0..65535, got {text}")
    return port


def _actors(text: str) -> tuple[int, ...]:
    actors = tuple(_number(int, part) for part in text.split(","))
    if not all(1 <= actor <= ACTORS for actor in actors):
        raise argparse.ArgumentTypeError(f"RAVDESS has the actors 1 to {ACTORS}, got {text}")
    return actors


def _names(*known: str) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(text.split(","))
        for part in parts:
            if part not in known:
                raise argparse.ArgumentTypeError(f"{part!r} is not one of {', '.join(known)}")
        return parts

    return parse


if __name__ == "__main__":
    sys.exit(main())
