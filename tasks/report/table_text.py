"""Tables of a paper as text: Markdown, or LaTeX for the package booktabs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["latex", "markdown"]


@dataclass(frozen=True)
class Cell:
    """A value as printed; bold if it is the best or tied with it."""

    text: str
    is_bold: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table: rows of a method's name and its cells."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def to_markdown(table: PaperTable) -> str:
    """A Markdown table with its caption above."""
    lines = [
        table.caption,
        "",
        "| method | " + " | ".join(_markdown(h) for h in table.headings) + " |",
        "|---|" + "---:|" * len(table.headings),
    ]
    for method, row in table.rows:
        shown = [f"**{c.text}**" if c.is_bold else c.text for c in row]
        lines.append(f"| {_markdown(method)} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text in which no character means anything to LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(text: str) -> str:
    """A value; its minus as LaTeX sets one, which would print a bare one as a hyphen."""
    return "$-$" + latex_text(text[1:]) if text.startswith("-") else latex_text(text)


def to_latex(table: PaperTable) -> str:
    """A ``table`` environment for the package booktabs."""
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.caption)}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(table.headings)}}}",
        r"    \toprule",
        "    Method & " + " & ".join(latex_text(h) for h in table.headings) + r" \\",
        r"    \midrule",
    ]
    for method, row in table.rows:
        shown = [
            rf"\textbf{{{_latex_cell(c.text)}}}" if c.is_bold else _latex_cell(c.text) for c in row
        ]
        lines.append(f"    {latex_text(method)} & " + " & ".join(shown) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def render_tables(tables: Sequence[PaperTable], style: Style) -> str:
    """All tables, one below the other."""
    draw = to_latex if style == "latex" else to_markdown
    return "\n".join(draw(table) for table in tables)
