"""Simulated observations put back among the records that they belong to."""

from __future__ import annotations

import numpy as np


def data_sets(simulated, population, own: np.ndarray):
    """The population's NONMEM table once for every replicate, its observed values replaced by the simulated ones.

    Parameters
    ----------
    simulated : what :func:`nlme.simulate` returns for ``population``
    own : which rows of each replicate are the population's observations

    Returns
    -------
    DataFrame
        REPLICATE, then the columns of ``population.to_frame()``; CENS is 0, for simulated values are not censored, and MDV is 1 where
        there is none, after a subject's only event.
    """
    table = population.to_frame()
    observed = np.concatenate([subject.is_observation for subject in population])
    replicates = simulated["REPLICATE"].unique()
    values = simulated["DV"].to_numpy(dtype=float).reshape(len(replicates), -1)[:, own]
    dv = np.tile(table["DV"].to_numpy(dtype=float), (len(replicates), 1))
    dv[:, observed] = values
    mdv = np.tile(table["MDV"].to_numpy(), (len(replicates), 1))
    mdv[:, observed] = np.isnan(values)
    whole = table.drop(columns="LIMIT", errors="ignore").take(np.tile(np.arange(len(table)), len(replicates)))
    whole = whole.reset_index(drop=True).assign(DV=dv.ravel(), MDV=mdv.ravel(), **({"CENS": 0} if "CENS" in table else {}))
    whole.insert(0, "REPLICATE", np.repeat(replicates, len(table)))
    whole.attrs.update(table.attrs)
    return whole
