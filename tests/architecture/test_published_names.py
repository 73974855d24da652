"""Published names stay: flags, configuration and recipe keys, metrics, event fields, HTTP paths, bundle and evaluation keys.

`tests/fixtures/published_names.json` holds the names and values of version 0.1.0. Each test collects the same names from the
product and compares them with that file. A name that is missing or has another value fails; a new name passes.

To record a new name, copy it from `python -m tests.architecture.test_published_names`, which prints the present names as
JSON. The file's command lines, number ranges and evaluation keys are not printed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import hashlib
import json
import tomllib
import typing
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

import moodring
from moodring import cli, config
from moodring.capture.media import MediaCounters
from moodring.clock import NS_PER_S, SimulatedClock
from moodring.publish.metrics import Collector
from moodring.run.stream import Stream
from moodring.telemetry import Telemetry
from moodring.train import recipe
from moodring.types import Counters, EmotionEvent, SinkState

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(moodring.__file__).parent
FIXTURES = ROOT / "tests" / "fixtures"
PUBLISHED = FIXTURES / "published_names.json"

JSON_VALUES = (str, int, float, bool, type(None))
DEPTH = 3  # of the keys that are listed of bundle.json and of an evaluation
# Constraints of a JSON schema that the list of fields holds. The hash covers the others (if, then, else, uniqueItems).
CONSTRAINTS = ("const", "format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
FER2013_LABELS = 7
FERPLUS_LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


# Comparison


def differences(published: Any, found: Any, where: str) -> list[str]:
    """Return what is missing or changed, one line each. A list is a set of names: its order does not matter."""
    if isinstance(published, dict) and isinstance(found, dict):
        lines = [f"{where}/{key} is missing" for key in published if key not in found]
        shared = (key for key in published if key in found)
        return lines + [line for key in shared for line in differences(published[key], found[key], f"{where}/{key}")]
    if isinstance(published, list) and isinstance(found, list):
        return [f"{where} lacks {item!r}" for item in published if item not in found]
    return [] if published == found else [f"{where} was {published!r}, is {found!r}"]


def check(section: str, found: dict[str, Any]) -> None:
    """Fail with one line for each published name of a section that is missing or changed."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))[section]
    assert published, f"{PUBLISHED.name} lists nothing under {section}"
    lines = differences(published, found, section)
    assert not lines, "\n".join(lines)


# Packaging


def packaging() -> dict[str, Any]:
    """Return the distribution name, the console scripts and the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "name": project["name"],
        "scripts": sorted(project["scripts"]),
        "extras": sorted(project["optional-dependencies"]),
    }


# Command line


def command_line() -> dict[str, Any]:
    """Return each subcommand, such as `moodring evaluate face`, with its positional arguments and options."""
    return dict(_commands(cli.parser(), "moodring"))


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a command and the subcommands below it."""
    arguments = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    positional = [action for action in arguments if not action.option_strings]
    options = [action for action in arguments if action.option_strings]
    yield (
        name,
        {
            "positional": {
                str(place): {"name": action.metavar or action.dest, **_argument(action)}
                for place, action in enumerate(positional, 1)
            },
            "options": {
                flag: {"metavar": action.metavar, "required": action.required, **_argument(action)}
                for action in options
                for flag in action.option_strings
            },
        },
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child, subparser in action.choices.items():
                yield from _commands(subparser, f"{name} {child}")


def _argument(action: argparse.Action) -> dict[str, Any]:
    """Return what an argument accepts. `nargs` 0 is a switch without a value."""
    return {
        "nargs": action.nargs,
        "choices": None if action.choices is None else list(action.choices),
        "default": _plain(action.default),
    }


def _plain(value: object) -> Any:
    """Return a value as JSON stores it; a tuple becomes its text."""
    return value if isinstance(value, JSON_VALUES) else str(value)


def test_the_command_line_keeps_its_commands_flags_choices_and_defaults():
    check("command_line", command_line())


def accepted_command_lines() -> list[str]:
    """Return the command lines of the fixture: every command with its required arguments and its listed values."""
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))["accepted_command_lines"]


@pytest.mark.parametrize("line", accepted_command_lines())
def test_a_published_command_line_is_accepted(line: str):
    assert callable(cli.parser().parse_args(line.split()).command)


# Configuration


def configuration() -> dict[str, Any]:
    """Return each dotted configuration key with its type, choices and default."""
    return dict(_configuration_keys(config.Config(), ""))


def _configuration_keys(section: Any, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys of one section and of the sections in it. STREAM stands for the name that the user gives a stream."""
    types = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value, kind, key = getattr(section, field.name), types[field.name], prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from _configuration_keys(value, f"{key}.")
        elif typing.get_origin(kind) is dict:
            yield from _configuration_keys(typing.get_args(kind)[1](), f"{key}.STREAM.")
        elif typing.get_origin(kind) is Literal:
            yield key, {"type": "choice", "choices": list(typing.get_args(kind)), "default": value}
        else:
            yield key, {"type": kind.__name__, "default": value}


def test_the_configuration_keeps_its_keys_types_choices_and_defaults():
    check("configuration", configuration())


def nested(dotted: str, value: object) -> dict[str, Any]:
    """Return the parsed YAML that sets one dotted key."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("key", json.loads(PUBLISHED.read_text(encoding="utf-8"))["configuration_ranges"])
def test_a_number_in_the_published_range_is_accepted(key: str):
    for bound in json.loads(PUBLISHED.read_text(encoding="utf-8"))["configuration_ranges"][key]:
        found: Any = config.parse(nested(key, bound), "test")
        for part in key.split("."):
            found = getattr(found, part)
        assert found == bound


# Recipes


def recipes() -> dict[str, Any]:
    """Return the keys of each kind of recipe with their types."""
    return {
        kind: {field.name: str(field.type) for field in dataclasses.fields(keys)}
        for kind, keys in recipe.RECIPE_CLASSES.items()
    }


def test_the_recipes_keep_their_keys_and_types():
    check("recipes", recipes())


# Metrics


def metrics() -> dict[str, Any]:
    """Return each Prometheus sample with its type and labels, as one stream and as two streams expose it.

    Counters and reasons for drops are those of a live run and of a recording, so that their label values are listed too.
    """
    telemetry = _telemetry()
    sinks = {"mqtt": SinkState(10, 1, 2, 3, spooled=4, spool_dropped=5, connected=True)}
    part = (telemetry, lambda: sinks)
    return {"one_stream": _samples(Collector({"a": part})), "two_streams": _samples(Collector({"a": part, "b": part}))}


def _telemetry() -> Telemetry:
    """Return the telemetry of a stream after one published event."""
    live, recording = Stream(Mock(), None, None, SimulatedClock(0), print), MediaCounters()
    counters = {**dataclasses.asdict(Counters()), **live.captured, **recording.captured}
    dropped = {**live.dropped, **recording.dropped}
    telemetry = Telemetry(
        SimulatedClock(NS_PER_S), counters=lambda: counters, dropped=lambda: dropped, level_dbfs=lambda: -20.0
    )  # fmt: skip
    telemetry.record(EmotionEvent.from_json((FIXTURES / "emotion_v1.jsonl").read_text(encoding="utf-8").splitlines()[0]))
    return telemetry


def _samples(collector: Collector) -> dict[str, Any]:
    """Return each sample name with the type of its family and every value that each of its labels takes."""
    found: dict[str, Any] = {}
    for family in collector.collect():
        for sample in family.samples:
            names = ",".join(sorted(sample.labels))
            entry = found.setdefault(sample.name, {"type": family.type, "label_names": names, "label_values": {}})
            for label, value in sample.labels.items():
                values = entry["label_values"].setdefault(label, [])
                if value not in values:
                    values.append(value)
    return found


def test_the_metrics_keep_their_names_types_and_labels():
    pytest.importorskip("prometheus_client", reason="no prometheus_client: pip install 'moodring[metrics]'")
    check("metrics", metrics())


# JSON schemas


def schemas() -> dict[str, Any]:
    """Return the fields of each event schema."""
    return {name: dict(_fields(schema, schema, "")) for name, schema in _schema_files().items()}


def _schema_files() -> dict[str, Any]:
    """Return the event schemas by name, such as `moodring.emotion.v1`."""
    files = sorted((PACKAGE / "publish" / "schemas").glob("*.schema.json"))
    return {path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8")) for path in files}


def _fields(schema: dict[str, Any], root: dict[str, Any], path: str, *, required: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the path of each field below a schema with its types, values and constraints. `[]` is an item, `*` any key."""
    alternatives = list(_alternatives(schema, root))
    yield path or "/", _constraints(alternatives, required=required)
    for each in alternatives:
        for name, child in each.get("properties", {}).items():
            yield from _fields(child, root, f"{path}/{name}", required=name in each.get("required", ()))
        for keyword, name in (("items", "[]"), ("additionalProperties", "*")):
            if isinstance(each.get(keyword), dict):
                yield from _fields(each[keyword], root, f"{path}/{name}", required=False)


def _alternatives(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and those that it names in anyOf, oneOf, allOf and $ref."""
    yield schema
    for child in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _alternatives(child, root)
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from _alternatives(target, root)


def _constraints(alternatives: list[dict[str, Any]], *, required: bool) -> dict[str, Any]:
    """Return what a field may hold."""
    found: dict[str, Any] = {"required": required}
    for each in alternatives:
        for keyword, values in (("types", each.get("type", [])), ("enum", each.get("enum", []))):
            if values:
                found[keyword] = found.get(keyword, []) + ([values] if isinstance(values, str) else values)
        found |= {key: each[key] for key in CONSTRAINTS if key in each}
        if each.get("additionalProperties") is False:
            found["additionalProperties"] = False
    return found


def schema_hashes() -> dict[str, str]:
    """Return the SHA-256 of each event schema without its descriptions, as JSON with sorted keys."""
    return {
        name: hashlib.sha256(json.dumps(_undescribed(schema), sort_keys=True).encode()).hexdigest()
        for name, schema in _schema_files().items()
    }


def _undescribed(schema: Any) -> Any:
    """Return a schema without the texts under `description`."""
    if isinstance(schema, dict):
        is_text = isinstance(schema.get("description"), str)  # else it is a property of that name
        return {key: _undescribed(value) for key, value in schema.items() if not (is_text and key == "description")}
    return [_undescribed(item) for item in schema] if isinstance(schema, list) else schema


def test_the_event_schemas_keep_their_fields_types_and_values():
    check("schemas", schemas())


def test_the_event_schemas_are_unchanged_but_for_descriptions():
    """A field that is added on purpose needs a new hash in the fixture."""
    check("schema_sha256_without_descriptions", schema_hashes())


# HTTP


def http() -> dict[str, Any]:
    """Return the HTTP interface of the live page: paths, methods, parameters, status codes and fields of JSON bodies."""
    (path,) = PACKAGE.rglob("openapi.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    return {
        "paths": {
            address: {method: _operation(operation, document) for method, operation in methods.items()}
            for address, methods in document["paths"].items()
        },
        "components": {
            name: dict(_fields(schema, document, "")) for name, schema in document["components"].get("schemas", {}).items()
        },
    }


def _operation(operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return one method of one path."""
    return {
        "parameters": [f"{parameter['in']} {parameter['name']}" for parameter in operation.get("parameters", ())],
        "request": _body(operation.get("requestBody", {}), document),
        "responses": {status: _body(response, document) for status, response in operation["responses"].items()},
    }


def _body(body: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request or response by media type."""
    return {kind: dict(_fields(media.get("schema", {}), document, "")) for kind, media in body.get("content", {}).items()}


def test_the_live_page_keeps_its_http_interface():
    check("http", http())


# Bundle


def bundle_keys() -> dict[str, Any]:
    """Return the keys of the default bundle's bundle.json, down to the third level."""
    document = json.loads((PACKAGE / "bundles" / "default" / "bundle.json").read_text(encoding="utf-8"))
    return {"default": sorted(_key_paths(document, DEPTH))}


def _key_paths(value: Any, depth: int, prefix: str = "") -> set[str]:
    """Return the dotted keys of nested JSON objects; `[]` stands for the items of a list."""
    if isinstance(value, list):
        return {path for item in value for path in _key_paths(item, depth, f"{prefix}[]")}
    if depth == 0 or not isinstance(value, dict):
        return set()
    name = f"{prefix}." if prefix else ""
    return {f"{name}{key}" for key in value} | {
        path for key, child in value.items() for path in _key_paths(child, depth - 1, f"{name}{key}")
    }


def test_the_default_bundle_keeps_its_keys():
    check("bundle", bundle_keys())


# Evaluation


def evaluations(bundle: Path, folder: Path) -> dict[str, Any]:
    """Run each kind of `moodring evaluate` over small random data sets and return the keys of what it writes."""
    fer2013, ferplus, ravdess, image = _write_faces(folder), folder / "ferplus.csv", _write_voices(folder), folder / "wall.png"
    cv2.imwrite(str(image), np.full((120, 160), 128, np.uint8))
    faces, voices = ["--fer2013", str(fer2013), "--ferplus", str(ferplus)], ["--ravdess", str(ravdess)]
    commands = {
        "face": ["face", *faces],
        "face --robustness": ["face", *faces, "--robustness"],
        "face --nonfaces": ["face", "--nonfaces", str(image)],
        "speech": ["speech", *voices, "--clips", "--noise", str(ravdess / "Actor_01"), "--snr", "10"],
        "speech --robustness": ["speech", *voices, "--robustness"],
        "speech --corpus": ["speech", "--corpus", str(ravdess), "--clips"],
        "stream": ["stream", *voices],
        "fusion": ["fusion", *faces, *voices, "--pairs", "20"],
    }
    return {name: _evaluate(command, bundle, folder / "figures.json") for name, command in commands.items()}


def _evaluate(command: list[str], bundle: Path, out: Path) -> list[str]:
    """Run one evaluation and return the dotted keys of its JSON file, down to the third level."""
    assert cli.main(["evaluate", *command, "--bundle", str(bundle), "--json", str(out)]) == 0
    return sorted(_key_paths(json.loads(out.read_text(encoding="utf-8")), DEPTH))


def _write_faces(folder: Path) -> Path:
    """Write 14 random images, the first of each split alike, as FER2013, and FER+ votes for them; return FER2013's file."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, 48 * 48)
    with (folder / "fer2013.csv").open("w", newline="") as images, (folder / "ferplus.csv").open("w", newline="") as votes:
        image_rows, vote_rows = csv.writer(images), csv.writer(votes)
        image_rows.writerow(("emotion", "pixels", "Usage"))
        vote_rows.writerow(("Usage", "Image name", *FERPLUS_LABELS))
        for i in range(2 * FER2013_LABELS):
            usage = "PublicTest" if i < FER2013_LABELS else "Training"
            pixels = first if i in (0, FER2013_LABELS) else rng.integers(0, 256, 48 * 48)
            image_rows.writerow((i % FER2013_LABELS, " ".join(map(str, pixels)), usage))
            vote_rows.writerow((usage, f"fer{i:07d}.png", *(10 * (i % FER2013_LABELS == k) for k in range(10))))
    return folder / "fer2013.csv"


def _write_voices(folder: Path) -> Path:
    """Write one recording of each of the eight emotions in the layout of RAVDESS, 16 kHz mono; return the folder."""
    actor = folder / "ravdess" / "Actor_01"
    actor.mkdir(parents=True)
    time_s = np.arange(int(1.6 * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * 140.0 * k * time_s) / k for k in range(1, 20)) * (1 + np.sin(2 * np.pi * 4.0 * time_s))
    for emotion in range(1, 9):
        with wave.open(str(actor / f"03-01-{emotion:02d}-01-01-01-01.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((600.0 * emotion * tone).astype("<i2").tobytes())
    return actor.parent


def test_evaluations_keep_their_json_keys(tiny_bundle: Path, tmp_path: Path):
    check("evaluations", evaluations(tiny_bundle, tmp_path))


def test_the_package_keeps_its_name_scripts_and_extras():
    check("packaging", packaging())


# The comparison itself


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "packaging": packaging,
    "command_line": command_line,
    "configuration": configuration,
    "recipes": recipes,
    "metrics": metrics,
    "schemas": schemas,
    "schema_sha256_without_descriptions": schema_hashes,
    "http": http,
    "bundle": bundle_keys,
}


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in nested objects and lists."""
    if place:
        yield place
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(child, (*place, key))


@pytest.mark.parametrize("section", ["command_line", "configuration", "metrics", "recipes"])
def test_every_name_that_is_removed_is_found(section: str):
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))[section]
    for place in _places(published):
        changed = copy.deepcopy(published)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]
        assert differences(published, changed, section), place


def test_changed_values_are_found_and_additions_pass():
    published = {"--pace": {"default": "realtime", "choices": ["realtime", "max"]}}
    longer = {"--pace": {"default": "realtime", "choices": ["max", "slow", "realtime"]}, "--new": {}}
    assert differences(published, longer, "run") == []
    changed = {"--pace": {"default": "max", "choices": ["realtime", "max"]}}
    assert differences(published, changed, "run") == ["run/--pace/default was 'realtime', is 'max'"]


if __name__ == "__main__":
    print(json.dumps({name: collect() for name, collect in SECTIONS.items()}, indent=1, ensure_ascii=False))
