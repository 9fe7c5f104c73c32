"""The extended Kalman filter of one subject in NumPy and SciPy, from the records of a data frame: an independent reference.

between records   dx/dt = f(x) + infusions,  dP/dt = A P + P A' + diag(sigma^2)
at a record       R = H P H' + g,  x += P H' (z - m) / R,  P -= P H' H P / R
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm


@dataclasses.dataclass
class System:
    """dx = f(x) dt + sigma dw; ``matrix`` instead of ``f`` and its Jacobian for a linear one, which is then moved exactly."""

    sigma: np.ndarray
    matrix: np.ndarray | None = None
    f: Callable | None = None
    jacobian: Callable | None = None

    def moved(self, x, P, rate, dt):
        n = len(x)
        if dt == 0.0:
            return x, P
        if self.matrix is not None:
            # Van Loan (1978), doi:10.1109/TAC.1978.1101743
            block = expm(dt * np.block([[-self.matrix, np.diag(self.sigma**2)], [np.zeros((n, n)), self.matrix.T]]))
            F = block[n:, n:].T
            driven = expm(dt * np.block([[self.matrix, rate[:, None]], [np.zeros((1, n + 1))]]))
            return driven[:n, :n] @ x + driven[:n, n], F @ P @ F.T + F @ block[:n, n:]

        def slopes(t, y):
            A, P = self.jacobian(y[:n]), y[n:].reshape(n, n)
            return np.concatenate([self.f(y[:n]) + rate, (A @ P + P @ A.T + np.diag(self.sigma**2)).ravel()])

        y = solve_ivp(slopes, (0.0, dt), np.concatenate([x, P.ravel()]), method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
        return y[:n], y[n:].reshape(n, n)


def innovations(rows, system_at: Callable, observe: Callable, start):
    """(z, m, R) of every observation, in order.

    Parameters
    ----------
    rows : data frame of one subject: TIME EVID AMT RATE CMT DV DVID
    system_at : of the row that ends an interval, the system there
    observe : of (x, row): (z, mean, variance, dmean/dx)
    """
    x, P, time, running, found = np.array(start, float), np.zeros((len(start), len(start))), rows[0].TIME, [], []
    for row in rows:
        edges = sorted({e for e, _, _ in running if time < e < row.TIME} | {row.TIME})
        for edge in edges:
            rate = np.zeros(len(start))
            for end, k, speed in running:
                rate[k] += speed if end > time else 0.0
            x, P = system_at(row).moved(x, P, rate, edge - time)
            time = edge
        if row.EVID in (3, 4):
            x, P, running = np.array(start, float), np.zeros_like(P), []
        if row.EVID in (1, 4):
            k = int(row.CMT) - 1
            if row.RATE > 0:
                running.append((row.TIME + row.AMT / row.RATE, k, row.RATE))
            else:
                x[k] += row.AMT
        if row.EVID == 0:
            z, mean, variance, H = observe(x, row)
            R = H @ P @ H + variance
            found.append((z, mean, R))
            gain = P @ H / R
            x, P = x + gain * (z - mean), P - np.outer(gain, gain) * R
    return np.array(found)


def minus_two_log_density(found) -> float:
    """-2 log p without n log 2 pi, of data on the scale z."""
    z, m, R = found.T
    return float(np.sum((z - m) ** 2 / R + np.log(R)))
