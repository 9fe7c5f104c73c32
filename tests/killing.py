"""Programs that keep a checkpoint, killed at random moments and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np


def whole_and_resumed(program, folder, kills, seed, within):
    """What ``program`` saves when left alone, and after ``kills`` SIGKILLs.

    It is given two paths, its checkpoint and its result (npz).  Every kill comes up to ``within`` seconds after a first writing
    of the checkpoint, during further work, a further writing, or between the two; the file must be readable after each.
    """
    random = np.random.default_rng(seed)
    checkpoint = folder / "state"
    _finish(program, folder / "whole", folder / "whole.npz")
    for _ in range(kills):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = _start(program, checkpoint, folder / "resumed.npz")
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.002)  # compiling
        time.sleep(random.uniform(0.0, within))
        assert process.poll() is None, process.stderr.read().decode() or "It ended before the kill."
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        with np.load(checkpoint, allow_pickle=False) as file:
            assert all(file[name].size for name in file.files if not name.startswith("state/"))
    _finish(program, checkpoint, folder / "resumed.npz")
    return np.load(folder / "whole.npz"), np.load(folder / "resumed.npz")


def _start(program, checkpoint, out):
    return subprocess.Popen([sys.executable, "-c", program, str(checkpoint), str(out)], stderr=subprocess.PIPE, env=os.environ)


def _finish(program, checkpoint, out):
    process = _start(program, checkpoint, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
