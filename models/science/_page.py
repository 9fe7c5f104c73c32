"""A system of the gallery as a section of a page, by itself in a module so that another process can make it."""

from __future__ import annotations

import base64
import html
import io
import time

from nlme.models import science


def section(name: str, fast: bool) -> tuple[str, bool, float]:
    """Run a system: its part of the page, whether its numbers pass, and its seconds."""
    began = time.perf_counter()
    shown = science.run(name, fast=fast)
    seconds = time.perf_counter() - began
    return _section(name, shown, seconds), all(n.passes for n in shown.numbers), seconds


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
