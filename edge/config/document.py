"""A YAML document as a tree of entries that know their file and line. Scalars stay text: the type of their key decides.

YAML 1.1 reads `on` as true, `1:30` as 90 and `010` as 8. The tree keeps what was written, and `moodring.config.checks` converts
it. A key that is given twice is an error, as are tags: YAML libraries accept the first without a message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from moodring.errors import ConfigError
from moodring.redaction import without_credentials

MAX_BYTES = 256 * 1024  # a configuration is smaller; PyYAML reads about 100 kB a second
TAG = "tag:yaml.org,2002:"
TAGS = {"str", "null", "bool", "int", "float", "timestamp", "value", "map", "seq"}
MERGE = f"{TAG}merge"
MAX_SHOWN = 60  # characters of a name or a value in an error

# What a scalar is by its form: empty or null; a YAML word for true or false; another word or number; a quoted or block text; a
# value of --set or of the environment, which has no quotes; a list.
Form = Literal["null", "truth", "word", "quoted", "given", "list"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was written."""

    text: str
    form: Form


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of one key. `place` names where the key stands: `FILE:LINE`, an option or an environment variable."""

    place: str
    value: Scalar | Table


Table = dict[str, Entry]


def read_document(path: Path) -> tuple[Entry, list[str]]:
    """Return the content of a YAML file and the errors that do not prevent reading it.

    Raises ConfigError if the file cannot be read or is not YAML.
    """
    node = read_node(path)
    reader = _Reader(str(path))
    if node is None:
        return Entry(str(path), {}), []
    return Entry(reader.place(node), reader.value(node)), reader.problems


def read_plain(path: Path) -> Any:
    """Return a YAML file as dicts, lists and scalars, with the types of YAML. Raises ConfigError, also for a repeated key."""
    node = read_node(path)
    reader = _Reader(str(path))
    if node is None:
        return None
    reader.value(node)
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_document(node)
    except (yaml.MarkedYAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path}{_describe(error)}") from error


def from_plain(data: object, place: str) -> Entry:
    """Return Python data as an entry; every key has the same place."""
    if isinstance(data, dict):
        return Entry(place, {str(key): from_plain(value, place) for key, value in data.items()})
    if isinstance(data, bool) or data is None:
        return Entry(place, Scalar(str(data), "null" if data is None else "truth"))
    if isinstance(data, float) and not math.isfinite(data):
        return Entry(place, Scalar(".nan" if math.isnan(data) else f"{'-' * (data < 0)}.inf", "word"))
    if isinstance(data, str):
        return Entry(place, Scalar(data, "quoted"))
    return Entry(place, Scalar(repr(data), "word" if isinstance(data, int | float) else "list"))


def read_node(path: Path) -> Node | None:
    """Return the root of a YAML file, None if it is empty. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"configuration {path} cannot be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"configuration {path} is larger than {MAX_BYTES // 1024} kB; name another file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: the file is not UTF-8 text, so it is not valid YAML; save it as UTF-8") from error
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node: Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{path}:{line}: the file is not valid YAML: it contains the control character {error.character:#x}"
        ) from error
    except RecursionError as error:
        line = loader.line + 1 if loader else 1
        raise ConfigError(f"{path}:{line}: the file is not valid YAML: it is nested too deeply") from error
    except (yaml.MarkedYAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}{_describe(error)}") from error
    return node


def shorten(text: str) -> str:
    """Return a name or a value for an error: on one line, without credentials, cut after `MAX_SHOWN` characters."""
    text = without_credentials(text)  # before the cut, which can remove the @ that ends a password
    text = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return text if text.isprintable() else repr(text)


def _describe(error: Exception) -> str:
    """Return the line, the problem and a remedy of an error of PyYAML, without the text of the file, which can be secret."""
    if isinstance(error, RecursionError):
        return ": the file is not valid YAML: it is nested too deeply"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": the file is not valid YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    line = f":{mark.line + 1}" if mark else ""
    problem = " ".join(str(error.problem or error.context).split())
    began = f" ({error.context}, line {error.context_mark.line + 1})" if error.context and error.context_mark else ""
    hint = ""
    if "\\t" in problem:
        hint = "; YAML is indented with spaces, not with tabs"
    elif "mapping values are not allowed" in problem:
        hint = "; put a text that contains ': ' in quotes, and check the indentation"
    elif "found another document" in problem:
        hint = "; remove the line ---"
    return f"{line}: the file is not valid YAML: {problem}{began}{hint}"


def _join(first: Entry, second: Scalar | Table) -> Entry:
    """Return the keys of both values of a repeated key, so that the errors in both are found."""
    if isinstance(first.value, dict) and isinstance(second, dict):
        return Entry(first.place, {**second, **first.value})
    return first


class _Reader:
    """Converts nodes. A node that aliases repeat is converted once, so their number does not multiply the work."""

    def __init__(self, file: str) -> None:
        self.problems: list[str] = []
        self._file = file
        self._tables: dict[int, Table] = {}

    def value(self, node: Node) -> Scalar | Table:
        """Return a node as a scalar or a table."""
        tag = node.tag.removeprefix(TAG)
        if tag not in TAGS:
            self.problems.append(
                f"{self.place(node)}: the tag {shorten(node.tag.replace(TAG, '!!'))} is not supported; remove it"
            )
        if isinstance(node, MappingNode):
            return self._table(node)
        if isinstance(node, SequenceNode):
            return Scalar("a list" if node.value else "[]", "list")
        assert isinstance(node, ScalarNode)  # noqa: S101  for the type checker
        if tag == "null":
            return Scalar(node.value, "null")
        return Scalar(node.value, "truth" if tag == "bool" else "word" if node.style is None else "quoted")

    def _table(self, node: MappingNode) -> Table:
        if id(node) in self._tables:
            return self._tables[id(node)]
        table = self._tables[id(node)] = {}
        merged: Table = {}
        for key, child in node.value:
            if key.tag == MERGE:
                merged = {**self._merged(key, child), **merged}
            elif not isinstance(key, ScalarNode):
                self.problems.append(f"{self.place(key)}: a key must be a text, not a list or a mapping")
            elif key.value in table:
                first = table[key.value].place.rpartition(":")[2]
                self.problems.append(
                    f"{self.place(key)}: the key {shorten(key.value)} is given twice, first in line {first}; join the two"
                )
                table[key.value] = _join(table[key.value], self.value(child))
            else:
                table[key.value] = Entry(self.place(key), self.value(child))
        table.update({name: entry for name, entry in merged.items() if name not in table})
        return table

    def _merged(self, key: Node, source: Node) -> Table:
        """Return the keys that `<<` takes from a mapping, or from a list of mappings, of which the first has precedence."""
        sources = source.value if isinstance(source, SequenceNode) else [source]
        merged: Table = {}
        for each in reversed(sources):
            if isinstance(each, MappingNode):
                merged.update(self._table(each))
            else:
                self.problems.append(f"{self.place(key)}: << must name a mapping or a list of mappings")
        return merged

    def place(self, node: Node) -> str:
        """Return the file and the line of a node."""
        return f"{self._file}:{node.start_mark.line + 1}"
