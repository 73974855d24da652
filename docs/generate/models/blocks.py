"""A page as a list of blocks, rendered as Markdown and as a self-contained HTML file."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d8dee4; padding-bottom: .2rem; }
table { border-collapse: collapse; margin: 1rem 0 .2rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right; vertical-align: top; }
td { white-space: nowrap; } th { border-bottom: 2px solid #57606a; }
th:first-child, td:first-child, th.words, td.words { text-align: left; white-space: normal; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0 .2rem; }
.source { color: #57606a; font-size: .85rem; margin: 0 0 1.2rem; } code { background: #f3f4f6; padding: 0 .2rem; }
a { color: #0b57d0; }
"""
WORDS = ' class="words"'


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, a list of `items`, or both. Text can contain **bold**, `code` and [text](link)."""

    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a header. `source` names the files that the figures come from."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """An image file in the folder of the page. `source` names the files that its figures come from."""

    file: str
    alt: str
    source: str = ""


Block = Heading | Text | Table | Figure


def render_markdown(blocks: Sequence[Block], note: str) -> str:
    """Return the page as Markdown, with `note` as a comment in front."""
    return f"<!-- {note} -->\n\n" + blocks_to_markdown(blocks)


def blocks_to_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown, separated by empty lines."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Text):
            parts += [block.text] if block.text else []
            parts += ["\n".join(f"- {item}" for item in block.items)] if block.items else []
        elif isinstance(block, Table):
            lines = ["| " + " | ".join(row) + " |" for row in (block.header, *block.rows)]
            lines.insert(1, "|---" + "".join("|---" if words else "|---:" for words in _word_columns(block)[1:]) + "|")
            parts.append("\n".join(lines))
        else:
            parts.append(f"![{block.alt}]({block.file})")
        if isinstance(block, Table | Figure) and block.source:
            parts.append(f"<sub>{block.source}</sub>")
    return "\n\n".join(parts) + "\n"


def render_html(blocks: Sequence[Block], note: str, title: str) -> str:
    """Return the page as HTML, with `note` as a comment in front."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<!-- {note} -->\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        anchor = re.sub(r"[^a-z0-9]+", "-", block.text.lower()).strip("-")
        return f'<h{block.level} id="{anchor}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Text):
        text = f"<p>{_inline(block.text)}</p>" if block.text else ""
        items = "".join(f"<li>{_inline(item)}</li>" for item in block.items)
        return text + (f"<ul>{items}</ul>" if items else "")
    source = f'<p class="source">{_inline(block.source)}</p>' if block.source else ""
    if isinstance(block, Figure):
        return f'<img src="{html.escape(block.file)}" alt="{html.escape(block.alt)}">{source}'
    columns = zip(block.header, _word_columns(block), strict=True)
    head = "".join(f"<th{WORDS if words else ''}>{_inline(cell)}</th>" for cell, words in columns)
    rows = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in block.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{source}"


def _cell(cell: str) -> str:
    return f"<td{'' if _is_number(cell) else WORDS}>{_inline(cell)}</td>"


def _word_columns(table: Table) -> list[bool]:
    """Return for each column whether it has words. Such columns are aligned to the left, numbers to the right."""
    return [not all(_is_number(row[index]) for row in table.rows) for index in range(len(table.header))]


def _is_number(cell: str) -> bool:
    return cell == "-" or re.match(r"^[*+-]*[\d.]", cell) is not None


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", lambda m: f'<a href="{_html_link(m[2])}">{m[1]}</a>', text)


def _html_link(link: str) -> str:
    """Return the HTML version of a link between the generated pages."""
    return {"README.md": "index.html", "card.md": "card.html"}.get(link, link)
