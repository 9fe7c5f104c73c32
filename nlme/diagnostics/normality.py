"""Tests of numbers that should be independent and standard normal.

| test              | of                 | statistic                                                           |
|-------------------|--------------------|---------------------------------------------------------------------|
| t-test            | mean 0             | Student's t                                                         |
| Wilcoxon          | centre 0           | signed ranks                                                        |
| Fisher variance   | variance 1         | (n - 1) s2, chi-square with n - 1 degrees of freedom, two-sided      |
| Shapiro-Wilk      | normal             | W                                                                   |
| global            | all of it          | three times the smallest p of t-test, variance and Shapiro-Wilk, at most 1 |

Source: Brendel et al. (2010), doi:10.1007/s10928-009-9143-7; the standard error of the variance is s2 sqrt(2 / (n - 1)).
"""

from __future__ import annotations

import numpy as np

TESTS = ("t-test", "Wilcoxon signed rank", "Fisher variance", "Shapiro-Wilk", "global")


def moments(x: np.ndarray) -> dict[str, float]:
    """Number, mean, variance with their standard errors, skewness and excess kurtosis of (n,) numbers."""
    n, mean = len(x), x.mean()
    variance = x.var(ddof=1) if n > 1 else np.nan
    second = np.mean((x - mean) ** 2)
    return {
        "n": n,
        "mean": mean,
        "se of mean": np.sqrt(variance / n),
        "variance": variance,
        "se of variance": variance * np.sqrt(2.0 / (n - 1)) if n > 1 else np.nan,
        "skewness": np.mean((x - mean) ** 3) / second**1.5 if second > 0 else np.nan,
        "kurtosis": np.mean((x - mean) ** 4) / second**2 - 3.0 if second > 0 else np.nan,
    }


def p_values(x: np.ndarray) -> list[float]:
    """p-values in the order of ``TESTS``; NaN where there are fewer than three numbers, or all are one."""
    from scipy import stats

    n = len(x)
    if n < 3 or np.ptp(x) == 0:
        return [np.nan] * len(TESTS)
    below = stats.chi2.cdf((n - 1) * x.var(ddof=1), n - 1)
    some = x if n <= 5000 else x[np.linspace(0, n - 1, 5000).astype(int)]  # for which the test's p-value is known
    student, ranks = stats.ttest_1samp(x, 0.0).pvalue, stats.wilcoxon(x).pvalue
    variance, shape = 2.0 * min(below, 1.0 - below), stats.shapiro(some).pvalue
    return [student, ranks, variance, shape, min(1.0, 3.0 * min(student, variance, shape))]
