"""The page of a qualification: one HTML file that opens offline and prints."""

from __future__ import annotations

import html

from nlme.reporting.style import STYLE

_TABLE = "table.cases { border-collapse: collapse; } .cases th, .cases td { text-align: left; padding: 3px 12px 3px 0; } \
.cases td.n { font-variant-numeric: tabular-nums; } .cases tr.bad td { background: #fcefeb; font-weight: 600; }"


def page(facts: dict, verdict: str) -> str:
    """The page of what :meth:`Qualification.facts` returns."""
    title = "Qualification of an installation of nlme"
    kind = "good" if facts["verdict"] == "PASS" else "bad"
    about = [("Date", facts["date"]), ("Mode", facts["mode"]), *facts["versions"].items(), *facts["machine"].items()]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{STYLE}{_TABLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<div class="verdict {kind}"><p>{html.escape(verdict)}</p></div>\n'
        f"<h2>What was run</h2>\n{_pairs(about)}\n<h2>Cases</h2>\n{_overview(facts['cases'])}\n"
        + "\n".join(_case(case) for case in facts["cases"])
        + "\n</body>\n</html>\n"
    )


def _pairs(rows) -> str:
    lines = (f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows)
    return f'<table class="pairs">{"".join(lines)}</table>'


def _overview(cases: list[dict]) -> str:
    head = "<tr><th>Case</th><th>What</th><th>Checks</th><th>Seconds</th><th>Verdict</th></tr>"
    rows = (_summary(case) for case in cases)
    return f'<div class="wide"><table class="cases">{head}{"".join(rows)}</table></div>'


def _summary(case: dict) -> str:
    name, title = html.escape(case["name"]), html.escape(case["title"])
    link = f'<a href="#{name}">{name}</a>'
    return _row(case["verdict"], link, title, str(len(case["checks"])), f"{case['seconds']:.1f}", case["verdict"])


def _case(case: dict) -> str:
    head = "<tr><th>Quantity</th><th>Result</th><th>Reference</th><th>Difference</th><th>Tolerance</th><th>Verdict</th></tr>"
    rows = "".join(_check(check) for check in case["checks"])
    error = f'<div class="verdict bad"><p>{html.escape(case["error"])}</p></div>' if case["error"] else ""
    return (
        f'<h2 id="{html.escape(case["name"])}">{html.escape(case["title"])}</h2>\n'
        f"<p>Reference: {html.escape(case['source'])}.</p>\n"
        f'{error}<div class="wide"><table class="cases">{head}{rows}</table></div>'
    )


def _check(check: dict) -> str:
    scale = " (relative)" if check["relative"] else ""
    numbers = [_number(check["result"], 10), _number(check["reference"], 10), _number(check["difference"], 2)]
    return _row(check["verdict"], html.escape(check["quantity"]), *numbers, f"{check['tolerance']:.1e}{scale}", check["verdict"])


def _number(value, digits: int) -> str:
    return html.escape(value) if isinstance(value, str) else f"{value:.{digits}g}"


def _row(verdict: str, *cells: str) -> str:
    kind = ' class="bad"' if verdict == "FAIL" else ""
    return f"<tr{kind}>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>"
