"""The report of a batch in a browser: narrow, wide, dark, and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodring.dashboard.batch.report import write_report
from moodring.labels import LABELS
from tests.support import browser as browsers
from tests.support.synthetic_batch import write_batch

pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'moodring[batch]'")
pytestmark = [pytest.mark.live, pytest.mark.skipif(not browsers.is_available(), reason=browsers.SKIP_REASON)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsers.chromium() as browser:
        yield browser


@pytest.mark.parametrize(
    ("group", "articles", "width", "scheme"), [(None, 12, 360, "light"), ("group", 4, 360, "dark"), (None, 12, 1200, "dark")]
)
def test_the_report_fits_each_width_and_axe_finds_no_violation(
    tmp_path: Path, chromium: Any, group: str | None, articles: int, width: int, scheme: str
):
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    names = [f"session_{k}/{'a_long_name_without_a_break_' * 3}{k}.mp4" for k in range(12)]
    folder = write_batch(
        tmp_path / "out", names, 60, lambda k, i: LABELS[(k + i // 9) % 8] if i % 20 else None,
        cells={"group": [f"g{k % 4}" for k in range(12)]}, failures=[(names[0], f"{names[0]} cannot be opened")],
    )  # fmt: skip
    write_report(folder, tmp_path / "report.html", group)
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
    with browsers.tab(chromium, **options) as tab:
        tab.goto((tmp_path / "report.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("article").count() == articles
        assert tab.locator(".strip").first.bounding_box()["width"] > 250
        assert Axe().run(tab).response["violations"] == []
        tab.locator("nav a").last.click()
        assert tab.locator("article").last.bounding_box()["y"] < 900
        tab.emulate_media(media="print")
        kept = "[...document.querySelectorAll('article')].every((one) => getComputedStyle(one).breakInside === 'avoid')"
        assert tab.evaluate(kept)
        assert not tab.locator(".up").first.is_visible()
