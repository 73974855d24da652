"""Draw docs/page.png: a screenshot of the live page while the daemon processes the bundled clip from simulated devices.

python -m docs.generate.draw_page OUT.png [--seconds 100] [--dark]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.daemon import run_with_page
from benchmarks.devices import camera, microphone
from tests.support import browser as browsers

CONFIG = "video: {{source: '{url}'}}\naudio: {{source: default}}\nevents: {{path: none}}\n"


def main(argv: Sequence[str]) -> int:
    """Write the screenshot after the page has shown events for some time; return 0."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.draw_page", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the file to write")
    parser.add_argument("--seconds", type=float, default=100.0, metavar="N", help="time before the screenshot (100)")
    parser.add_argument("--dark", action="store_true", help="use the dark colour scheme")
    arguments = parser.parse_args(argv)
    scheme = "dark" if arguments.dark else "light"
    with tempfile.TemporaryDirectory(prefix="moodring-") as name, contextlib.ExitStack() as stack:
        environment = stack.enter_context(microphone(Path(name)))
        url, _ = stack.enter_context(camera())
        config = Path(name) / "config.yaml"
        config.write_text(CONFIG.format(url=url), encoding="utf-8")
        address = stack.enter_context(run_with_page(config, environment))
        chromium = stack.enter_context(browsers.chromium())
        tab = stack.enter_context(browsers.tab(chromium, viewport={"width": 1180, "height": 800}, color_scheme=scheme))
        tab.goto(address)
        tab.wait_for_timeout(1000 * arguments.seconds)
        tab.locator("tr[data-is-label]").wait_for()
        tab.locator("rect.first:visible").wait_for()
        tab.screenshot(path=arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
