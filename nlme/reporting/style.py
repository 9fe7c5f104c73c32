"""The style sheet of the report: on the screen and, under ``@media print``, on A4 paper."""

STYLE = """
:root { --ink: #222; --soft: #666; --rule: #ccc; --blue: #0072B2; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  max-width: 980px; margin: 0 auto; padding: 24px; background: #fff; }
h1 { font-size: 28px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 36px 0 10px; padding-top: 10px; border-top: 1px solid var(--rule); }
p.lead { font-size: 17px; margin: 0 0 8px; }
pre.doc { font: inherit; font-size: 14px; color: var(--soft); white-space: pre-wrap; margin: 0 0 12px; }
.verdict { border: 1px solid; border-left-width: 8px; padding: 8px 16px; margin: 16px 0; }
.verdict p { margin: 4px 0; font-weight: 600; }
.verdict ul { margin: 4px 0; padding-left: 22px; }
.verdict .mark { display: inline-block; min-width: 1em; }
.verdict.good { border-color: #00805c; background: #eef8f4; }
.verdict.warn { border-color: #c77c00; background: #fdf6e8; }
.verdict.bad { border-color: #b02a00; background: #fcefeb; }
.columns { display: flex; flex-wrap: wrap; gap: 12px 48px; align-items: flex-start; }
.wide { overflow-x: auto; }
table { font-size: 14px; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
.wide caption { white-space: nowrap; }
table.pairs { border-collapse: collapse; }
table.pairs th { text-align: left; font-weight: normal; color: var(--soft); padding: 2px 16px 2px 0; vertical-align: top;
  white-space: nowrap; }
table.pairs td { padding: 2px 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
table.heat { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; }
table.heat th { font-weight: normal; text-align: right; padding: 2px 8px; white-space: nowrap; }
table.heat th.up { vertical-align: bottom; padding: 4px 2px; }
table.heat th.up span { writing-mode: vertical-rl; transform: rotate(180deg); }
table.heat td { text-align: center; min-width: 42px; height: 24px; padding: 0 4px; }
table.heat td.diagonal { background: #eee; }
p.made { font-size: 13px; color: var(--soft); margin: 12px 0 0; }
p.over { font-weight: 600; margin: 16px 0 4px; }
pre.code { font: 12px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: #f6f6f6; padding: 10px 14px;
  overflow-x: auto; margin: 0; }
.wide + .wide { margin-top: 18px; }
p.formula { margin: 4px 0 4px 16px; }
p.formula.text { padding-left: 32px; text-indent: -32px; overflow-wrap: anywhere; }
figure { margin: 12px 0 20px; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: 13px; color: var(--soft); max-width: 860px; }
nav { font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 12px 0; }
nav a, a { color: var(--blue); }
@page { size: A4; margin: 16mm 15mm; }
@media print {
  body { font-size: 10pt; padding: 0; max-width: none; }
  h1 { font-size: 18pt; } h2 { font-size: 13pt; margin-top: 16pt; break-after: avoid; }
  nav { display: none; }
  table { font-size: 8.5pt; } table.heat { font-size: 7.5pt; } table.heat td { min-width: 26px; height: 18px; padding: 0 2px; }
  figcaption, .wide p { font-size: 8.5pt; }
  .wide { overflow: visible; }
  .wide > table th, .wide > table td { padding: 1.5pt 3.5pt !important; }
  section > p { break-after: avoid; break-inside: avoid; }
  .wide > table { font-size: 8pt; }
  pre.code { font-size: 7.5pt; white-space: pre-wrap; background: none; padding: 0; }
  figure, tr, .verdict, table.heat, table.pairs { break-inside: avoid; }
  figure img { max-height: 235mm; object-fit: contain; object-position: left top; }
  .verdict, table.heat td, table.heat th { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
