"""Draw docs/page.png: the live page while the daemon watches and hears the bundled clip on devices made of software.

python -m docs.generate.draw_page OUT.png [--seconds 100] [--dark]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.live import camera, microphone
from tests.support import browser as browsers

CONFIG = "video: {{source: '{url}'}}\naudio: {{source: default}}\nevents: {{path: none}}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moodring-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = stack.enter_context(microphone(folder))
        url = stack.enter_context(camera())
        (folder / "config.yaml").write_text(CONFIG.format(url=url), encoding="utf-8")
        command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(folder / "config.yaml"), "--page-port", "0"]
        process = stack.enter_context(
            subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        )
        stack.callback(process.terminate)
        address = next(found[1] for line in process.stderr or () if (found := re.search(r"page on (http://\S+)", line)))
        chromium = stack.enter_context(browsers.chromium())
        scheme = "dark" if arguments.dark else "light"
        tab = stack.enter_context(browsers.tab(chromium, viewport={"width": 1180, "height": 800}, color_scheme=scheme))
        tab.goto(address)
        tab.wait_for_timeout(1000 * arguments.seconds)
        tab.locator("tr[data-is-label]").wait_for()
        tab.locator("rect.first:visible").wait_for()
        tab.screenshot(path=arguments.out)


if __name__ == "__main__":
    main()
