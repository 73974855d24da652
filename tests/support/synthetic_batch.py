"""Output folders of `moodring batch` with chosen labels, written by its own writer of tables, without networks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from moodring.analysis.batch import record
from moodring.analysis.batch.output import Table, file_types
from moodring.analysis.batch.settings import Per, Settings
from moodring.analysis.batch.work import row_columns
from moodring.analysis.row import Row
from moodring.analysis.summary import Tally
from moodring.config import Config
from moodring.labels import LABELS

Labels = Callable[[int, int], str | None]  # of a file and a row


def write_batch(
    out: Path,
    paths: Sequence[str],
    rows: int,
    label_of: Labels,
    *,
    labels: Sequence[str] = LABELS,
    cells: Mapping[str, Sequence[str]] | None = None,
    failures: Sequence[tuple[str, str]] = (),
    per: Per = "event",
) -> Path:
    """Write the folder of a complete batch of recordings with `rows` rows each; `cells` are the columns of the manifest."""
    settings = Settings(Config(), tuple(labels), "id", "synthetic", "0" * 64, per=per)
    manifest = dict(cells or {})
    types = file_types(list(manifest), settings)
    out.mkdir()
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Table(out, "files", types, as_csv=True))
        events = None
        if per == "event":
            events = stack.enter_context(Table(out, "events", {"path": str, **row_columns(settings)}, as_csv=False))
        for k, path in enumerate(paths):
            tally = Tally(labels)
            for i in range(rows):
                label = label_of(k, i)
                row = Row(time_s=0.2 * (i + 1), state="ok" if label else "no_face", label=label)
                if label:
                    row = Row(time_s=0.2 * (i + 1), state="ok", label=label, confidence=1.0, probabilities={label: 1.0})
                tally.add(row)
                if events is not None:
                    events.add({"path": path, **row.to_dict(labels)})
            summary = tally.summary(source=path, kind="video", duration_s=0.2 * rows, missing=()).to_dict()
            own = dict(zip(list(types)[1:], (column[k] for column in manifest.values()), strict=False))
            found = {**summary, **own, "path": path}
            files.add({name: found.get(name) for name in types})
    lines = ["path,reason", *(",".join(json.dumps(cell) for cell in failure) for failure in failures)]
    (out / "failures.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    result = {"files": len(paths), "failed": len(failures), "rows": len(paths) * rows if per == "event" else 0}
    document = {"format": record.FORMAT, "state": "complete", **settings.record(), "input": "list.csv", "result": result}
    (out / record.FILE).write_text(json.dumps(document), encoding="utf-8")
    return out
