"""Very many subjects: whole FOCEI fits from a cold process, 100 to 100,000 people by closed form, 100 to 10,000 by an equation.

Each in a process of its own, from an empty cache: seconds of reading (the population as objects), of the fit, and the largest memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TIMES = (0.5, 1.0, 2.0, 4.0, 8.0, 24.0)

FIT = """
import resource, sys, time
import numpy as np
sys.path.insert(0, {tests!r})
begin = time.perf_counter()
import nlme
from large_trial import Drug, trial
equation, count = {equation}, {count}
population = trial(count, {times})
read = time.perf_counter()
fit = nlme.fit(Drug(equation=equation), population, progress=False)
end = time.perf_counter()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print("RESULT", read - begin, end - read, memory, fit.converged, *(float(x) for x in (fit.model.cl, fit.model.v)))
"""


def run():
    for equation, sizes in ((False, (100, 1_000, 10_000, 100_000)), (True, (100, 1_000, 10_000))):
        for count in sizes:
            name = f"{'equation' if equation else 'closed form'}, {count:,} people"
            yield (name, *_one(equation, count))


def _one(equation: bool, count: int) -> tuple[str, str]:
    tests = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as cache:
        ran = subprocess.run(
            [sys.executable, "-c", FIT.format(tests=tests, equation=equation, count=count, times=TIMES)],
            env=os.environ | {"NLME_CACHE": cache},
            capture_output=True,
            text=True,
        )
    told = next((line for line in ran.stdout.splitlines() if line.startswith("RESULT")), None)
    if told is None:
        return "failed", ran.stderr[-200:]
    read, seconds, memory, converged, cl, v = told.split()[1:]
    note = f"reading {float(read):.1f} s, {float(memory):.1f} GB, {'converged' if converged == 'True' else 'NOT converged'}"
    return f"{float(seconds):.1f} s", f"{note}, cl {float(cl):.3f} (3), v {float(v):.2f} (30)"
