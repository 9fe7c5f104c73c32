"""Observations in strata and bins of time, and their values made comparable within a bin."""

from __future__ import annotations

import dataclasses

import numpy as np

from nlme.data.after_dose import times_after_dose
from nlme.diagnostics.binning import edges_of, members_of
from nlme.diagnostics.prediction_correction import correctable, corrected, even_variability
from nlme.diagnostics.replicated import Replicated, with_replicates
from nlme.diagnostics.strata import strata_of
from nlme.errors import DataError
from nlme.simulation.predict import model_of, predict


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """Observations with their stratum and bin.

    Attributes
    ----------
    x, stratum, bins : (n,) time or time after dose, position in ``strata``, bin (-1: in none)
    edges : of the bins of each stratum
    observed, drawn : (n,) and (R, n) values that are compared; -inf and inf beyond a limit of quantification
    messages : what was left out, in words
    """

    checked: Replicated
    x: np.ndarray
    stratum: np.ndarray
    strata: tuple[str, ...]
    edges: tuple[np.ndarray, ...]
    bins: np.ndarray
    observed: np.ndarray
    drawn: np.ndarray
    messages: tuple[str, ...] = ()

    def where(self, keep: np.ndarray, message: str) -> Placed:
        """Those to ``keep`` (n,), with what is said of the others."""
        parts = {name: getattr(self, name)[keep] for name in ("x", "stratum", "bins", "observed")}
        said = (*self.messages, f"{(~keep).sum()} observations {message} are left out.")
        return dataclasses.replace(self, checked=self.checked.where(keep), drawn=self.drawn[:, keep], messages=said, **parts)

    def simulated(self, **options) -> Placed:
        """The same with replicates, without what lies in no bin."""
        checked = with_replicates(self.checked, **options)
        found = dataclasses.replace(self, checked=checked, drawn=checked.drawn)
        inside = self.bins >= 0
        return found if inside.all() else found.where(inside, "outside of the bins")

    @property
    def cell(self) -> np.ndarray:
        """(n,) a number for each stratum and bin."""
        return self.stratum * max(len(e) for e in self.edges) + self.bins


def place(found: Replicated, stratify, time: str, bins) -> Placed:
    """Strata and bins of the observations.

    Raises
    ------
    DataError
        Time after dose without a dose, no such stratum, bins that are none.
    """
    x = found.rows["TIME"].to_numpy(dtype=float)
    if time == "tad":
        x = np.concatenate([times_after_dose(s) for s in found.population])[found.record]
        lost = np.isnan(x)
        if lost.any():
            who = found.rows["ID"].to_numpy()[lost][0]
            raise DataError(f'time="tad": {lost.sum()} observations have no dose to count from (the first: subject {who}).')
    stratum, strata = strata_of(found.population, found.record, stratify)
    edges = tuple(edges_of(x[stratum == s], bins) for s in range(len(strata)))
    members = np.empty(len(x), int)
    for s, own in enumerate(edges):
        members[stratum == s] = members_of(x[stratum == s], own)
    return Placed(found, x, stratum, tuple(strata), edges, members, found.observed, found.simulated)


def corrected_values(placed: Placed, how: str, even: bool, lowest: float) -> Placed:
    """The same with prediction-corrected values, without the records that cannot be corrected.

    Raises
    ------
    DataError
        None can be corrected; ``even`` variability of a record that has none.
    """
    checked = placed.checked
    pred = predict(model_of(checked.model), checked.population)[checked.endpoint].to_numpy(dtype=float)[checked.record]
    keep = correctable(pred, how, lowest)
    if not keep.any():
        raise DataError(
            f'No prediction is above lower_bound={lowest:g}. Data on a log scale take prediction_corrected="additive".'
        )
    if not keep.all():
        placed, pred = placed.where(keep, f"with a prediction of {lowest:g} or less cannot be corrected and"), pred[keep]
    cells = placed.cell
    observed, drawn = (corrected(v, pred, cells, how, lowest) for v in (placed.observed, placed.drawn))
    if even:
        sd = corrected(placed.checked.simulated, pred, cells, how, lowest).std(axis=0, ddof=1)
        if not (sd > 0).all():
            raise DataError(
                f"variability_corrected: {(~(sd > 0)).sum()} observations are predicted without any scatter "
                f"(the first: subject {placed.checked.rows['ID'][~(sd > 0)].iloc[0]})."
            )
        observed, drawn = (even_variability(v, sd, pred, cells) for v in (observed, drawn))
    return dataclasses.replace(placed, observed=observed, drawn=drawn)
