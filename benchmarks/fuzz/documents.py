"""Mutation of JSON documents: one value is replaced, removed, or copied to another place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1e308, 2**64, 0.5, float("nan"), float("inf"), "", " ", "\ud800", "\0", "\x1b[31m\n", [], {},
    [None], {"": 1}, [[]], "x" * 300, [[[[[[[[]]]]]]]],
)  # fmt: skip


def mutate_document(document: Any, rng: random.Random, values: Sequence[Any]) -> None:
    """Change one place of a document, in place. `values` are inserted besides the odd ones."""
    places = list(_places(document))
    if not places:
        return
    part, key = rng.choice(places)
    choice = rng.random()
    if choice < 0.5:
        part[key] = _copy(rng.choice((*ODD_VALUES, *values)))
    elif choice < 0.65:
        del part[key]
    elif choice < 0.85:
        other, other_key = rng.choice(places)
        part[key] = _copy(other[other_key])
    elif isinstance(part, dict):
        part[rng.choice((*(value for value in values if isinstance(value, str)), "x"))] = part.pop(key)
    else:
        part.append(_copy(part[key]))


def _places(part: Any) -> Any:
    """Yield each place of a value: its table or list, and its key or index."""
    for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
        yield part, key
        yield from _places(part[key])


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value
