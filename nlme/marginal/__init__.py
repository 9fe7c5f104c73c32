"""Marginal likelihoods: the random effects integrated out, by approximation or by quadrature."""
