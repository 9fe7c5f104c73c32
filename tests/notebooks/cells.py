"""Run a notebook's cells in this process, as Jupyter would: ``python cells.py notebook.ipynb [folder for pictures]``.

The last expression of a cell is what Jupyter would show, so it is made into text (and HTML where it has that); figures are drawn.
A cell's source is registered under a name of its own: a model that looks at its own text finds it, as in IPython.
"""

from __future__ import annotations

import ast
import json
import linecache
import sys
import time
import types
from pathlib import Path


def code_cells(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, name: str, space: dict):
    """Execute one cell; the value of its last line if that is an expression."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), space)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), space)


def show(value, number: int, pictures: Path | None) -> None:
    if hasattr(value, "savefig"):
        value.savefig((pictures or Path()) / f"cell{number:02d}.png", dpi=70)
    elif value is not None:
        getattr(value, "_repr_html_", value.__repr__)()
        print(repr(value))


def main(notebook: Path, pictures: Path | None) -> None:
    space = types.ModuleType("__main__")  # what the cells define is looked for there, as by IPython
    sys.modules["__main__"] = space
    begun = time.process_time()
    for number, source in enumerate(code_cells(notebook), 1):
        show(run_cell(source, f"<cell {number}>", space.__dict__), number, pictures)
        print(f"-- cell {number}: {time.process_time() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None)
