"""stepwise: what a term is worth is the drop of -2 log L, the terms of the truth are found among noise, and noise alone gives none."""

from __future__ import annotations

import numpy as np
import pytest

import nlme
from nlme.learning.stepwise import _Selection, stepwise

N, TERMS, TRUTH = 120, 40, ((3, 0, 0.9), (7, 1, -0.7), (11, 0, 0.6))


class Two(nlme.Model):
    omega: nlme.Covariance = nlme.covariance(a=1.0, b=1.0)


@pytest.fixture(scope="module")
def task():
    """Gaussian evidence on two random effects, in some subjects on one alone, and forty terms of which three are real."""
    rng = np.random.default_rng(2)
    phi = rng.normal(size=(N, TERMS))
    u = rng.normal(size=(N, 2)) * (0.5, 0.6)
    for j, o, w in TRUTH:
        u[:, o] += w * phi[:, j]
    root = rng.normal(size=(N, 2, 2)) + 2.0 * np.eye(2)
    root[::7, 1] = 0.0
    A = np.swapaxes(root, 1, 2) @ root
    h = np.einsum("nij,nj->ni", A, u) + np.einsum("nij,nj->ni", np.swapaxes(root, 1, 2), rng.normal(size=(N, 2)))
    return h, A, phi, Two().omega


def minus_two_log_likelihood(h, A, omega, f):
    """-2 log of the integral of exp(h'u - 1/2 u'Au) under u ~ Normal(f, Omega), all subjects."""
    rest = h - np.einsum("nij,nj->ni", A, f)
    C = np.linalg.inv(A + np.linalg.inv(omega))
    inside = 2 * np.einsum("ni,ni->n", h, f) - np.einsum("ni,nij,nj->n", f, A, f) + np.einsum("ni,nij,nj->n", rest, C, rest)
    return float(np.sum(-inside + np.linalg.slogdet(np.eye(2) + A @ omega)[1]))


def test_worth_is_the_drop_of_the_likelihood(task):
    """Of a term that is out and one that is in, against the maximum over its weight at the same Omega."""
    h, A, phi, unit = task
    state = _Selection(h, A, phi, np.arange(2), unit)
    state.refit()

    def drop(others, j, o):
        """By a parabola through three weights, exact because the likelihood is Gaussian in them."""
        f = np.zeros((3, N, 2))
        f[:] = others
        for k, w in enumerate((-1.0, 0.0, 1.0)):
            f[k, :, o] += w * phi[:, j]
        low, mid, high = (minus_two_log_likelihood(h, A, state.omega, one) for one in f)
        return (0.5 * (high - low)) ** 2 / (2 * (high + low - 2 * mid))

    (j, o), worth = state.strongest(set())
    assert worth == pytest.approx(drop(0.0, j, o), rel=1e-8)
    assert (j, o) in {(j, o) for j, o, _ in TRUTH}
    state.enter((j, o))
    state.refit()
    # its weight's information at the Omega of the last round but one, to which that of the last is equal up to the rounds' tolerance
    assert state.worths()[0] == pytest.approx(drop(0.0, j, o), rel=1e-2)


def test_the_truth_is_found_among_noise(task):
    h, A, phi, unit = task
    chosen = stepwise(h, A, phi, np.arange(2), unit, np.ones(N, bool), (15.0, 10.83))
    for one in chosen:
        assert set(one.at) == {(j, o) for j, o, _ in TRUTH}
        weights = dict(zip(one.at, one.weights, strict=True))
        for j, o, w in TRUTH:
            assert weights[j, o] == pytest.approx(w, abs=0.2)
    assert np.allclose(chosen[0].shifts(phi, 2).mean(axis=0), 0.0, atol=1e-12)


def test_noise_gives_no_term(task):
    h, A, phi, unit = task
    noise = np.random.default_rng(9).permutation(phi)
    (chosen,) = stepwise(h, A, noise, np.arange(2), unit, np.ones(N, bool), (15.0,))
    assert chosen.at == () and chosen.shifts(noise, 2).shape == (N, 2)
