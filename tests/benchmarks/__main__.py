"""``make bench``: every bench_*.py beside this file, one after the other, as a table of what was measured.

A benchmark file has ``run() -> list[Row]``.  Timings are read side by side within one process and given with a ratio or a
target; the machine is not under control here, so nothing is asserted.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))  # where the makers of test objects lie
    chosen = sys.argv[1:]
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if chosen and path.stem.removeprefix("bench_") not in chosen:
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        title = (module.__doc__ or path.stem).strip().splitlines()[0]
        print(f"\n{title}", flush=True)
        for name, measured, note in module.run():
            print(f"  {name:<70} {measured:>14}   {note}", flush=True)


if __name__ == "__main__":
    main()
