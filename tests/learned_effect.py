"""A parameter that depends on one covariate in an unknown way, seen with errors."""

from __future__ import annotations

import nlme


class Effect(nlme.Model):
    """y = net(x) + eta + e."""

    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=3, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(e=0.04)
    sd: nlme.Scalar = nlme.positive(0.2)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(e=self.net(cov)[0] + eta.e)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.e, self.sd)}
