"""The README's first screen is true: its model runs and prints what it says it prints."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_model_prints_the_table_shown(tmp_path, monkeypatch, capsys):
    text = README.read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.S)[1]
    shown = re.search(r"It prints:\n\n```\n(.*?)```", text, re.S)[1]
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    # The last digit of an estimate may differ between machines; words and layout may not.
    number = r"-?\d+(?:\.\d+)?"
    assert re.sub(number, "#", printed).split() == re.sub(number, "#", shown).split()
    for ours, theirs in zip(re.findall(number, printed), re.findall(number, shown), strict=True):
        assert abs(float(ours) - float(theirs)) <= 2e-3 * abs(float(theirs)) + 1e-4
    assert (tmp_path / "theophylline.html").stat().st_size > 10_000
