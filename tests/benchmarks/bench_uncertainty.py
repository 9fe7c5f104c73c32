"""Whole fits in one program: a bootstrap of 200 replicates against one fit, and a profile of every parameter.

Everything is timed after compilation, side by side in this process.
"""

from __future__ import annotations

import time


def run():
    import nlme
    from nlme import datasets
    from nlme.models.phenobarbital import Phenobarbital
    from nlme.models.theophylline import Theophylline

    for model, name in ((Theophylline(), "theophylline"), (Phenobarbital(), "phenobarbital")):
        population = datasets.load(name)
        fit, one = _second(lambda: nlme.fit(model, population, progress=False))  # noqa: B023 (used at once)
        boot, many = _second(lambda: nlme.bootstrap(fit, 200, key=1, progress=False))  # noqa: B023
        evaluations = boot.fits.evaluations.mean()
        note = f"{many / one:.1f} times one fit of {1e3 * one:.0f} ms, target 20; {evaluations:.0f} evaluations each, {boot.n_failed} failed"
        yield f"{name}: bootstrap, 200 replicates", f"{many:.2f} s", note
        found, seconds = _second(lambda: nlme.profile(fit, progress=False))  # noqa: B023
        yield f"{name}: profile of {len(found.intervals)} parameters", f"{seconds:.2f} s", f"{len(found.points)} refits"


def _second(call):
    """Result and seconds of the quicker of two calls after a first that compiles."""
    call()
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begin)
    return result, min(seconds)
