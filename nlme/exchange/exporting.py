"""``to_nonmem``, ``to_nlmixr2``, ``to_monolix``: a model, its data and its method in another program's words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nlme.errors import ModelError
from nlme.marginal.base import Method

if TYPE_CHECKING:
    from nlme.exchange.exported import Exported
    from nlme.exchange.outline import Outline

_ENDINGS = {"NONMEM": (".mod", ".ctl", ".con"), "nlmixr2": (".R", ".r"), "Monolix": (".mlxtran",)}


def to_nonmem(
    source, path: str | os.PathLike | None = None, *, population=None, method: Method | None = None, fixed: Iterable[str] = ()
) -> Exported:
    """Write a model as a NONMEM control stream with its data; estimates are the initial values.

    Closed forms become ADVAN1-4, 11 or 12 with TRANS2 or TRANS4, other structures $DES under ADVAN13; random effects per occasion
    are blocks with SAME; standard deviations of residual errors stay fixed effects (W) beside EPS with a variance of 1; networks
    are written out, a THETA for each weight.  Data of log-normal (logit-normal, Box-Cox, Yeo-Johnson) errors are written on that scale; ``shift``
    is what this adds to the objective.  ``nlme.from_nonmem`` of what is written gives the same objective.

    Parameters
    ----------
    source : a fit, what ``nlme.evaluate`` returned, or a model
    path : the control stream, or a folder for ``run1.mod``; the data are beside it, ``run1_nonmem.csv``.  None: nothing is written
    population : the data, where ``source`` is a model
    method : of $ESTIMATION; the fit's, or FOCEI (Laplace where observations are not normal)
    fixed : names of parameters to FIX; the fit's

    Raises
    ------
    ModelError
        What NM-TRAN has no words for, by name.
    DataError
        Data that cannot be written, by subject and time.
    """

    def build(outline: Outline, stem: str) -> Exported:
        from nlme.exchange.exported import Exported, data_name
        from nlme.exchange.nonmem.control import Control

        control = Control(outline)
        text = control.text(data_name("NONMEM", stem))
        return Exported("NONMEM", {f"{stem}.mod": text}, control.table, stem, control.shift, tuple(control.messages))

    return _exported("NONMEM", build, source, path, population, method, fixed)


def to_nlmixr2(
    source, path: str | os.PathLike | None = None, *, population=None, method: Method | None = None, fixed: Iterable[str] = ()
) -> Exported:
    """Write a model as an R script for nlmixr2 (rxode2) with its data; estimates are the initial values.

    Equations are written out (``d/dt``); theta exp(eta) becomes exp(log theta + eta).  Parameters as of :func:`to_nonmem`; ``path`` is the script,
    or a folder for ``run1.R``.

    Raises
    ------
    ModelError
        What nlmixr2 has no words for: subpopulations, random effects above the subject, correlated residuals ...
    """

    def build(outline: Outline, stem: str) -> Exported:
        from nlme.exchange.nlmixr2 import script

        return script(outline, stem)

    return _exported("nlmixr2", build, source, path, population, method, fixed)


def to_monolix(
    source, path: str | os.PathLike | None = None, *, population=None, method: Method | None = None, fixed: Iterable[str] = ()
) -> Exported:
    """Write a model as a Monolix project with its structural model (Mlxtran) and its data; estimates are the initial values.

    theta exp(eta) becomes a log-normal individual parameter, any other random effect a normal one with mean 0; covariates are regressors,
    and equations are written out (``ddt_``).  Parameters as of :func:`to_nonmem`; ``path`` is the project, or a folder for ``run1.mlxtran``.

    Raises
    ------
    ModelError
        What Mlxtran has no words for: subpopulations, covariates that change in time, residual errors of another form ...
    """

    def build(outline: Outline, stem: str) -> Exported:
        from nlme.exchange.monolix import project

        return project(outline, stem)

    return _exported("Monolix", build, source, path, population, method, fixed)


def _exported(program: str, build: Callable[[Outline, str], Exported], source, path, population, method, fixed) -> Exported:
    target = None if path is None else Path(path)
    ends = target is not None and target.suffix in (*_ENDINGS[program], *(e.upper() for e in _ENDINGS[program]))
    folder, stem = (target.parent, target.stem) if ends else (target, "run1")
    try:
        from nlme.exchange.outline import outline_of

        made = build(outline_of(source, population, method, fixed, program), stem)
    except ImportError as error:
        if (error.name or "").split(".")[0] != "sympy":
            raise
        raise ModelError(f"Writing a model for {program} needs sympy: pip install 'nlme[equations]'.") from None
    if ends and target.suffix != f".{next(iter(made.texts)).rsplit('.', 1)[1]}":
        made.texts[target.name] = made.texts.pop(next(iter(made.texts)))
    return made if folder is None else made.write(folder)
