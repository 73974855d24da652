"""The report of a batch in a browser: narrow, wide, dark, and on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodring.dashboard.batch.report import write_report
from moodring.labels import LABELS
from tests.support import browser as browsers
from tests.support.synthetic_batch import write_batch

pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'moodring[batch]'")
pytestmark = [pytest.mark.live, pytest.mark.skipif(not browsers.is_available(), reason=browsers.SKIP_REASON)]


@pytest.mark.parametrize("group", [None, "group"])
def test_the_report_fits_each_width_and_axe_finds_no_violation(tmp_path: Path, group: str | None):
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    names = [f"session_{k}/{'a_long_name_without_a_break_' * 3}{k}.mp4" for k in range(12)]
    folder = write_batch(
        tmp_path / "out", names, 60, lambda k, i: LABELS[(k + i // 9) % 8] if i % 20 else None,
        cells={"group": [f"g{k % 4}" for k in range(12)]}, failures=[(names[0], f"{names[0]} cannot be opened")],
    )  # fmt: skip
    write_report(folder, tmp_path / "report.html", group)
    with browsers.chromium() as browser:
        for width, scheme in ((360, "light"), (1200, "dark")):
            options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
            with browsers.tab(browser, **options) as tab:
                tab.goto((tmp_path / "report.html").as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                assert tab.locator("article").count() == (4 if group else 12)
                strip = tab.locator(".strip").first.bounding_box()
                assert strip["width"] > 250
                assert Axe().run(tab).response["violations"] == []
                tab.locator("nav a").last.click()
                assert tab.locator("article").last.bounding_box()["y"] < 900
        with browsers.tab(browser) as tab:
            tab.goto((tmp_path / "report.html").as_uri())
            tab.emulate_media(media="print")
            kept = "[...document.querySelectorAll('article')].every((one) => getComputedStyle(one).breakInside === 'avoid')"
            assert tab.evaluate(kept)
            assert not tab.locator(".up").first.is_visible()
            assert tab.pdf(format="A4").count(b"/Type /Page\n") > 1
