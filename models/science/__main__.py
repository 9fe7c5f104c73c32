"""``python -m nlme.models.science``: run the gallery and write it as one page."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nlme.models import science
from nlme.models.science._page import section

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
    asked.add_argument("--jobs", type=int, default=1, metavar="n", help="processes that run systems side by side (default: 1)")
    asked.add_argument("--out", type=Path, default=Path("gallery"), help="folder of the page (default: gallery)")
    said = asked.parse_args(words)
    wrong = [name for name in said.names if name not in science.names()]
    if wrong:
        asked.error(f"no system {wrong[0]!r}: there are {', '.join(science.names())}")
    said.out.mkdir(parents=True, exist_ok=True)
    parts, passed = [], True
    chosen = said.names or science.names()
    for name, (part, fine, seconds) in zip(chosen, _sections(chosen, said.fast, said.jobs), strict=True):
        passed &= fine
        print(f"{'PASS' if fine else 'FAIL'}  {name}  {seconds:.0f} s", flush=True)
        parts.append(part)
        title = "Gallery of scientific machine learning"
        page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        (said.out / "index.html").write_text(f"{page}<h1>{title}</h1>{''.join(parts)}</html>", encoding="utf-8")
    print(said.out / "index.html")
    return 0 if passed else 1


def _sections(names: list[str], fast: bool, jobs: int) -> Iterator[tuple[str, bool, float]]:
    """Of every system its part of the page, whether its numbers pass, and its seconds, in the order of the names."""
    if jobs < 2:
        yield from map(section, names, itertools.repeat(fast))
        return
    # processes begun anew: a forked one would hold locks of JAX's threads
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as workers:
        yield from workers.map(section, names, itertools.repeat(fast))


if __name__ == "__main__":
    sys.exit(main())
