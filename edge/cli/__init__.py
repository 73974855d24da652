"""The `moodring` command. Each subcommand builds frozen options and calls one function; packages are imported on demand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import moodring
from moodring import process
from moodring.address import is_recording
from moodring.cli import batch, convert, machine, models, run
from moodring.errors import MoodringError
from moodring.evaluation.options import add_evaluate
from moodring.redaction import without_credentials


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted."""
    process.open_standard_streams()
    arguments = parser().parse_args(_mark_files(sys.argv[1:] if argv is None else argv))
    # One thread is enough for matrices of this size; by default BLAS starts one per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    process.install()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("moodring: interrupted", file=sys.stderr)
        return process.INTERRUPTED
    except MoodringError as error:
        process.log(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the remaining buffer has no reader
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        process.log(f"{where}{error.strerror or error}; check that the path exists, is writable and that the disk has space")
        return 1


def _mark_files(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ./ before each file name that argparse would take for an unknown option.

    Arguments after `--` need no mark.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    return [f"./{word}" if _is_dashed_file(word) else word for word in argv[:end]] + list(argv[end:])


def _is_dashed_file(word: str) -> bool:
    """Return whether a word begins with a dash, is no option and names a file. Options are `-h`, and `--name` without a dot."""
    if not word.startswith("-") or word in ("-", "-h") or (word.startswith("--") and "." not in word):
        return False
    return is_recording(word)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser(
        prog="moodring",
        description="Fuse facial and vocal expression into a stream of events, on this machine and in real time.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
    )
    top.add_argument("--version", action=_PrintVersion, help="show program's version number and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        run.add_run,
        run.add_analyze,
        batch.add_batch,
        run.add_replay,
        run.add_report,
        convert.add_convert,
        run.add_config,
        machine.add_devices,
        machine.add_doctor,
        machine.add_bench,
        machine.add_service,
        models.add_data,
        models.add_train,
        models.add_export,
        models.add_sign,
        add_evaluate,
    ):
        add(commands)
    return top


class _Parser(argparse.ArgumentParser):
    """Prints errors without the secrets of the addresses in them: argparse repeats arguments that it does not know."""

    def error(self, message: str) -> NoReturn:
        super().error(without_credentials(message))


class _PrintVersion(argparse.Action):
    """Like the action of argparse, but reads the version only when it is printed, because reading it takes long."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002, ARG002  names of argparse
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"moodring {moodring.__version__}")
        parser.exit()
