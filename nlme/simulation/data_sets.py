"""Simulated observations put back among the records that they belong to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlme.data.checks import NO_OBSERVATIONS
from nlme.data.frames import of_records


def data_sets(simulated, population, row: np.ndarray, observed: np.ndarray, endpoints: Sequence[str]):
    """The population's NONMEM table once for every replicate, its observed values replaced by the simulated ones.

    Of a population without observations, a design, every record to predict becomes an observation of each endpoint.

    Parameters
    ----------
    simulated : what :func:`nlme.simulate` returns for ``population``
    row, observed : of the rows of each replicate, which record of the population each belongs to, and whether that is an observation
    endpoints : all that the model has

    Returns
    -------
    DataFrame
        REPLICATE, then the columns of ``population.to_frame()``; CENS is 0, for simulated values are not censored, and MDV is 1 where
        there is none, after a subject's only event.
    """
    table = population.to_frame()
    design = not observed.any()
    observed = observed | design
    # rows of the table that get a value; of a design one for each endpoint
    place = np.flatnonzero(of_records(table))[row[observed]]
    told = np.setdiff1d(np.arange(len(table)), place)
    order = np.argsort(np.concatenate([told, place]), kind="stable")
    whole = table.take(np.concatenate([told, place])[order]).drop(columns="LIMIT", errors="ignore")
    own = order >= len(told)
    replicates = simulated["REPLICATE"].unique()
    values = simulated["DV"].to_numpy(dtype=float).reshape(len(replicates), -1)[:, observed]
    dv, mdv = (np.tile(whole[name].to_numpy(dtype=float), (len(replicates), 1)) for name in ("DV", "MDV"))
    dv[:, own], mdv[:, own] = values, np.isnan(values)
    new = {"DV": dv.ravel(), "MDV": mdv.ravel().astype(np.int64)} | ({"CENS": 0} if "CENS" in whole else {})
    attrs = table.attrs
    if design:
        whole["EVID"] = np.where(own, 0, whole["EVID"])
        allow = [rule for rule in table.attrs["nlme"]["allow"] if rule != NO_OBSERVATIONS]
        known = table.attrs["nlme"] | {"endpoints": list(endpoints), "dvid": None, "allow": allow}
        if len(endpoints) > 1:
            names = simulated["ENDPOINT"].to_numpy()[: len(observed)][observed]
            whole["DVID"] = None
            whole.loc[own, "DVID"] = names
            known["dvid"] = {name: name for name in endpoints}
        attrs = attrs | {"nlme": known}
    whole = whole.take(np.tile(np.arange(len(whole)), len(replicates))).reset_index(drop=True).assign(**new)
    whole.insert(0, "REPLICATE", np.repeat(replicates, len(own)))
    whole.attrs.update(attrs)
    return whole
