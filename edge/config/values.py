"""One scalar of the configuration, converted to the type of its key: text, number, true or false, or a choice.

A value that YAML or a reader could take for something else is an error with a remedy: `off` as a text, `1:30` and `010` as
numbers.
"""

from __future__ import annotations

import os
import re
import typing
from typing import Annotated, Any, Literal

from moodring.address import file_mode
from moodring.config.document import MAX_SHOWN, Scalar, shorten
from moodring.redaction import without_credentials

TRUE_WORDS, FALSE_WORDS = {"true", "yes", "on"}, {"false", "no", "off"}  # of YAML 1.1
KIND_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
HOME = re.compile(r"~[^/]*/|~$")


def convert(kind: Any, scalar: Scalar, *, may_be_none: bool) -> Any:
    """Return the value of a scalar as `kind`. Raises ValueError: "must be a number, got 'fast'".

    `may_be_none` is whether the text `none` switches the key off.
    """
    if scalar.form == "null":
        raise ValueError(_wrong(kind, scalar, "write a value, or remove the key to keep its default"))
    if scalar.form == "list":
        raise ValueError(_wrong(kind, scalar, ""))
    if typing.get_origin(kind) is Literal:
        if scalar.text not in typing.get_args(kind):
            raise ValueError(_wrong(kind, scalar, ""))
        return scalar.text
    if typing.get_origin(kind) is Annotated:  # LocalPath
        return expand_home(_text(scalar, may_be_none=may_be_none))
    if kind is str:
        return _text(scalar, may_be_none=may_be_none)
    value = None
    if scalar.form != "quoted":
        value = {bool: _truth, int: _integer, float: _number}[kind](scalar.text)
    if value is None:
        raise ValueError(_wrong(kind, scalar, _remedy(kind, scalar)))
    return value


def name_kind(kind: Any) -> str:
    """Return what a key takes, in words: "a number", "one of never, second, always"."""
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    return KIND_NAMES[typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind]


def expand_home(text: str) -> str:
    """Return a path with the home directory in place of `~` or `~USER` at its start. Raises ValueError if it is unknown."""
    if HOME.match(text) is None:
        return text
    expanded = os.path.expanduser(text)  # noqa: PTH111  Path would shorten addresses such as ~/a//b
    if expanded == text and not file_mode(text):
        raise ValueError(
            f"names the home directory {shorten(text.split('/', 1)[0])}, which is not known here; write the whole path"
        )
    return expanded


def show(scalar: Scalar) -> str:
    """Return a value for an error message: short, with quotes where it has quotes or spaces."""
    text = without_credentials(scalar.text)  # before the cut, which can remove the @ that ends a password
    text = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    if scalar.form in ("list", "truth"):
        return text
    if scalar.form == "null":
        return f"{text or 'nothing'} (null)"
    return text if re.fullmatch(r"[-+.\w:]*\d[-+.\w:]*", text) and scalar.form == "word" else repr(text)


def _wrong(kind: Any, scalar: Scalar, remedy: str) -> str:
    comma = ";" if typing.get_origin(kind) is Literal else ","
    return f"must be {name_kind(kind)}{comma} got {show(scalar)}{'; ' if remedy else ''}{remedy}"


def _text(scalar: Scalar, *, may_be_none: bool) -> str:
    text = scalar.text
    if scalar.form == "truth":
        off = "write none to switch it off, or " if may_be_none and text.lower() in FALSE_WORDS else ""
        raise ValueError(f"must be a text, but YAML reads {text} as true or false; {off}write it in quotes: '{text}'")
    if not text.strip():
        raise ValueError(f"must not be empty; {'write none' if may_be_none else 'remove the key to keep its default'}")
    if any(
        char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char < "\udc80" or "\udcff" < char <= "\udfff" for char in text
    ):
        # U+DC80 to U+DCFF stand for the bytes of file names that are not UTF-8
        raise ValueError(f"must be one line without control characters, got {show(scalar)}")
    return text


def _truth(text: str) -> bool | None:
    return True if text.lower() in TRUE_WORDS else False if text.lower() in FALSE_WORDS else None


def _integer(text: str) -> int | None:
    try:
        return int(text, 0) if text.isascii() else None  # 0: also 0x1f; refuses the octal 010
    except ValueError:
        return None


def _number(text: str) -> float | None:
    if not text.isascii() or re.fullmatch(r"[-+]?0\d+", text):  # octal in YAML
        return None
    try:
        whole = _integer(text)
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()) if whole is None else whole)
    except (ValueError, OverflowError):
        return None


def _remedy(kind: Any, scalar: Scalar) -> str:
    """Return what to write in place of a wrong value, where that is known."""
    text = scalar.text
    if kind is bool:
        return "write true or false" if text in ("0", "1") or scalar.form == "quoted" else ""
    if scalar.form == "quoted" and _number(text) is not None:
        return f"remove the quotes: {text}"
    if re.fullmatch(r"[-+]?\d+(:\d+)+(\.\d*)?", text):
        return "YAML reads colons as base 60; write one number"
    if re.fullmatch(r"[-+]?0\d+", text):
        return "YAML reads a leading zero as octal; write it without"
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"write a decimal point: {text.replace(',', '.')}"
    return ""
