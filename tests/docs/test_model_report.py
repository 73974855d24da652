"""The report on the models, the model card and the README's results table: generated from the committed evaluation files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from docs.generate.models import __main__ as pages
from docs.generate.models import keep, readme
from docs.generate.models.blocks import Figure, Heading, Table, Text, render_html, render_markdown
from docs.generate.models.evidence import read_evaluations
from moodring.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "models"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate all pages from copies of the committed files into a new folder. START.md is the README of the project."""
    out = tmp_path_factory.mktemp("models")
    for path in DOCS.glob("*.json"):
        shutil.copy(path, out)
    shutil.copy(ROOT / "README.md", out / "START.md")
    assert pages.main([str(out), str(ROOT / "edge/bundles/default"), str(ROOT / "train/folds"), str(out / "START.md")]) == 0
    return out


@pytest.mark.parametrize("name", ["README.md", "index.html", "card.md", "card.html"])
def test_committed_pages_match_the_committed_figures(written: Path, name: str):
    assert (written / name).read_text() == (DOCS / name).read_text(), "run `make docs`"


def test_readme_table_matches_the_committed_figures(written: Path):
    assert (written / "START.md").read_text() == (ROOT / "README.md").read_text(), "run `make docs`"


def test_readme_table_has_one_row_for_each_result():
    text = (ROOT / "README.md").read_text()
    rows = text.split(readme.BEGIN)[1].split(readme.END)[0].strip().splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == [
        "FER2013 PublicTest, official labels",
        "the same images, FER+ majority labels",
        "RAVDESS, five folds of four held-out actors each",
        "five folds, FER+ labels, paired by class, different people",
    ]


def test_readme_without_markers_is_an_error(tmp_path: Path):
    (tmp_path / "README.md").write_text("# moodring\n")
    with pytest.raises(DataError, match="a marker of the results table is missing"):
        readme.write(tmp_path / "README.md", read_evaluations(DOCS))


def test_pages_link_only_to_existing_files():
    for name in ("index.html", "card.html", "README.md", "card.md"):
        text = (DOCS / name).read_text()
        linked = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r"\]\(([^)\s]+)\)", text)
        for target in linked:
            if not target.startswith(("http", "#")):
                assert (DOCS / target).is_file(), f"{name} links to {target}, which does not exist"
    assert all(path.stat().st_size < 300_000 for path in DOCS.glob("*.png"))


def test_pages_state_that_pairs_are_of_different_people(written: Path):
    for name in ("README.md", "card.md", "START.md"):
        assert "paired by class, different people" in (written / name).read_text()
    for name in ("README.md", "card.md"):
        text = (written / name).read_text()
        assert (
            "In such pairs, the errors of face and voice are independent, so fusion is easier than for one person recorded "
            "with both."
        ) in text


def test_report_states_the_caveats_of_the_readme_table(written: Path):
    text = (written / "README.md").read_text()
    for caveat in (
        "If the face shows another class than the label, the fused result is correct in 14.8 % of the pairs.",
        "| FER+ majority labels | 0.43 to 0.53 | 90.0 % | 89.0 % | 95.8 % |",
        "The accuracy of the voice ranges from 57.9 % to 72.5 % over the folds.",
        "The shipped voice network was trained on all twenty actors, so no actor is left to test it.",
        "| voice, same actors in training and test (**inflated**) | 71.2 % |",
        "67.2 %, 65.6 %, 67.7 % (mean 66.9 %, standard deviation 1.1 pp)",
        "At an SNR of 10 dB the voice has 60.4 % accuracy over the folds",
        "the most frequent label of the events, and the accuracy is 65.2 %.",
        "Both modalities are wrong in 15.7 % of the true pairs and in 14.0 % of the pairs by class.",
        "How the results differ with age, skin colour, culture or disability has not been measured.",
    ):
        assert caveat in text


def test_missing_evaluation_file_is_named(written: Path, tmp_path: Path, capsys):
    for path in DOCS.glob("*.json"):
        shutil.copy(path, tmp_path)
    (tmp_path / "speech_folds.json").unlink()
    assert pages.main([str(tmp_path), str(ROOT / "edge/bundles/default"), str(ROOT / "train/folds"), "README.md"]) == 1
    assert "missing speech_folds.json; `make models` writes all evaluation files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("heads", "parts", "sentence"),
    [
        (("official", "ferplus"), "all", "The face network was trained 3 times with different seeds."),
        (
            ("official",),
            "last",
            "The last stage of the face training was run 3 times with different seeds, each time from the ",
        ),
    ],
)
def test_report_states_the_results_of_other_face_seeds(tmp_path: Path, heads: tuple[str, ...], parts: str, sentence: str):
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
    text = (tmp_path / "README.md").read_text()
    assert text.count("68.1 %, 68.2 %, 68.3 % (mean 68.2 %, standard deviation 0.1 pp)") == len(heads)
    assert sentence in text
    assert text.count("the mean changes by +0.0 pp with 30 % of each image occluded") == len(heads)


def test_blocks_are_rendered_as_markdown_and_html():
    blocks = [
        Heading("A & B"),
        Text("**bold** `a<b` [card](card.md)", ("one",)),
        Table(("what", "n", "data"), [("x", "1.0 %", "y"), ("z", "-", "w")], "From y"),
        Figure("f.png", 'a "b"'),
    ]
    text, html = render_markdown(blocks, "note"), render_html(blocks, "note", "t")
    assert "## A & B" in text
    assert "| what | n | data |\n|---|---:|---|\n| x | 1.0 % | y |" in text
    assert "![a" in text
    assert "<h2" in html
    assert "A &amp; B" in html
    assert '<strong>bold</strong> <code>a&lt;b</code> <a href="card.html">card</a>' in html
    assert 'alt="a &quot;b&quot;"' in html
    assert '<th>n</th><th class="words">data</th>' in html


def test_keep_events_writes_the_probabilities_at_six_instants(tmp_path: Path, capsys):
    event = {"type": "moodring.emotion.v1", "data": {"state": "ok", "capture_time_ns": 0, "bundle_id": "b", "face": None,
             "speech": {"probabilities": {"happy": 0.123456}}, "probabilities": {"happy": 0.5}}}  # fmt: skip
    without_label = {"type": "moodring.emotion.v1", "data": {"state": "no_face"}}
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(e) for e in [event, without_label] * 20))
    assert keep.main(["events", str(tmp_path / "events.jsonl"), str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "sample_events.json").read_text())["instants"]
    assert len(kept) == 6
    assert kept[0] == {"time_s": 0.0, "face": None, "speech": {"happy": 0.1235}, "fused": {"happy": 0.5}}
    (tmp_path / "events.jsonl").write_text(json.dumps(without_label))
    assert keep.main(["events", str(tmp_path / "events.jsonl"), str(tmp_path)]) == 1
    assert "no event has state ok" in capsys.readouterr().err
