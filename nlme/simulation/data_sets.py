"""Simulated observations put back among the records that they belong to."""

from __future__ import annotations

import numpy as np


def data_sets(simulated, population):
    """The population's NONMEM table once for every replicate, its observed values replaced by the simulated ones.

    Parameters
    ----------
    simulated : what :func:`nlme.simulate` returns for ``population``

    Returns
    -------
    DataFrame
        REPLICATE, then the columns of ``population.to_frame()``; CENS is 0, for simulated values are not censored.
    """
    import pandas as pd

    table = population.to_frame()
    observed = np.concatenate([subject.is_observation for subject in population])
    dv = table["DV"].to_numpy(dtype=float, copy=True)
    replaced = {"CENS": 0} if "CENS" in table else {}
    frames = []
    for replicate, rows in simulated[simulated["MDV"] == 0].groupby("REPLICATE", sort=True):
        values = dv.copy()
        values[observed] = rows["DV"].to_numpy(dtype=float)
        frames.append(table.drop(columns="LIMIT", errors="ignore").assign(DV=values, **replaced).assign(REPLICATE=replicate))
    whole = pd.concat(frames, ignore_index=True)
    whole = whole[["REPLICATE", *(name for name in whole if name != "REPLICATE")]]
    whole.attrs.update(table.attrs)
    return whole
