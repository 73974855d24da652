"""Write docs/api.md, the reference of the public API, from the signatures and docstrings of the package.

python -m docs.generate.api_page docs
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import moodring
from docs.generate.tables import table
from moodring.analysis import api, arrays, summary
from moodring.analysis.annotations import files, moments
from moodring.analysis.streams import feed, opening
from moodring.types import DeviceState, Modality, State

INTRODUCTION = """<!-- Written by `make docs` from the docstrings of the package. Change those; do not edit. -->

# Library reference

Every public name of `import moodring`. [The guide](library.md) shows how they are used. Names are imported on first use.
Everything is typed: the package contains `py.typed`. Names that this page does not list are not public and can change."""
GROUPS = {
    "Analyse": ("analyze", "analyze_image", "analyze_sound", "Analysis", "Row", "Summary"),
    "Streams of events": ("open_stream", "EventStream", "DeviceStream", "RecordingStream", "FeedStream"),
    "Networks and configuration": ("load_models", "Models", "load_config", "Config", "load_bundle", "Bundle"),
    "Events": ("EmotionEvent", "BranchView", "Face", "StatusEvent", "LABELS"),
    "The pipeline": ("Pipeline",),
    "Errors": (
        "MoodringError",
        "UsageError",
        "ConfigError",
        "DataError",
        "MediaError",
        "DeviceError",
        "BundleError",
        "BackendError",
        "ExportError",
        "EventError",
        "PublishError",
    ),
}
ALIASES = {
    "AnnotationFormat": files.AnnotationFormat,
    "AnyPath": api.AnyPath,
    "Colour": arrays.Colour,
    "DeviceState": DeviceState,
    "Feed": feed.Feed,
    "Kind": summary.Kind,
    "Modality": Modality,
    "Pace": opening.Pace,
    "State": State,
    "Tier": moments.Tier,
}


def render_page() -> str:
    """Return the page. Raises KeyError where a public name belongs to no group."""
    missing = set(moodring.__all__) - {name for names in GROUPS.values() for name in names}
    if missing:
        raise KeyError(f"no group of docs/generate/api_page.py contains {', '.join(sorted(missing))}")
    parts = [INTRODUCTION]
    for group, names in GROUPS.items():
        parts.append(f"## {group}")
        for name in names:
            parts += _entry(name, getattr(moodring, name))
    types = table(["name", "type"], [[f"`{name}`", f"`{_type_text(kind)}`"] for name, kind in ALIASES.items()])
    return "\n\n".join([*parts, "## Names of types", types]) + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    """Yield the blocks that describe one public name."""
    if inspect.isfunction(value):
        yield f"### {name}"
        yield _code(name, typing.get_overloads(value) or [value])
        yield _doc(value)
    elif inspect.isclass(value) and issubclass(value, Exception):
        yield f"### {name}"
        base = value.__bases__[0].__name__
        yield (
            _doc(value)
            + (f" It is a `{base}`." if base != "Exception" else "")
            + f" Exit code {getattr(value, 'exit_code', 1)}."
        )
    elif inspect.isclass(value):
        yield f"### {name}"
        yield _doc(value)
        yield from _fields(value)
        yield from _members(name, value)
    else:
        yield f"### {name}"
        yield f"The labels of the shipped bundle, in the order of all probabilities: {', '.join(value)}."


def _fields(value: type) -> Iterator[str]:
    """Yield the table of the fields of a dataclass."""
    if dataclasses.is_dataclass(value):
        rows = [[f"`{field.name}`", f"`{_escaped(str(field.type))}`"] for field in dataclasses.fields(value)]
        yield table(["field", "type"], rows)


def _members(name: str, value: type) -> Iterator[str]:
    """Yield the public methods and properties of a class, those that it inherits left out."""
    for member, found in vars(value).items():
        if member.startswith("_"):
            continue
        if isinstance(found, property):
            yield f"`{member}: {_annotation(inspect.signature(found.fget or len).return_annotation)}`: {_doc(found)}"
        elif callable(found) or isinstance(found, classmethod):
            function = found.__func__ if isinstance(found, classmethod) else found
            if inspect.isfunction(function):
                instance = "stream" if name.endswith("Stream") else name.lower()
                owner = name if isinstance(found, classmethod) else instance
                yield _code(f"{owner}.{member}", [function])
                yield _doc(function)


def _code(name: str, functions: Sequence[Callable[..., Any]]) -> str:
    return "\n".join(["```python", *(_signature(name, function) for function in functions), "```"])


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return the call of a function with its parameters: on one line if it is short, else on one line each."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    shown: list[str] = []
    for index, parameter in enumerate(parameters):
        is_first_keyword = parameter.kind is parameter.KEYWORD_ONLY and all(
            p.kind is not p.KEYWORD_ONLY for p in parameters[:index]
        )
        shown += ["*"] if is_first_keyword else []
        shown.append(_parameter(parameter))
    end = f" -> {_annotation(signature.return_annotation)}"
    line = f"{name}({', '.join(shown)}){end}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in shown), f"){end}"])


def _parameter(parameter: inspect.Parameter) -> str:
    text = f"{parameter.name}: {_annotation(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return text
    default = parameter.default.name if isinstance(parameter.default, enum.Enum) else repr(parameter.default)
    return f"{text} = {default if len(default) < 40 else '...'}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _type_text(kind: Any) -> str:
    return _escaped(str(kind).replace("typing.", ""))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")  # in a cell of a table


def _doc(value: Any) -> str:
    """Return a docstring. Raises ValueError without one."""
    text = inspect.getdoc(value)
    if not text:
        raise ValueError(f"{value!r} has no docstring")
    return text


def main(argv: Sequence[str]) -> int:
    """Write the page into a folder of documentation; return 0."""
    (Path(argv[0]) / "api.md").write_text(render_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
