"""$PRIOR NWPRI: which of the declared parameters are the model's, and the prior of these.

    THETA ~ Normal(mean, covariance)            $THETAP, $THETAPV
    block of OMEGA ~ inverse Wishart            $OMEGAP, $OMEGAPD: its mode M and degrees of freedom d,
                                                density |Omega|^(-(d+p+1)/2) exp(-(d+p+1)/2 tr(M Omega^-1)); SIGMA likewise

In the older form they stand behind the model's own $THETA, $OMEGA and $SIGMA, and NTHETA, NETA, ... count them.

What nlme's priors can say goes into ``nlme.fit(..., priors=run.priors)``: independent normals, a variance that is a block of its
own, d + 2 > 0: InverseGamma(d/2, (d+2) M/2), and a larger block, d > p - 1: InverseWishart(d, (d+p+1) M).  What they cannot say
is listed.  METHOD=NUTS reads the same record as InverseWishart(d, d M): its posterior of the tutorial's example is ours with that
prior, and half a standard deviation away with the other (tests/fitting/test_infusion_covariates_multimethod.py).

Source: NONMEM Users Guide Part VIII, NWPRI and $PRIOR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nlme.exchange.nonmem.declared import Block, Theta, blocks_of, thetas_of
from nlme.exchange.nonmem.records import Record, of_name, option

_COUNTS = ("NTHETA", "NETA", "NEPS", "NTHP", "NETP", "NEPP", "NPEXP")
_NAMED = ("THETAP", "THETAPV", "OMEGAP", "OMEGAPD", "SIGMAP", "SIGMAPD")


@dataclass(frozen=True)
class Prior:
    """Means and covariance of THETA(1) .. THETA(n), and (block, mode, degrees of freedom) of OMEGA and SIGMA.

    ``behind`` counts the THETA, ETA and EPS behind the model's own, which NONMEM's results list too.
    """

    means: np.ndarray
    covariance: np.ndarray
    omegas: tuple[tuple[Block, float], ...]
    sigmas: tuple[tuple[Block, float], ...]
    behind: tuple[int, int, int]

    def distributions(self, theta: Mapping[int, str], eta: Mapping[int, str], fixed: set[int]) -> tuple[dict, list[str]]:
        """(name of a parameter -> NumPyro distribution, what has none in words); ``fixed`` are numbers of THETA."""
        import numpyro.distributions as dist

        found, left = {}, []
        apart = np.abs(self.covariance - np.diag(np.diag(self.covariance))).sum(axis=0) > 0
        for k, mean in enumerate(self.means, start=1):
            if k in fixed or k not in theta:
                continue
            if apart[k - 1]:
                left.append(f"THETA({k}), whose prior is correlated with others'")
                continue
            found[theta[k]] = dist.Normal(float(mean), float(np.sqrt(self.covariance[k - 1, k - 1])))
        for block, degrees in self.omegas:
            names, p = [eta.get(n, "") for n in block.numbers], block.size
            if degrees <= p - 1 or np.linalg.eigvalsh(block.matrix)[0] <= 0 or not all(names):
                left.append(f"OMEGA of ETA({block.first})" + (f" to ETA({block.numbers[-1]})" if p > 1 else ""))
            elif p == 1:
                found[f"omega.{names[0]}"] = dist.InverseGamma(degrees / 2.0, (degrees + 2.0) * block.matrix[0, 0] / 2.0)
            else:
                scale = (degrees + p + 1.0) * block.matrix
                found[f"omega.covariance.{','.join(names)}"] = dist.InverseWishart(degrees, scale_matrix=scale)
        left += [f"SIGMA of EPS({block.first})" for block, _ in self.sigmas]
        return found, left


def with_prior(
    records: list[Record], thetas: list[Theta], omegas: list[Block], sigmas: list[Block]
) -> tuple[Prior | None, list[Theta], list[Block], list[Block]]:
    """The prior, and the declarations that are the model's own.

    Raises
    ------
    ModelError
        TNPRI, conditions, several experiments, or numbers that do not fit each other.
    """
    found = of_name(records, "PRIOR")
    named = of_name(records, *_NAMED)
    if not found:
        if named:
            raise named[0].refuse("it has no part in the model: there is no $PRIOR.")
        return None, thetas, omegas, sigmas
    record, text = found[0], " ".join(r.text for r in found).upper()
    if not re.match(r"\s*NWPRI\b", text) or len(re.findall(r"\b(NWPRI|TNPRI)\b", text)) > 1 or "(" in text:
        raise record.refuse(f"{text.strip()} is not imported: NWPRI without conditions is.")
    counts = {name: int(option(text, name) or 0) for name in _COUNTS}
    if counts["NPEXP"] > 1:
        raise record.refuse(f"NPEXP={counts['NPEXP']}: the prior of several experiments is not imported.")
    if named:
        return _by_names(record, records), thetas, omegas, sigmas
    return _by_counts(record, counts, thetas, omegas, sigmas)


def _by_names(record: Record, records: list[Record]) -> Prior:
    def values(name: str) -> list[float]:
        return [t.value for t in thetas_of(records, name)]

    def matrices(name: str) -> list[Block]:
        return blocks_of(records, name)

    covariance, modes, sigma_modes = matrices("THETAPV"), matrices("OMEGAP"), matrices("SIGMAP")
    behind = (
        len(values("THETAP")) + len(values("OMEGAPD")) + len(values("SIGMAPD")),
        sum(b.size for b in covariance) + sum(b.size for b in modes), sum(b.size for b in sigma_modes),
    )  # fmt: skip
    return _prior(
        record, values("THETAP"), covariance, modes, values("OMEGAPD"), sigma_modes, values("SIGMAPD"), behind
    )  # fmt: skip


def _by_counts(
    record: Record, counts: dict[str, int], thetas: list[Theta], omegas: list[Block], sigmas: list[Block]
) -> tuple[Prior, list[Theta], list[Block], list[Block]]:
    n, normal = counts["NTHETA"], counts["NTHP"]
    own, covariance, modes = _cut(record, omegas, counts["NETA"], normal, counts["NETP"])
    n_eps = counts["NEPS"] or sum(b.size for b in sigmas) - counts["NEPP"]
    own_eps, _, sigma_modes = _cut(record, sigmas, n_eps, 0, counts["NEPP"])
    degrees = [t.value for t in thetas[n + normal :]]
    n_omega = len([b for b in modes if not b.same])
    if len(thetas) < n + normal or len(degrees) != n_omega + len([b for b in sigma_modes if not b.same]):
        raise record.refuse(f"NTHETA={n} and NTHP={normal} do not fit {len(thetas)} values of $THETA.")
    behind = tuple(
        len(every) - kept if isinstance(kept, int) else sum(b.size for b in every) - sum(b.size for b in kept)
        for every, kept in ((thetas, n), (omegas, own), (sigmas, own_eps))
    )
    means = [t.value for t in thetas[n : n + normal]]
    prior = _prior(record, means, covariance, modes, degrees[:n_omega], sigma_modes, degrees[n_omega:], behind)
    return prior, thetas[:n], own, own_eps


def _cut(record: Record, blocks: list[Block], *sizes: int) -> list[list[Block]]:
    """The blocks of the first ``sizes[0]`` effects, of the next ``sizes[1]``, ..., each numbered from 1."""
    found, at = [], 0
    for size in sizes:
        here = [b for b in blocks if at < b.first <= at + size]
        if sum(b.size for b in here) != size:
            raise record.refuse(f"its numbers do not fit the blocks of random effects: {size} after the first {at}.")
        found.append([_moved(b, at) for b in here])
        at += size
    return found


def _moved(block: Block, by: int) -> Block:
    same = block.same - by if block.same else 0
    return Block(block.first - by, block.matrix, block.fixed, same, block.full, block.comments, block.line)


def _prior(
    record: Record, means: list[float], covariance: list[Block], modes: list[Block], degrees: list[float],
    sigma_modes: list[Block], sigma_degrees: list[float], behind: tuple[int, ...],
) -> Prior:  # fmt: skip
    whole = np.zeros((len(means), len(means)))
    if sum(b.size for b in covariance) != len(means):
        raise record.refuse(f"{len(means)} means of THETA, and variances of {sum(b.size for b in covariance)}.")
    for block in covariance:
        at = slice(block.first - 1, block.first - 1 + block.size)
        whole[at, at] = block.matrix
    return Prior(
        np.array(means), whole, _with_degrees(record, modes, degrees), _with_degrees(record, sigma_modes, sigma_degrees), behind
    )


def _with_degrees(record: Record, modes: list[Block], degrees: list[float]) -> tuple[tuple[Block, float], ...]:
    """Each block of variances of its own with its degrees of freedom."""
    own = [b for b in modes if not b.same]
    if len(own) != len(degrees):
        raise record.refuse(f"{len(own)} blocks of modes, and degrees of freedom of {len(degrees)}.")
    return tuple(zip(own, degrees, strict=True))
