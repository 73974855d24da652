"""The reference and the guide of the library: generated from docstrings, and outputs that the code prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import api_page, example_outputs
from tests.architecture.modules import ROOT


def test_the_reference_is_that_of_the_docstrings():
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == api_page.render_page(), "run `make docs`"


@pytest.mark.data
def test_the_outputs_in_the_guides_are_what_the_code_prints(data_dir: Path):
    pytest.importorskip("pandas", reason="no pandas: pip install 'moodring[batch]'")
    with example_outputs.example_folder(data_dir):
        for name in example_outputs.PAGES:
            page = (ROOT / "docs" / name).read_text(encoding="utf-8")
            assert len(example_outputs.EXAMPLE.findall(page)) >= 2
            assert example_outputs.with_outputs(page) == page, "run `make docs DATA=DIR`"
