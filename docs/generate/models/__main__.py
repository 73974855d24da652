"""Write the report on the models, the model card and the README's results table from the evaluation files in a folder.

usage: python -m docs.generate.models DOCS_MODELS_DIR BUNDLE_DIR FOLD_BUNDLES_DIR README

Report and card are written as Markdown and HTML, with PNG charts, into DOCS_MODELS_DIR.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate.models import readme
from docs.generate.models.blocks import Block, render_html, render_markdown
from docs.generate.models.card import card
from docs.generate.models.evidence import read_evaluations
from docs.generate.models.report import report
from moodring.errors import MoodringError

NOTE = "Written by `make docs` from the JSON files in this folder. Change docs/generate/models or measure again; do not edit."


def write(out: Path, stem: str, html_stem: str, blocks: list[Block], title: str) -> None:
    """Write a page as Markdown and as HTML."""
    (out / f"{stem}.md").write_text(render_markdown(blocks, NOTE), encoding="utf-8")
    (out / f"{html_stem}.html").write_text(render_html(blocks, NOTE, title), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write all pages; return the exit code."""
    if len(arguments) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    out, shipped, folds, start = map(Path, arguments)
    try:
        evidence = read_evaluations(out)
        write(out, "README", "index", report(evidence, out), "moodring: model results")
        readme.write(start, evidence)
        write(out, "card", "card", card(evidence, shipped, sorted(folds.glob("fold*"))), "moodring: model card")
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    print(f"report -> {out / 'README.md'}, {out / 'index.html'}; card -> {out / 'card.md'}, {out / 'card.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
