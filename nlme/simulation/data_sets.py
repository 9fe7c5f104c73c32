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
    table = population.to_frame()
    observed = np.concatenate([subject.is_observation for subject in population])
    values = simulated.loc[simulated["MDV"] == 0, "DV"].to_numpy(dtype=float).reshape(-1, observed.sum())
    replicates = simulated["REPLICATE"].unique()
    dv = np.tile(table["DV"].to_numpy(dtype=float), (len(replicates), 1))
    dv[:, observed] = values
    whole = table.drop(columns="LIMIT", errors="ignore").take(np.tile(np.arange(len(table)), len(replicates)))
    whole = whole.reset_index(drop=True).assign(DV=dv.ravel(), **({"CENS": 0} if "CENS" in table else {}))
    whole.insert(0, "REPLICATE", np.repeat(replicates, len(table)))
    whole.attrs.update(table.attrs)
    return whole
