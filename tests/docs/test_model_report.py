"""The report: from the evaluation files alone, the same each time, and what is committed is what they give."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from docs.generate.models import __main__ as pages
from docs.generate.models import keep
from docs.generate.models.blocks import Figure, Heading, Table, Text, render_html, render_markdown

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "models"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    for path in DOCS.glob("*.json"):
        shutil.copy(path, out)
    shutil.copy(ROOT / "README.md", out / "START.md")
    assert pages.main([str(out), str(ROOT / "edge/bundles/default"), str(ROOT / "train/folds"), str(out / "START.md")]) == 0
    return out


@pytest.mark.parametrize("name", ["README.md", "index.html", "card.md", "card.html"])
def test_the_committed_pages_are_what_the_committed_figures_give(written: Path, name: str):
    assert (written / name).read_text() == (DOCS / name).read_text(), "run `make report`"


def test_so_are_the_readme_s_figures(written: Path):
    assert (written / "START.md").read_text() == (ROOT / "README.md").read_text(), "run `make report`"


def test_every_picture_is_there_and_every_link_leads_somewhere(written: Path):
    for name in ("index.html", "card.html", "README.md", "card.md"):
        text = (DOCS / name).read_text()
        linked = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r"\]\(([^)\s]+)\)", text)
        for target in linked:
            if not target.startswith(("http", "#")):
                assert (DOCS / target).is_file(), f"{name} leads to {target}, which is not there"
    assert all(path.stat().st_size < 300_000 for path in DOCS.glob("*.png"))


def test_pairs_are_named_for_what_they_are(written: Path):
    for name in ("README.md", "card.md", "START.md"):
        text = (written / name).read_text()
        assert "paired by class, different people" in text
        assert "independent errors make this easier than life" in text


def test_a_missing_evaluation_is_named(written: Path, tmp_path: Path, capsys):
    for path in DOCS.glob("*.json"):
        shutil.copy(path, tmp_path)
    (tmp_path / "speech_folds.json").unlink()
    assert pages.main([str(tmp_path), str(ROOT / "edge/bundles/default"), str(ROOT / "train/folds"), "README.md"]) == 1
    assert "lacks speech_folds.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("heads", "parts", "says"),
    [
        (("official", "ferplus"), "all", "The face network was trained 3 times"),
        (("official",), "last", "The last part of the face network's training was run 3 times"),
    ],
)
def test_what_came_of_other_seeds_of_the_face_is_told(tmp_path: Path, heads: tuple[str, ...], parts: str, says: str):
    for path in DOCS.glob("*.json"):
        shutil.copy(path, tmp_path)
    shutil.copy(ROOT / "README.md", tmp_path / "START.md")
    runs = [
        {"seed": seed} | {f"{head}{what}": 0.68 + seed / 1000 for head in heads for what in ("", "_covered")}
        for seed in (1, 2, 3)
    ]
    spreads = {name: {"mean": 0.682, "deviation": 0.001} for name in runs[0] if name != "seed"}
    (tmp_path / "face_seeds.json").write_text(
        json.dumps({"what": "", "commit": "0", "command": "make face-seeds", "parts": parts, "runs": runs, **spreads})
    )
    folder, start = str(tmp_path), str(tmp_path / "START.md")
    assert pages.main([folder, str(ROOT / "edge/bundles/default"), str(ROOT / "train/folds"), start]) == 0
    for name in ("README.md", "START.md"):
        text = (tmp_path / name).read_text()
        assert text.count("68.1 %, 68.2 %, 68.3 % (mean 68.2 %, deviation 0.1 points)") == len(heads)
        assert says in text
        assert text.count("+0.0 points with 30 % of each picture covered") == len(heads)


def test_blocks_are_written_as_markdown_and_as_html():
    blocks = [
        Heading("A & B"),
        Text("**bold** `a<b` [card](card.md)", ("one",)),
        Table(("what", "n"), [("x", "1.0 %")], "From y"),
        Figure("f.png", 'a "b"'),
    ]
    text, html = render_markdown(blocks, "note"), render_html(blocks, "note", "t")
    assert "## A & B" in text
    assert "| x | 1.0 % |" in text
    assert "![a" in text
    assert "<h2" in html
    assert "A &amp; B" in html
    assert '<strong>bold</strong> <code>a&lt;b</code> <a href="card.html">card</a>' in html
    assert 'alt="a &quot;b&quot;"' in html


def test_what_the_daemon_said_is_kept_at_six_instants(tmp_path: Path, capsys):
    event = {"type": "moodring.emotion.v1", "data": {"state": "ok", "capture_time_ns": 0, "bundle_id": "b", "face": None,
             "speech": {"probabilities": {"happy": 0.123456}}, "probabilities": {"happy": 0.5}}}  # fmt: skip
    silent = {"type": "moodring.emotion.v1", "data": {"state": "no_face"}}
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(e) for e in [event, silent] * 20))
    assert keep.main(["events", str(tmp_path / "events.jsonl"), str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "sample_events.json").read_text())["instants"]
    assert len(kept) == 6
    assert kept[0] == {"time_s": 0.0, "face": None, "speech": {"happy": 0.1235}, "fused": {"happy": 0.5}}
    (tmp_path / "events.jsonl").write_text(json.dumps(silent))
    assert keep.main(["events", str(tmp_path / "events.jsonl"), str(tmp_path)]) == 1
    assert "nothing was said" in capsys.readouterr().err
