"""A table of text cells written as Markdown, HTML, LaTeX and RTF; a table of values written as CSV.

Each function takes the same three things, all plain text: the column headers, the rows, and the notes below the table.
``left`` holds the positions of the columns that are words (set flush left); the others are numbers (flush right).

Text is text: every sign that a format would read as its own (``$ _ ^ \\ { } % # & < > |`` ...) comes out as it went in, and a cell
that a spreadsheet would compute is written so that it does not.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Row = Sequence[str]


def markdown(header: Row, rows: Sequence[Row], notes: Sequence[str] = (), left: Collection[int] = (0,)) -> str:
    """A pipe table, padded so that it reads well as plain text, too."""
    cells = [[_markdown_escape(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(header))]
    rule = [f":{'-' * (w - 1)}" if k in left else f"{'-' * (w - 1)}:" for k, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))] for row in cells
    ]
    lines = [f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]]]
    return "\n".join(lines + [line for note in notes for line in ("", _markdown_escape(note))]) + "\n"


_MARKDOWN = str.maketrans({sign: "\\" + sign for sign in "\\|*_<>`[]$^~&#"} | {"\n": " ", "\r": " "})


def _markdown_escape(text: str) -> str:
    """Any punctuation may stand behind a backslash in Markdown; these signs have a meaning in one of its dialects."""
    return text.translate(_MARKDOWN)


_PLAIN = "tex2jax_ignore mathjax_ignore"  # a notebook would set what stands between two dollars as mathematics

# Written into every element, because a word processor that receives the table from the clipboard sees no style sheet.
_CELL = "padding:3px 8px;font-variant-numeric:tabular-nums;"
_TOP = "border-top:1.5px solid #000;border-bottom:0.75px solid #000;"
_LAST = "border-bottom:1.5px solid #000;"


def html_table(
    header: Row, rows: Sequence[Row], notes: Sequence[str] = (), left: Collection[int] = (0,), caption: str = ""
) -> str:
    """An HTML fragment with inline styles; pasted into a word processor it keeps its three rules."""

    def cell(tag: str, k: int, text: str, extra: str) -> str:
        align = "left" if k in left else "right"
        wrap = "" if k in left and tag == "td" else "white-space:nowrap;"
        return f'<{tag} style="text-align:{align};{_CELL}{wrap}{extra}">{html.escape(text)}</{tag}>'

    head = "".join(cell("th", k, text, _TOP) for k, text in enumerate(header))
    body = []
    for number, row in enumerate(rows, 1):
        extra = _LAST if number == len(rows) else ""
        body.append("<tr>" + "".join(cell("td", k, text, extra) for k, text in enumerate(row)) + "</tr>")
    title = (
        f'<caption style="text-align:left;font-weight:bold;padding:4px 8px">{html.escape(caption)}</caption>' if caption else ""
    )
    below = "".join(f'<p style="font-size:85%;margin:2px 8px">{html.escape(note)}</p>' for note in notes)
    return (
        f'<table class="{_PLAIN}" style="border-collapse:collapse">{title}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(body)}\n</tbody></table>\n{below}\n"
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "°": r"$^{\circ}$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "²": r"$^{2}$",
    "³": r"$^{3}$",
    "⁻": r"$^{-}$",
    "¹": r"$^{1}$",
    "√": r"$\surd$",
    "∞": r"$\infty$",
    "−": "$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "η": r"$\eta$",
    "ω": r"$\omega$",
    "Ω": r"$\Omega$",
    "θ": r"$\theta$",
    "σ": r"$\sigma$",
    "ε": r"$\varepsilon$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
}


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it stands (signs of the language, Greek letters, exponents).

    >>> latex_escape("RSE_1 (%)")
    'RSE\\\\_1 (\\\\%)'
    """
    return "".join(_LATEX.get(sign, sign) for sign in text).replace("\n", " ").replace("\r", " ")


def latex(
    header: Row, rows: Sequence[Row], notes: Sequence[str] = (), left: Collection[int] = (0,), caption: str = "", label: str = ""
) -> str:
    """A ``table`` with the rules of booktabs; the preamble needs ``\\usepackage{booktabs}``."""
    columns = "".join("l" if k in left else "r" for k in range(len(header)))
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering"]
    if caption:
        lines.append(f"\\caption{{{latex_escape(caption)}}}")
    if label:
        lines.append(f"\\label{{{label}}}")
    lines += [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _latex_row(header), "\\midrule"]
    lines += [_latex_row(row) for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if notes:
        lines += ["", "\\smallskip", "\\begin{minipage}{\\linewidth}\\footnotesize"]
        lines += [latex_escape(note) + "\\par" for note in notes]
        lines.append("\\end{minipage}")
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _latex_row(cells: Row) -> str:
    # A bracket that opens a row would be read as the optional argument of the \\ before it.
    first = latex_escape(cells[0])
    first = f"{{}}{first}" if first.startswith(("[", "*")) else first
    return " & ".join([first, *(latex_escape(cell) for cell in cells[1:])]) + r" \\"


_TWIPS_PER_SIGN = 112  # 9 point, generously: the reader may have another font
_RULE = {"top": r"\clbrdrt\brdrs\brdrw15", "thin": r"\clbrdrb\brdrs\brdrw8", "bottom": r"\clbrdrb\brdrs\brdrw15"}


def rtf(header: Row, rows: Sequence[Row], notes: Sequence[str] = (), left: Collection[int] = (0,), caption: str = "") -> str:
    """One table as Rich Text Format, a part of a document (see :func:`rtf_document`)."""
    widths = [min(max(len(row[k]) for row in [header, *rows]), 34) * _TWIPS_PER_SIGN + 300 for k in range(len(header))]
    edges = [sum(widths[: k + 1]) for k in range(len(widths))]

    def line(cells: Row, rules: str, bold: bool) -> str:
        definition = "".join(f"{rules}\\cellx{edge}" for edge in edges)
        texts = (
            rf"\pard\intbl{'' if k in left else chr(92) + 'qr'} {{{chr(92) + 'b ' if bold else ''}{_rtf_escape(text)}}}\cell"
            for k, text in enumerate(cells)
        )
        return rf"\trowd\trgaph80\trleft0{definition}" + "\n" + "\n".join(texts) + "\n\\row"

    body = [line(header, _RULE["top"] + _RULE["thin"], True)]
    body += [line(row, _RULE["bottom"] if k == len(rows) else "", False) for k, row in enumerate(rows, 1)]
    title = [rf"\pard{{\b {_rtf_escape(caption)}}}\par"] if caption else []
    below = [rf"\pard{{\fs15 {_rtf_escape(note)}}}\par" for note in notes]
    return "\n".join([*title, *body, *below])


def rtf_document(parts: Sequence[str]) -> str:
    """A document of real tables, which word processors open, insert and paste as tables."""
    paper = r"\paperw16838\paperh11906\landscape\margl1134\margr1134"  # A4 across, margins of 2 cm
    head = r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Calibri;}}" + paper + r"\f0\fs18"
    return "\n".join([head, "\n\\pard\\par\n".join(parts), "}"]) + "\n"


def _rtf_escape(text: str) -> str:
    out = []
    for sign in text.replace("\n", " ").replace("\r", " "):
        if sign in "\\{}":
            out.append("\\" + sign)
        elif ord(sign) < 128:
            out.append(sign)
        else:  # UTF-16 code units as signed numbers, each followed by the '?' that old readers show instead
            units = sign.encode("utf-16-le")
            codes = [int.from_bytes(units[k : k + 2], "little", signed=True) for k in range(0, len(units), 2)]
            out.extend(rf"\u{code}?" for code in codes)
    return "".join(out)


_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width


def harmless(cell: Any) -> Any:
    """A cell as a spreadsheet takes it for text: an apostrophe before what it would compute.  Numbers stay as they are.

    >>> [harmless(x) for x in ("=1+1", "-2", "- effect", "Clearance / F", -2.0)]
    ["'=1+1", '-2', "'- effect", 'Clearance / F', -2.0]
    """
    if not isinstance(cell, str) or not cell.startswith(_COMPUTED):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell if cell.isprintable() else "'" + cell


def csv(frame: pd.DataFrame, path: str | Path | None = None, **options) -> str | None:
    """Comma-separated values at full precision (options as of ``DataFrame.to_csv``), no cell of which is a formula."""
    import pandas as pd

    def column(values):
        kind = values.dtype
        return values if pd.api.types.is_numeric_dtype(kind) else values.map(harmless)

    safe = pd.DataFrame(frame).apply(column, axis=0) if len(frame) else pd.DataFrame(frame)
    safe = safe.rename(columns=harmless).rename_axis(columns=None)
    if options.get("index", True):
        safe = safe.rename(index=harmless).rename_axis(index=harmless)
    return safe.to_csv(path, **options)
