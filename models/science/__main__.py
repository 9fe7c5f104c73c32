"""``python -m nlme.models.science``: run the gallery and write it as one page."""

from __future__ import annotations

import argparse
import base64
import html
import io
import sys
import time
from pathlib import Path

from nlme.models import science

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } tr { border-bottom: 1px solid #ddd }
img { max-width: 100% } .no { color: #b00020; font-weight: 600 } footer { color: #666 }
"""


def main(words: list[str] | None = None) -> int:
    """Run the systems named (all by default); 1 if a number does not pass."""
    asked = argparse.ArgumentParser(prog="python -m nlme.models.science", description=main.__doc__)
    asked.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(science.names())}")
    asked.add_argument("--fast", action="store_true", help="fewer data, shorter training")
    asked.add_argument("--out", type=Path, default=Path("gallery"), help="folder of the page (default: gallery)")
    said = asked.parse_args(words)
    wrong = [name for name in said.names if name not in science.names()]
    if wrong:
        asked.error(f"no system {wrong[0]!r}: there are {', '.join(science.names())}")
    said.out.mkdir(parents=True, exist_ok=True)
    parts, passed = [], True
    for name in said.names or science.names():
        began = time.perf_counter()
        shown = science.run(name, fast=said.fast)
        seconds = time.perf_counter() - began
        fine = all(n.passes for n in shown.numbers)
        passed &= fine
        print(f"{'PASS' if fine else 'FAIL'}  {name}  {seconds:.0f} s", flush=True)
        parts.append(_section(name, shown, seconds))
        title = "Gallery of scientific machine learning"
        page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        (said.out / "index.html").write_text(f"{page}<h1>{title}</h1>{''.join(parts)}</html>", encoding="utf-8")
    print(said.out / "index.html")
    return 0 if passed else 1


def _section(name: str, shown: science.Shown, seconds: float) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(n.quantity)}</td><td class=n>{n.published:.4g}</td><td class=n>{n.here:.4g}</td>"
        f"<td class=n>{n.low:.4g} to {n.high:.4g}</td>"
        f"<td>{'yes' if n.passes else '<span class=no>no</span>'}</td><td>{html.escape(n.source)}</td></tr>"
        for n in shown.numbers
    )
    head = (
        "<tr><th></th><th class=n>reference</th><th class=n>here</th><th class=n>accepted</th><th>passes</th><th>source</th></tr>"
    )
    said = "".join(f"<p>{html.escape(line)}</p>" for line in shown.remarks)
    return (
        f"<h2 id='{name}'>{html.escape(shown.title)}</h2><table>{head}{rows}</table>{said}{_picture(shown)}"
        f"<footer>models/science/{name}.py, {seconds:.0f} s</footer>"
    )


def _picture(shown: science.Shown) -> str:
    if shown.figure is None:
        return ""
    data = io.BytesIO()
    shown.figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    return f"<img alt='{html.escape(shown.title)}' src='data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}'>"


if __name__ == "__main__":
    sys.exit(main())
