"""Which covariates belong into a model."""
