"""A page as a list of blocks, written as Markdown and as HTML that needs nothing from elsewhere."""

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
td { white-space: nowrap; }
th:first-child, td:first-child, td.words { text-align: left; white-space: normal; } th { border-bottom: 2px solid #57606a; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0 .2rem; }
.source { color: #57606a; font-size: .85rem; margin: 0 0 1.2rem; } code { background: #f3f4f6; padding: 0 .2rem; }
a { color: #0b57d0; }
"""


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, or with `items` a list; **bold**, `code` and [text](link) are understood."""

    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` of cells under a header; `source` says which file the figures are from and how it was made."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    file: str
    alt: str
    source: str = ""


Block = Heading | Text | Table | Figure


def render_markdown(blocks: Sequence[Block], note: str) -> str:
    return f"<!-- {note} -->\n\n" + blocks_to_markdown(blocks)


def blocks_to_markdown(blocks: Sequence[Block]) -> str:
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Text):
            parts += [block.text] if block.text else []
            parts += ["\n".join(f"- {item}" for item in block.items)] if block.items else []
        elif isinstance(block, Table):
            lines = ["| " + " | ".join(row) + " |" for row in (block.header, *block.rows)]
            lines.insert(1, "|---" + "|---:" * (len(block.header) - 1) + "|")
            parts.append("\n".join(lines))
        else:
            parts.append(f"![{block.alt}]({block.file})")
        if isinstance(block, Table | Figure) and block.source:
            parts.append(f"<sub>{block.source}</sub>")
    return "\n\n".join(parts) + "\n"


def render_html(blocks: Sequence[Block], note: str, title: str) -> str:
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
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.header)
    rows = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in block.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{source}"


def _cell(cell: str) -> str:
    words = "" if re.match(r"^[*+-]*[\d.]", cell) or cell == "-" else ' class="words"'
    return f"<td{words}>{_inline(cell)}</td>"


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", lambda m: f'<a href="{_html_link(m[2])}">{m[1]}</a>', text)


def _html_link(link: str) -> str:
    """A link to a generated page leads from HTML to HTML."""
    return {"README.md": "index.html", "card.md": "card.html"}.get(link, link)
