"""The observations of one endpoint beside many simulated replicates of them: what every simulation-based check starts from.

Replicates have the data's design: its subjects, doses, occasions and covariates, with random effects (a site's once for all its
subjects) and subpopulations drawn anew, and each endpoint's own error.  Simulated values are not censored; the limit of
quantification of each record says what would have been.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError, FitError, ModelError, name_error
from nlme.fitting.applied import require_alike
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.anatomy import anatomy_of
from nlme.language.model import Model
from nlme.observation.base import COMPUTED, LIMITS, Law
from nlme.posterior.models import posterior_estimate
from nlme.simulation.predict import limits_of, model_of
from nlme.simulation.simulate import simulate

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 1_000_000  # of the simulated table that are held at once
_REPLICATE = ("REPLICATE", "REP", "IREP")
_VALUE = ("DV", "SIM", "YSIM")


@dataclasses.dataclass(frozen=True, eq=False)
class Replicated:
    """n observations of one endpoint, and R simulated replicates of them.

    Attributes
    ----------
    model : what was checked, a fit or a model; None where only simulations were given
    endpoint : its name
    law : what is known of its distribution
    rows : DataFrame of the observations in file order: ID, TIME, ENDPOINT, DV, CENS (1: below the limit, -1: above, 0)
    record : (n,) their records among all of the population
    subject : (n,) positions of their subjects
    simulated : (R, n)
    lower, upper : (n,) limits of quantification, -inf and inf where there is none
    floor : (n,) the other end of a value known to an interval (LIMIT), NaN where there is none
    messages : of the simulation, in words: where the parameters of the replicates come from, and what is to be minded
    """

    model: Any
    population: Population
    endpoint: str
    law: Law
    rows: pd.DataFrame
    record: np.ndarray
    subject: np.ndarray
    simulated: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    floor: np.ndarray
    messages: tuple[str, ...] = ()

    @property
    def censored(self) -> np.ndarray:
        """(n,) -1 where the value is below its limit, 1 above, 0 where it is known."""
        return -self.rows["CENS"].to_numpy()

    @property
    def observed(self) -> np.ndarray:
        """(n,) values; -inf where below the limit, inf where above."""
        side = self.censored
        return np.where(side == 0, self.rows["DV"].to_numpy(dtype=float), np.where(side < 0, -np.inf, np.inf))

    @property
    def drawn(self) -> np.ndarray:
        """(R, n) simulated values as they would have been reported: -inf below the limit, inf above."""
        values = np.where(self.simulated < self.lower, -np.inf, self.simulated)
        return np.where(self.simulated > self.upper, np.inf, values)

    def where(self, keep: np.ndarray) -> Replicated:
        """Some of the observations."""
        parts = {name: getattr(self, name)[keep] for name in ("record", "subject", "lower", "upper", "floor")}
        return dataclasses.replace(self, rows=self.rows[keep].reset_index(drop=True), simulated=self.simulated[:, keep], **parts)


def replicated(
    what: str,
    model,
    population,
    endpoint=None,
    *,
    key,
    replicates,
    lloq=None,
    uloq=None,
    simulations=None,
    uncertainty=None,
    ode=None,
) -> Replicated:
    """Observations of a continuous ``endpoint`` beside ``replicates`` simulated ones, or beside ``simulations`` that are given.

    ``uncertainty`` of the parameters: as of :func:`nlme.simulate`.

    Raises
    ------
    DataError
        No population, no such endpoint, limits that differ, simulations of another design.
    ModelError
        The endpoint is not continuous: its distribution function has steps.
    FitError
        A simulated value that is not a finite number.
    """
    model, population = subjects_of(model, population, simulations, uncertainty)
    endpoint, law = endpoint_of(model, population, endpoint)
    if law.whole is not None or law.of_events:
        raise ModelError(
            f"{what} is for continuous observations; {endpoint} is {law.words}. Use nlme.vpc, which shows its probabilities, "
            f"counts or survival beside simulated ones."
        )
    found = observed_of(model, population, endpoint, law, lloq, uloq)
    return with_replicates(found, key=key, replicates=replicates, simulations=simulations, uncertainty=uncertainty, ode=ode)


def observed_of(model, population, endpoint: str, law: Law, lloq=None, uloq=None) -> Replicated:
    """The observations with their limits, no replicates yet."""
    record, rows = observations_of(population, endpoint)
    of = model, population, endpoint, law, record, rows
    lower, upper = _limits(*of, lloq, "lower", 1), _limits(*of, uloq, "upper", -1)
    dv, cens = rows["DV"].to_numpy(dtype=float), rows["CENS"].to_numpy()
    rows["CENS"] = np.where(cens != 0, cens, np.where(dv < lower, 1, np.where(dv > upper, -1, 0)))
    floor = np.where(rows["CENS"] != 0, _column(population, "limit")[record], np.nan)
    subject = np.repeat(np.arange(len(population)), [len(s) for s in population])[record]
    return Replicated(model, population, endpoint, law, rows, record, subject, np.empty((0, len(rows))), lower, upper, floor)


def with_replicates(found: Replicated, *, key, replicates, simulations=None, **options) -> Replicated:
    """The same with simulated replicates (``options`` of :func:`nlme.simulate`), or those given."""
    messages = found.messages
    if simulations is None:
        count = whole("replicates", replicates, 2)
        simulated, messages = _simulated(found.model, found.population, found.endpoint, required_key(key), count, options)
    else:
        simulated = given_simulations(simulations, found.population, found.record)
    if not np.isfinite(simulated).all():
        replicate, n = np.argwhere(~np.isfinite(simulated))[0]
        at = found.rows.iloc[n]
        raise FitError(
            f"Replicate {replicate + 1} of {found.endpoint} has {simulated[replicate, n]} for subject {at['ID']} at time "
            f"{at['TIME']:g}; every simulated value must be a finite number."
        )
    return dataclasses.replace(found, simulated=simulated, messages=messages)


def subjects_of(model, population, simulations=None, uncertainty=None):
    """The model (None where only data and simulations are given) and the population to check it on.

    What has to be predicted once, such as the typical subject of a prediction-corrected check, is predicted in the midst of the draws
    where a model is given with its posterior.
    """
    if simulations is not None and uncertainty is not None:
        raise DataError("simulations= are given, so that there is nothing to simulate whose parameters could be uncertain.")
    if isinstance(model, Population):
        if simulations is None:
            raise DataError("A population alone has nothing to be checked against: give a fit or a model first, or simulations=.")
        return None, model
    if population is None and isinstance(model, Evaluated):
        population = model.population
    if population is None:
        raise DataError("A model needs a population to be checked on; a fit has its own.")
    if not isinstance(population, Population):
        raise DataError(f"The population is what nlme.read_nonmem returns; got {type(population).__name__}.")
    require_alike(model, population)
    if hasattr(uncertainty, "posterior") and isinstance(model, Model):
        model = posterior_estimate(model, uncertainty)
    return model, population


def endpoints_of(model, population) -> dict[str, Law]:
    """The endpoints that can be checked, those of the model that the data hold, and what is known of their distributions."""
    if model is None:
        return {name: Law("given") for name in population.endpoints}
    anatomy = model.layout.anatomy if isinstance(model, Evaluated) else anatomy_of(model_of(model))
    laws = dict(zip(anatomy.endpoints, anatomy.laws, strict=True))
    if len(laws) == 1:  # the data may name it otherwise, or not at all
        return laws
    held = {population.endpoints[k] for k in np.unique(np.concatenate([s.endpoint[s.is_observation] for s in population]))}
    return {name: law for name, law in laws.items() if name in held} or laws


def endpoint_of(model, population, endpoint: str | None) -> tuple[str, Law]:
    """The endpoint asked for, or the only one, and what is known of its distribution."""
    laws = endpoints_of(model, population)
    if endpoint is None and len(laws) > 1:
        raise DataError(f"Which endpoint? Say endpoint= one of {', '.join(map(repr, laws))}.")
    if endpoint is not None and endpoint not in laws:
        raise DataError(name_error("endpoint", endpoint, laws, "The model" if model is not None else "The population"))
    name = next(iter(laws)) if endpoint is None else endpoint
    return name, laws[name]


def observations_of(population, endpoint: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Records of the endpoint's observations, and their rows ID, TIME, ENDPOINT, DV, CENS.

    Data that do not name what they hold are observations of the model's only endpoint.
    """
    import pandas as pd

    observed = np.concatenate([s.is_observation for s in population])
    named = np.array([*population.endpoints, ""], dtype=object)[_column(population, "endpoint")]
    alone = len(population.endpoints) == 1 and endpoint not in population.endpoints
    record = np.flatnonzero(observed & ((named == endpoint) | alone))
    if not len(record):
        raise DataError(f"The population has no observation of {endpoint}.")
    ids = np.repeat(np.array(population.ids, dtype=object), [len(s) for s in population])
    columns = {name.upper(): _column(population, name)[record] for name in ("time", "dv", "cens")}
    rows = pd.DataFrame({"ID": pd.Index(list(ids[record])), "TIME": columns["TIME"], "ENDPOINT": endpoint} | columns)
    return record, rows


def _simulated(
    model, population, endpoint: str, key, replicates: int, options: dict[str, Any]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(R, n) simulated observations, a part of the replicates after the other where they are many, and what is said of them."""
    size = max(1, min(replicates, _ROWS // max(1, population.n_records)))
    parts = [min(size, replicates - begin) for begin in range(0, replicates, size)]
    keys = [key] if len(parts) == 1 else list(jax.random.split(key, len(parts)))
    found, said = [], {}
    for count, own in zip(parts, keys, strict=True):
        table = simulate(model, population, key=own, eta="new", replicates=count, **options)
        said |= dict.fromkeys(said_of(table))
        use = (table["MDV"].to_numpy() == 0) & (table["ENDPOINT"].to_numpy() == endpoint)
        found.append(table["DV"].to_numpy(dtype=float)[use].reshape(count, -1))
    return np.concatenate(found), tuple(said)


def said_of(table) -> list[str]:
    """What a check has to say of its simulated ``table``."""
    own = [f"Every replicate has parameters of its own ({table.uncertainty})."] if table.uncertainty else []
    return [*own, *table.remarks]


def given_simulations(simulations, population, record: np.ndarray) -> np.ndarray:
    """(R, n) of an array (R, n), or of a table with a replicate, its rows in the order of the data's records or observations.

    Raises
    ------
    DataError
        The wrong shape, no column of replicates or values, or IDs and times that are not those of the data.
    """
    if not hasattr(simulations, "columns"):
        values = np.asarray(simulations, dtype=float)
        if values.ndim != 2 or values.shape[1] != len(record) or len(values) < 2:
            raise DataError(
                f"simulations must be an array (replicates, {len(record)} observations); got one of shape {values.shape}."
            )
        return values
    known = {str(name).upper(): name for name in simulations.columns}
    replicate, value = _named(known, _REPLICATE), _named(known, _VALUE)
    if replicate is None or value is None:
        raise DataError(
            f"simulations needs a column of replicates ({', '.join(_REPLICATE)}) and one of values ({', '.join(_VALUE)}); "
            f"it has {', '.join(map(str, simulations.columns))}."
        )
    labels = simulations[replicate].to_numpy()
    order = np.argsort(labels, kind="stable")
    count = len(np.unique(labels))
    observed = np.flatnonzero(np.concatenate([s.is_observation for s in population]))
    choices = {
        population.n_records: record,
        len(observed): np.searchsorted(observed, record),
        len(record): np.arange(len(record)),
    }
    each = len(simulations) // max(count, 1)
    if count * each != len(simulations) or each not in choices or count < 2:
        raise DataError(
            f"simulations has {len(simulations)} rows in {count} replicates; each of at least two replicates must have a row for "
            f"every record ({population.n_records}), every observation ({len(observed)}), or every one of this endpoint "
            f"({len(record)})."
        )
    use = choices[each]
    table = simulations.iloc[order]
    _require_same_rows(table, known, population, record, use, (count, each))
    return table[value].to_numpy(dtype=float).reshape(count, each)[:, use]


def _named(known: dict[str, Any], names: tuple[str, ...]):
    return next((known[name] for name in names if name in known), None)


def _require_same_rows(table, known, population, record, use, shape) -> None:
    ids = np.repeat(np.array([str(i) for i in population.ids], dtype=object), [len(s) for s in population])[record]
    if "ID" in known:
        seen = table[known["ID"]].astype(str).to_numpy(dtype=object).reshape(shape)[:, use]
        _refuse(seen != ids, seen, ids, "ID")
    if "TIME" in known:
        time = _column(population, "time")[record]
        seen = table[known["TIME"]].to_numpy(dtype=float).reshape(shape)[:, use]
        _refuse(~np.isclose(seen, time, rtol=1e-6, atol=1e-9), seen, time, "TIME")


def _refuse(wrong: np.ndarray, seen, expected, column: str) -> None:
    if wrong.any():
        replicate, n = np.argwhere(wrong)[0]
        raise DataError(
            f"simulations, replicate {replicate + 1}: the row of observation {n + 1} has {column} {seen[replicate, n]}, and the "
            f"data {expected[n]}. Rows must be in the order of the data."
        )


def _limits(model, population, endpoint: str, law: Law, record, rows, given, what: str, side: int) -> np.ndarray:
    """(n,) lower (side 1) or upper (-1) limit of every observation: as given, as the model says, or as censored records show."""
    argument, which = ("lloq", 0) if side > 0 else ("uloq", 1)
    nothing = -np.inf if side > 0 else np.inf
    own = rows["CENS"].to_numpy() == side
    dv = rows["DV"].to_numpy(dtype=float)
    if given is None:
        given = law.limits[which]
        if given == COMPUTED:
            return limits_of(model, population, endpoint)[LIMITS[which]][record]
    if given is None and own.any():
        shown = np.unique(dv[own])
        if len(shown) > 1:
            listed = ", ".join(f"{v:g}" for v in shown[:5])
            raise DataError(
                f"Censored observations of {rows['ENDPOINT'].iloc[0]} show {len(shown)} {what} limits ({listed}), and the other "
                f"records do not say which is theirs: give {argument}=, a number or the name of a column."
            )
        given = float(shown[0])
    if given is None:
        return np.full(len(record), nothing)
    if isinstance(given, str):
        found = column_of(population, given)[record].astype(float)
    else:
        try:
            found = np.full(len(record), float(given))
        except (TypeError, ValueError):
            raise DataError(f"{argument}={given!r}: a limit is a number, or the name of a column of the data.") from None
    if np.isnan(found).any():
        raise DataError(
            f"{argument}={given!r} is missing for subject {rows['ID'].iloc[int(np.flatnonzero(np.isnan(found))[0])]}."
        )
    return found


def column_of(population, name: str) -> np.ndarray:
    """(records,) of a covariate, of a column that nothing reads, or of the occasion.

    Raises
    ------
    DataError
        The data have no such column.
    """
    if name in population.covariates:
        return np.concatenate([s.covariates[name] for s in population])
    if name in population.subjects[0].extra:
        return np.concatenate([s.extra[name] for s in population])
    if name.lower() in ("occasion", "occ"):
        return _column(population, "occasion")
    raise DataError(name_error("column", name, [*population.covariates, *population.subjects[0].extra, "occasion"], "The data"))


def _column(population, name: str) -> np.ndarray:
    return np.concatenate([getattr(s, name) for s in population])


def required_key(key):
    """A JAX key of an int or a key.

    Raises
    ------
    DataError
        No key: a check by simulation says which draws it rests on.
    """
    if key is None:
        raise DataError("Simulations need a key, which makes them again: key=1.")
    return key_of(key)


def generator_of(key) -> np.random.Generator:
    """numpy's random numbers from a JAX key, apart from those that the key itself gives."""
    return np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 19))).ravel())


def whole(name: str, value, least: int) -> int:
    """A whole number, at least so large."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer)) or value != int(value) or value < least:
        raise DataError(f"{name} must be a whole number from {least} on; got {value!r}.")
    return int(value)
