"""Types of command line arguments, each with an error message for invalid values, and frozen options made of them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, TypeVar

from moodring.address import STANDARD_INPUT

T = TypeVar("T", int, float)
Options = TypeVar("Options")

ACTORS = 24


def frozen(options: type[Options], arguments: argparse.Namespace) -> Options:
    """Return a frozen dataclass of options: each field is the argument of that name, if the subcommand has it."""
    import dataclasses  # noqa: PLC0415  `moodring --help` starts sooner without it

    names = [field.name for field in dataclasses.fields(options) if hasattr(arguments, field.name)]  # type: ignore[arg-type]
    return options(**{name: getattr(arguments, name) for name in names})


def number(kind: type[T], text: str) -> T:
    """Return the text as int or float."""
    try:
        return kind(text)
    except ValueError as error:
        what = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}") from error


def source(text: str) -> str:
    """Return a source of video or sound; `-` is standard input."""
    return STANDARD_INPUT if text == "-" else text


def positive(text: str) -> float:
    """Return a finite number above 0."""
    value = number(float, text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return value


def frame_rate(text: str) -> float:
    """Return a frame rate in frames a second."""
    value = number(float, text)
    if not 0.1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must lie in 0.1..1000, got {text}")
    return value


def floats(text: str) -> tuple[float, ...]:
    """Return finite numbers separated by commas."""
    values = tuple(number(float, part) for part in text.split(","))
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"must be numbers, got {text}")
    return values


def whole(lowest: int) -> Callable[[str], int]:
    """Return a parser of integers of at least `lowest`."""

    def parse(text: str) -> int:
        value = number(int, text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, got {text}")
        return value

    return parse


def shard(text: str) -> tuple[int, int]:
    """Return (i, n) of i/n, with i in 1..n."""
    first, _, second = text.partition("/")
    i, n = number(int, first), number(int, second)
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"must be I/N with I in 1..N, such as 1/4, got {text}")
    return i, n


def port(text: str) -> int:
    """Return a TCP port."""
    value = number(int, text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"must lie in 0..65535, got {text}")
    return value


def actors(text: str) -> tuple[int, ...]:
    """Return RAVDESS actor numbers separated by commas."""
    named = tuple(number(int, part) for part in text.split(","))
    if not all(1 <= actor <= ACTORS for actor in named):
        raise argparse.ArgumentTypeError(f"RAVDESS has the actors 1 to {ACTORS}, got {text}")
    return named


def listed(text: str) -> tuple[str, ...]:
    """Return names separated by commas."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got {text!r}")
    return parts


def names(*known: str) -> Any:
    """Return a parser of comma-separated names out of `known`."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(text.split(","))
        for part in parts:
            if part not in known:
                raise argparse.ArgumentTypeError(f"{part!r} is not one of {', '.join(known)}")
        return parts

    return parse
