"""The house holds: files import from lower floors only, and heavy dependencies come in by their one door.

The map is the one of docs/principles.md. The test reads the source with `ast`; nothing is imported except by the last
test, which asks a fresh interpreter what `import nlme` loads.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nlme"

FLOORS = [
    ["typing", "errors", "keys", "linalg", "versions", "digest"],
    ["jets", "parameters", "data", "tables", "execution"],
    ["structure", "observation", "neural"],
    ["dynamics"],
    ["language"],
    ["marginal"],
    ["search"],
    ["fitting", "posterior"],
    ["uncertainty", "simulation", "diagnostics", "learning", "training", "discovery", "selection", "exchange"]
    + ["noncompartmental", "design", "dosing"],
    ["reporting", "plots"],
    ["cli", "demo", "qualify", "__main__"],
]
FRONT_DOORS = {"__init__", "pd", "pk", "distributions"}  # they only give public names to what lies in the rooms
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Rooms of one floor that may know each other, one way: (who imports, what).
ARROWS = {
    ("typing", "errors"),
    ("keys", "errors"),
    ("linalg", "typing"),
    ("linalg", "errors"),
    ("uncertainty", "simulation"),  # a parametric bootstrap simulates its data
    ("diagnostics", "simulation"),  # predictive checks simulate the data
    ("posterior", "fitting"),  # importance weights and their Pareto k
    ("dosing", "simulation"),  # a forecast simulates the patient
    ("learning", "diagnostics"),  # bands of learned functions by the curvature that the audit knows
    ("learning", "uncertainty"),  # or by a bootstrap
    ("learning", "simulation"),  # a network in the equations is asked at the predicted states
    ("discovery", "learning"),
    ("discovery", "simulation"),
    ("reporting", "plots"),  # the page shows the pictures
    ("cli", "demo"),
    ("cli", "qualify"),
    ("__main__", "cli"),
}

# Fit is one public object: its covariance, predictions and table are computed on first use by rooms above it. Such an
# import stands inside the method that needs it, and only these rooms may be reached so.
LAZY_UP = {
    ("diagnostics", "plots"),
    ("fitting", "diagnostics"),
    ("fitting", "learning"),
    ("fitting", "reporting"),
}

# Files that know each other, each for a method of a public object that is written out elsewhere; there are no other circles.
CIRCLES = {
    frozenset(
        {"language/model", "language/describe", "language/anatomy", "language/asked", "language/effects"}
        | {"language/equations", "language/written"}
    ),  # a model as HTML
    frozenset({"fitting/result", "fitting/storage", "diagnostics/audit"}),  # Fit.save and Fit.audit
}

# Heavy packages: where their import may be written, and whether only inside a function (so that it loads on first use).
DOORS = {
    "pandas": {
        "data",
        "tables",
        "reporting",
        "fitting",
        "posterior",
        "diagnostics",
        "uncertainty",
        "simulation",
        "selection",
        "learning",
        "discovery",
        "noncompartmental",
        "design",
        "exchange",
        "dosing",
        "qualify",
    },
    "matplotlib": {"plots"},
    "arviz": {"posterior", "fitting/monte_carlo", "uncertainty/predictive"},
    "numpyro.infer": {"posterior/sampler"},
    "typer": {"cli"},
    "docx": {"reporting/word"},
    "bokeh": {"reporting/interactive"},
    "sympy": {"language/symbols"},
    "cloudpickle": {"execution/parcels"},
    "dask": set(),  # its client is known when it is seen: who has one has loaded it
    "distributed": set(),
}
LOADED_ON_FIRST_USE = ("pandas", "matplotlib", "arviz", "typer", "sympy", "docx", "distributed", "dask")


class Import(NamedTuple):
    room: str  # "data", "cli", ...
    file: str  # relative to nlme/, without .py: "posterior/nuts"
    line: int
    target: str  # dotted: "nlme.errors", "pandas"
    when: str  # "load", "call" (inside a function) or "typing" (under `if TYPE_CHECKING`)


def _imports_of(source: str, file: str) -> list[Import]:
    """Every import statement of one file, with relative ones made absolute."""
    found = []
    package = ["nlme", *file.split("/")[:-1]]

    def add(node, when):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from nlme import errors` names the module errors; `from nlme.errors import DataError` does too.
            targets = [f"{module}.{alias.name}" for alias in node.names]
        found.extend(Import(file.split("/")[0], file, node.lineno, target, when) for target in targets)

    def walk(node, when):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                add(child, when)
            inner = when
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inner = "typing"
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and when == "load":
                inner = "call"
            walk(child, inner)

    walk(ast.parse(source), "load")
    return found


def _all_imports() -> list[Import]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if file not in FRONT_DOORS:
            found.extend(_imports_of(path.read_text(), file))
    return found


def _floor_violation(entry: Import) -> str | None:
    """Sentence for an import that climbs or crosses the house, None for one that may stand."""
    parts = entry.target.split(".")
    if parts[0] != "nlme":
        return None
    if entry.room not in FLOOR_OF:
        return f"nlme/{entry.file}.py: the room {entry.room!r} is on no floor of the map"
    room = parts[1] if len(parts) > 1 else ""
    where = f"nlme/{entry.file}.py:{entry.line} imports {entry.target}"
    if room not in FLOOR_OF:
        # `from nlme import fit` reaches through the front door and so depends on every floor; only the top floor may.
        top = FLOOR_OF[entry.room] == len(FLOORS) - 1
        return None if top else f"{where}: import from the room itself, not from the front door"
    if room == entry.room or (entry.room, room) in ARROWS or FLOOR_OF[room] < FLOOR_OF[entry.room]:
        return None
    if entry.when != "load" and (entry.room, room) in LAZY_UP:
        return None
    return f"{where}: floor {FLOOR_OF[entry.room]} may not know floor {FLOOR_OF[room]}"


def _door_violation(entry: Import) -> str | None:
    """Sentence for a heavy package that comes in by another door than its own, or too early."""
    for package, doors in DOORS.items():
        if entry.when != "typing" and (entry.target == package or entry.target.startswith(package + ".")):
            where = f"nlme/{entry.file}.py:{entry.line} imports {entry.target}"
            if entry.room not in doors and entry.file not in doors:
                return f"{where}: its doors are {', '.join(sorted(doors))}"
            if package == "pandas" and entry.when == "load" and entry.room != "reporting":
                return f"{where}: import it inside the function that uses it"
    return None


def test_every_file_imports_from_lower_floors_only():
    violations = [sentence for entry in _all_imports() if (sentence := _floor_violation(entry))]
    assert not violations, "\n".join(violations)


def _circles(imports: list[Import]) -> set[frozenset[str]]:
    """Sets of files that reach each other through their imports."""
    files = {entry.file for entry in imports}

    def file_of(target: str) -> str | None:
        parts = target.split(".")[1:]
        return next((found for n in range(len(parts), 0, -1) if (found := "/".join(parts[:n])) in files), None)

    knows: dict[str, set[str]] = {file: set() for file in files}
    for entry in imports:
        if (
            entry.when != "typing"
            and entry.target.startswith("nlme.")
            and (found := file_of(entry.target)) not in (None, entry.file)
        ):
            knows[entry.file].add(found)

    def reached(start: str) -> set[str]:
        seen, open_ = set(), [start]
        while open_:
            fresh = knows[open_.pop()] - seen
            seen |= fresh
            open_.extend(fresh)
        return seen

    every = {file: reached(file) for file in files}
    return {frozenset(other for other in every[file] if file in every[other]) for file in files if file in every[file]}


def test_files_know_each_other_only_where_written_down():
    assert _circles(_all_imports()) == CIRCLES


def test_the_circle_rule_sees_what_it_should():
    sources = {"a/x": "from nlme.a.y import z", "a/y": "def f():\n    from nlme.a import x", "b/w": "from nlme.a.x import z"}
    imports = [entry for file, source in sources.items() for entry in _imports_of(source, file)]
    assert _circles(imports) == {frozenset({"a/x", "a/y"})}


def test_heavy_packages_have_one_door():
    violations = [sentence for entry in _all_imports() if (sentence := _door_violation(entry))]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(
    ("file", "source", "allowed"),
    [
        ("data/readers", "from nlme.errors import DataError", True),
        ("data/readers", "from nlme.parameters import domains", False),  # the same floor
        ("structure/ode", "from ..language import model", False),  # upwards, relative
        ("structure/ode", "from .base import Structure", True),
        ("fitting/fit", "from nlme.reporting import table", False),
        ("fitting/fit", "def f():\n    from nlme.reporting import table", True),  # on first use
        ("marginal/foce", "def f():\n    from nlme.reporting import table", False),
        ("reporting/page", "import nlme", False),  # the front door
        ("cli", "import nlme", True),
        ("cupboard/x", "from nlme import errors", False),  # a room that is not on the map
    ],
)
def test_the_floor_rule_sees_what_it_should(file, source, allowed):
    verdicts = [_floor_violation(entry) for entry in _imports_of(source, file)]
    assert (verdicts == [None]) is allowed


@pytest.mark.parametrize(
    ("file", "source", "allowed"),
    [
        ("plots/style", "from matplotlib.figure import Figure", True),
        ("diagnostics/npde", "def f():\n    import matplotlib.pyplot", False),
        ("posterior/sampler", "def f():\n    from numpyro.infer import NUTS", True),
        ("fitting/saem", "def f():\n    from numpyro.infer import NUTS", False),
        ("data/readers", "import pandas as pd", False),
        ("data/readers", "def f():\n    import pandas as pd", True),
        ("language/traced", "import sympy", False),
        ("plots/goodness", "import pandas as pd", False),
        ("plots/goodness", "if TYPE_CHECKING:\n    import pandas as pd", True),
    ],
)
def test_the_door_rule_sees_what_it_should(file, source, allowed):
    verdicts = [_door_violation(entry) for entry in _imports_of(source, file)]
    assert (verdicts == [None]) is allowed


def test_import_nlme_leaves_heavy_packages_alone():
    script = f"import sys, nlme; print(*[name for name in {LOADED_ON_FIRST_USE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"`import nlme` loads {done.stdout.strip()}"
