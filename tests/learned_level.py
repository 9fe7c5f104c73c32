"""A level to which a network of a covariate is added."""

from __future__ import annotations

import nlme


class LearnedLevel(nlme.Model):
    """y = level + net(x) + eta + e; the network has a constant of its own."""

    covariates = ("x",)
    level: nlme.Scalar = nlme.real(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=2, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(level=0.2)
    sd: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        return dict(level=self.level + self.net(cov.x)[0] + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}
