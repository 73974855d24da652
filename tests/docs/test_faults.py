"""The table of faults: sixteen kinds, each with tests that exist."""

from __future__ import annotations

import re

from tests.architecture.modules import ROOT


def test_every_kind_of_fault_names_tests_that_exist():
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)\. .*$", text, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 17))
    for line in text.splitlines():
        if re.match(r"\| \d+\. ", line):
            kind, meets, answer, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            assert all((kind, meets, answer))
            named = re.findall(r"tests/[\w/]+/test_\w+\.py", tests)
            assert named, kind
            assert not [path for path in named if not (ROOT / path).is_file()]
