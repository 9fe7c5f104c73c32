"""Covariance of random effects: standard deviations x Cholesky factor of the correlation, with names and blocks.

Omega = diag(sd) R diag(sd),  R = factor factor'.  Random effects in one block are correlated, across blocks independent.
Three coordinates of one block, all of length m (m + 1) / 2, lower triangle row by row:

* natural: the elements of Omega (what tables show),
* unconstrained: on the diagonal log sd_i, below it u_ij with factor_i = (sinh u_i1, ..., sinh u_i,i-1, 1) / norm; any real numbers
  give a positive definite Omega (a form of the spherical parameterisation, Pinheiro & Bates 1996, doi:10.1007/BF00140873), and
  its edges, variances of zero and correlations of one, are approached exponentially,
* the pytree leaves ``sd`` and ``factor`` themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.linalg import cholesky
from nlme.parameters.domains import METADATA, Declaration, Domain, is_numeric

COVARIANCE = Domain("covariance")
SUBJECT, OCCASION = "subject", "occasion"  # any other level is a column of the data, whose values subjects share
_NEARLY = {"id": SUBJECT, "subjects": SUBJECT, "individual": SUBJECT, "occ": OCCASION, "occasions": OCCASION}


class Covariance(eqx.Module):
    """Named covariance matrix of ``n`` random effects.

    Attributes
    ----------
    sd : (n,) standard deviations
    factor : (n, n) Cholesky factor of the correlation matrix, zero outside the blocks
    names : names of the random effects
    blocks : groups of positions that are correlated with each other
    per : what has random effects of its own with this covariance: "subject", "occasion" within a subject, or a column of the
        data ("site", "study"), whose every value has some, shared by its subjects
    """

    sd: Float[Array, " n"]
    factor: Float[Array, "n n"]
    names: tuple[str, ...] = eqx.field(static=True)
    blocks: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    per: str = eqx.field(static=True, default=SUBJECT)

    @property
    def cholesky(self) -> Float[Array, "n n"]:
        """Lower triangular L with L L' = Omega."""
        return self.sd[:, None] * self.factor

    @property
    def matrix(self) -> Float[Array, "n n"]:
        """Omega."""
        return self.cholesky @ self.cholesky.T

    @property
    def correlation(self) -> Float[Array, "n n"]:
        return self.factor @ self.factor.T

    def positions(self) -> list[tuple[int, int]]:
        """(i, j) of every free element, j <= i, block by block, row by row: the order of both vectors below."""
        return [(i, j) for block in self.blocks for i in block for j in block if j <= i]

    def element_names(self) -> list[str]:
        """'cl' for a variance, 'v,cl' (row, column) for a covariance."""
        return [self.names[i] if i == j else f"{self.names[i]},{self.names[j]}" for i, j in self.positions()]

    def natural(self) -> Float[Array, " k"]:
        omega = self.matrix
        return jnp.stack([omega[i, j] for i, j in self.positions()])

    def unconstrained(self) -> Float[Array, " k"]:
        return jnp.stack(
            [jnp.log(self.sd[i]) if i == j else jnp.arcsinh(self.factor[i, j] / self.factor[i, i]) for i, j in self.positions()]
        )

    def at_unconstrained(self, vector) -> Covariance:
        values = dict(zip(self.positions(), vector, strict=True))
        sd = jnp.exp(jnp.stack([values[i, i] for i in range(len(self.names))]))
        rows = []
        for i in range(len(self.names)):
            raw = jnp.stack([jnp.sinh(values.get((i, j), 0.0)) if j < i else jnp.float64(j == i) for j in range(len(self.names))])
            rows.append(raw / jnp.sqrt(jnp.sum(raw**2)))
        return Covariance(sd, jnp.stack(rows), self.names, self.blocks, self.per)

    def at_natural(self, vector) -> Covariance:
        """The covariance with these elements of Omega; NaN where they are not positive definite (checked by the caller).

        An effect without variance (0, fixed) is correlated with nothing.
        """
        n = len(self.names)
        omega = jnp.zeros((n, n))
        for (i, j), value in zip(self.positions(), vector, strict=True):
            omega = omega.at[i, j].set(value).at[j, i].set(value)
        variance = jnp.diagonal(omega)
        varies = variance != 0
        scale = jnp.sqrt(jnp.where(varies, variance, 1.0))
        factor = jnp.eye(n)
        for block in self.blocks:
            if len(block) > 1:
                index, own = np.ix_(block, block), np.array(block)
                correlation = omega[index] / (scale[own][:, None] * scale[own][None, :])
                diagonal = jnp.diag(jnp.where(varies[own], 0.0, 1.0))
                factor = factor.at[index].set(cholesky(correlation + diagonal))
        return Covariance(jnp.where(varies, scale, 0.0), factor, self.names, self.blocks, self.per)

    def replace(self, value) -> Covariance:
        """Same names and blocks with new numbers: a Covariance, a dict of elements, or a matrix (its lower triangle will do).

        A dict holds variances by name, and covariances by pair, ``{"cl": 0.1, "v,cl": 0.02}``; the correlations of effects whose
        covariance is not given stay as they are.
        """
        if isinstance(value, Covariance):
            if value.names != self.names:
                raise ModelError(
                    f"A covariance of {', '.join(self.names)} cannot be replaced by one of {', '.join(value.names)}."
                )
            return dataclasses.replace(value, per=self.per)
        if isinstance(value, Mapping):
            return self._with_elements({_element(key): number for key, number in value.items()})
        if not _rows_of_numbers(value):
            raise ModelError(f"A covariance is given as a dict of variances or a matrix of numbers; got {value!r}.")
        return _from_matrix(self.names, self.blocks, _square(self.names, value), self.per)

    def in_one_block(self, names: Sequence[str]) -> Covariance:
        """The same matrix with these effects, and those that are correlated with one of them, in one block."""
        places = {k for k, name in enumerate(self.names) if name in names}
        touched = {j for block in self.blocks if set(block) & places for j in block}
        others = tuple(block for block in self.blocks if not set(block) & places)
        matrix = np.asarray(self.matrix)
        blocks = sorted((tuple(sorted(touched)), *others))  # in the order in which a model declares them
        return build(*((tuple(self.names[k] for k in b), matrix[np.ix_(b, b)]) for b in blocks), per=self.per)

    def _with_elements(self, elements: Mapping[tuple[str, ...], float]) -> Covariance:
        for name in (name for names in elements for name in names):
            if name not in self.names:
                raise ModelError(name_error("random effect", name, self.names, "This covariance"))
        sd = np.asarray(self.sd, dtype=float).copy()
        for names, number in elements.items():
            if len(names) == 1:
                _check_variance(names[0], number)
                sd[self.names.index(names[0])] = np.sqrt(number)
        pairs = {names: number for names, number in elements.items() if len(names) == 2}
        if not pairs and np.all(sd > 0):
            return Covariance(jnp.asarray(sd), self.factor, self.names, self.blocks, self.per)
        omega = np.outer(sd, sd) * np.asarray(self.correlation)
        for names, number in pairs.items():
            if not is_numeric(number) or np.ndim(number):
                raise ModelError(f"The covariance of {names[0]!r} and {names[1]!r} must be a number; got {number!r}.")
            i, j = (self.names.index(name) for name in names)
            omega[i, j] = omega[j, i] = number
        return _from_matrix(self.names, self.blocks, omega, self.per)

    def __repr__(self) -> str:
        try:
            omega = np.asarray(self.matrix)
            parts = [f"{n}={omega[i, j]:.4g}" for n, (i, j) in zip(self.element_names(), self.positions(), strict=True)]
        except Exception:  # placeholders during pytree surgery have no numbers to show
            parts = list(self.names)
        return f"Covariance({', '.join(parts)})"


def joined(levels: Sequence[Covariance], occasions: Sequence[str]) -> Covariance:
    """The covariance of all random effects that reach a subject: its own, an independent copy of those per occasion, its site's."""
    sd, factors, names, blocks = [], [], (), ()
    for level in levels:
        for label in occasions if level.per == OCCASION else ("",):
            first = len(names)
            sd.append(level.sd)
            factors.append(level.factor)
            blocks += tuple(tuple(i + first for i in block) for block in level.blocks)
            names += tuple(f"{name}[{label}]" if label else name for name in level.names)
    return Covariance(jnp.concatenate(sd), block_diag(*factors), names, blocks)


def pooled(levels: Sequence[Covariance], occasions: Sequence[str], moments: Float[Array, "q q"]) -> list[Float[Array, "n n"]]:
    """For every level, second moments of its effects from those of all of a subject's: their mean over occasions."""
    found, first = [], 0
    for level in levels:
        n, copies = len(level.names), len(occasions) if level.per == OCCASION else 1
        starts = [first + k * n for k in range(copies)]
        found.append(sum(moments[at : at + n, at : at + n] for at in starts) / copies)
        first += n * copies
    return found


def covariance(
    *blocks, correlation: Mapping[tuple[str, str], float] | None = None, label: str = "", per: str = "subject", **variances: float
):
    """Field of a covariance of random effects (starting values are **variances**).

    * diagonal: ``covariance(cl=0.09, v=0.04)``
    * correlated pairs: ``covariance(cl=0.09, v=0.04, ka=0.3, correlation={("cl", "v"): 0.5})``; effects linked by pairs form a
      full block
    * a full block: ``covariance(("cl", "v"), [[0.09, 0.01], [0.01, 0.04]])`` (a lower triangle will do); several blocks as
      tuples: ``covariance((("cl", "v"), [[...]]), (("ka", "lag"), [[...]]), base=0.2)``
    * between the occasions of a subject: ``covariance(cl_occ=0.02, per="occasion")``.  Every occasion (value of OCC) has effects
      of its own from this one covariance (NONMEM's BLOCK SAME); ``eta.cl_occ`` is that of the occasion at hand
    * between the sites, studies ... that subjects belong to: ``covariance(cl_site=0.02, per="site")``.  ``per`` is a column of
      the data, one value for a subject; every value has effects of its own, which its subjects share

    Raises
    ------
    ModelError
        A variance that is negative, a matrix that is not positive definite or of the wrong size, a name used twice.

    A variance of 0 is for an effect that is held there, ``fit(..., fixed=["omega.cl"])``; a fit cannot start at it.
    """
    value = build(*blocks, correlation=correlation, per=per, **variances)
    return eqx.field(
        default_factory=lambda: value,
        converter=value.replace,
        metadata={METADATA: Declaration(COVARIANCE, "", label)},
    )


def build(
    *blocks, correlation: Mapping[tuple[str, str], float] | None = None, per: str = "subject", **variances: float
) -> Covariance:
    """The Covariance that :func:`covariance` would declare, as a value."""
    if not isinstance(per, str) or not per:
        raise ModelError(f'per= of a covariance is "subject", "occasion" or the name of a column such as "site"; got {per!r}.')
    if per not in (SUBJECT, OCCASION) and (meant := _NEARLY.get(per.lower(), per.lower())) in (SUBJECT, OCCASION):
        raise ModelError(f"per={per!r} would be a column of the data whose values subjects share; did you mean per={meant!r}?")
    if len(blocks) == 2 and blocks[0] and all(isinstance(name, str) for name in blocks[0]):
        blocks = ((tuple(blocks[0]), blocks[1]),)
    names: list[str] = []
    groups: list[tuple[int, ...]] = []
    pieces: list[np.ndarray] = []
    for block in blocks:
        try:
            block_names, matrix = block
            if isinstance(block_names, str) or not all(isinstance(name, str) for name in block_names):
                raise TypeError
        except (TypeError, ValueError):
            raise ModelError(
                'A block of a covariance is (names, matrix), for example (("cl", "v"), [[0.09, 0.01], [0.01, 0.04]]); '
                f"got {block!r}."
            ) from None
        groups.append(tuple(range(len(names), len(names) + len(block_names))))
        names.extend(block_names)
        pieces.append(_square(tuple(block_names), matrix))
    linked = _linked(variances, correlation or {})
    for group in linked:
        for name in group:
            _check_variance(name, variances[name])
        groups.append(tuple(range(len(names), len(names) + len(group))))
        names.extend(group)
        sd = np.sqrt([variances[name] for name in group])
        if len(group) > 1 and not np.all(sd):
            raise ModelError(f"A random effect without variance has no correlation; got 0 for one of {', '.join(group)}.")
        piece = np.diag(sd**2)
        for (a, b), rho in (correlation or {}).items():
            if a in group:
                i, j = group.index(a), group.index(b)
                piece[i, j] = piece[j, i] = rho * sd[i] * sd[j]
        pieces.append(piece)
    if not names:
        raise ModelError("A covariance needs at least one random effect: covariance(cl=0.09, v=0.04).")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ModelError(f"Random effect declared twice in one covariance: {', '.join(repeated)}.")
    n = len(names)
    omega = np.zeros((n, n))
    for group, piece in zip(groups, pieces, strict=True):
        omega[np.ix_(group, group)] = piece
    return _from_matrix(tuple(names), tuple(groups), omega, per)


def _check_variance(name: str, variance) -> None:
    if np.ndim(variance) or not is_numeric(variance) or not np.isfinite(variance) or variance < 0:
        raise ModelError(
            f"The variance of random effect {name!r} must be a positive number, or 0 where it is held fixed; got {variance!r}."
        )


def _element(key) -> tuple[str, ...]:
    """("cl",) of "cl"; ("v", "cl") of "v,cl" or ("v", "cl")."""
    names = key.split(",") if isinstance(key, str) else key
    names = tuple(name.strip() if isinstance(name, str) else name for name in names) if np.iterable(names) else ()
    if len(names) not in (1, 2) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ModelError(f"An element of a covariance is named by one random effect, 'cl', or by two, 'v,cl'; got {key!r}.")
    return names


def _rows_of_numbers(value) -> bool:
    """Whether ``value`` can be a matrix or its lower triangle: numbers, or rows of them of any length."""
    try:
        return bool(len(value)) and all(is_numeric(row) for row in getattr(value, "to_numpy", lambda: value)())
    except (TypeError, ValueError):
        return False


def _linked(variances: Mapping[str, float], correlation: Mapping[tuple[str, str], float]) -> list[list[str]]:
    """Connected groups of the names, linked by the correlated pairs, in order of first appearance."""
    groups = [[name] for name in variances]
    for pair, rho in correlation.items():
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ModelError(f"A correlation is given for a pair of different random effects; got {pair!r}.")
        for name in pair:
            if name not in variances:
                raise ModelError(name_error("random effect", name, variances, "This covariance"))
        if pair[::-1] in correlation:
            raise ModelError(f"The correlation of {pair[0]!r} and {pair[1]!r} is given twice, in both orders; give it once.")
        if not (is_numeric(rho) and np.ndim(rho) == 0 and -1 < rho < 1):
            raise ModelError(f"The correlation of {pair[0]!r} and {pair[1]!r} must lie between -1 and 1; got {rho!r}.")
        first = next(g for g in groups if pair[0] in g)
        second = next(g for g in groups if pair[1] in g)
        if first is not second:
            first.extend(second)
            groups = [g for g in groups if g is not second]
    order = list(variances)
    return [sorted(group, key=order.index) for group in groups]


def _square(names: Sequence[str], matrix) -> np.ndarray:
    """Full symmetric matrix from a full one or from its lower triangle: rows of growing length, those rows in one list (as
    NONMEM's $OMEGA BLOCK), or a matrix whose upper triangle is 0.  A DataFrame is read by its names."""
    n, listed = len(names), ", ".join(names)
    if hasattr(matrix, "columns"):
        if set(matrix.columns) != set(names) or set(matrix.index) != set(names):
            raise ModelError(f"The matrix is a DataFrame with columns {', '.join(map(str, matrix.columns))}; needed: {listed}.")
        matrix = matrix.loc[list(names), list(names)].to_numpy()
    try:
        rows = [np.asarray(row, dtype=float) for row in matrix]
    except (TypeError, ValueError):
        raise ModelError(f"The block of {listed} needs rows of numbers; got {matrix!r}.") from None
    if rows and all(row.ndim == 0 for row in rows) and len(rows) == n * (n + 1) // 2:
        rows = [np.array(rows[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]) for i in range(n)]
    rows = [np.atleast_1d(row) for row in rows]
    lower = [len(row) for row in rows] == list(range(1, n + 1))
    if not lower and (len(rows) != n or any(row.shape != (n,) for row in rows)):
        raise ModelError(
            f"The block of {listed} needs a {n} x {n} matrix (or its lower triangle); "
            f"got rows of length {[len(row) for row in rows]}."
        )
    full = np.zeros((n, n))
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    if lower or not np.any(np.triu(full, 1)):
        full = np.tril(full) + np.tril(full, -1).T
    if not np.all(np.isfinite(full)) or not np.allclose(full, full.T):
        what = "symmetric" if np.all(np.isfinite(full)) else "made of finite numbers"
        raise ModelError(f"The covariance matrix of {listed} is not {what}: {full.tolist()}.")
    return full


def _from_matrix(names, blocks, omega: np.ndarray, per: str) -> Covariance:
    n = len(names)
    if omega.shape != (n, n):
        raise ModelError(f"The covariance of {', '.join(names)} is {n} x {n}; got an array of shape {omega.shape}.")
    inside = np.zeros((n, n), dtype=bool)
    for block in blocks:
        inside[np.ix_(block, block)] = True
    stray = np.argwhere(~inside & (omega != 0))
    if len(stray):
        i, j = stray[0]
        raise ModelError(
            f"{names[i]!r} and {names[j]!r} are in different blocks, so their covariance is 0 by declaration; got {omega[i, j]:g}. "
            f"Declare them in one block to estimate it."
        )
    varies = np.diagonal(omega) != 0
    idle = [name for k, name in enumerate(names) if not varies[k] and np.any(omega[k] != 0)]
    if idle:
        row = omega[names.index(idle[0])].tolist()
        raise ModelError(f"The variance of {idle[0]!r} is 0, so its covariances must be 0 too; got {row}.")
    sd = np.sqrt(np.abs(np.diagonal(omega)))
    scale = np.where(varies, sd, 1.0)
    try:
        np.linalg.cholesky(omega[np.ix_(varies, varies)])
        factor = np.linalg.cholesky(omega / np.outer(scale, scale) + np.diag(~varies))
    except np.linalg.LinAlgError:
        raise ModelError(
            f"The covariance of {', '.join(names)} is not positive definite: its smallest eigenvalue is "
            f"{np.linalg.eigvalsh(omega).min():.3g}. Every variance must be positive and every correlation inside (-1, 1)."
        ) from None
    return Covariance(jnp.asarray(sd), jnp.asarray(factor), tuple(names), tuple(tuple(b) for b in blocks), per)
