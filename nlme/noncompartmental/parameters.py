"""What one profile gives: every parameter that can be computed, and a sentence for every one that cannot.

    AUCINF = AUClast + C / lambda_z                  AUMCINF = AUMClast + Tlast C / lambda_z + C / lambda_z^2
    CL = D / AUCINF     Vz = CL / lambda_z           MRT = AUMC / AUC - T/2 (T: length of the infusion)      Vss = MRT CL

with C the last measured concentration (obs) or that of the terminal line at its time (pred).  At steady state, over the interval tau,

    CLss = D / AUC_TAU      Vz = CLss / lambda_z     MRT = (AUMC_TAU + tau (AUCINF - AUC_TAU)) / AUC_TAU - T/2

Names are Phoenix WinNonlin's.  Sources: Phoenix WinNonlin User's Guide, "NCA parameter formulas"; Gabrielsson & Weiner (2016),
Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed., ch. 2.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nlme.errors import DataError
from nlme.noncompartmental.areas import Curve
from nlme.noncompartmental.below import substituted
from nlme.noncompartmental.profiles import Profile
from nlme.noncompartmental.terminal import Line, asked_line, best_line

CARRIED = 0.05  # of Cmax: up to this a pre-dose concentration counts as none (the rule of bioequivalence guidelines)

#: parameter -> (kind of quantity, words)
PARAMETERS: dict[str, tuple[str, str]] = {
    "Tlag": ("time", "Time of the last sample before the first measurable one"),
    "Tmax": ("time", "Time of the largest concentration"),
    "Cmax": ("conc", "Largest concentration"),
    "Cmax_D": ("conc/dose", "Cmax / dose"),
    "C0": ("conc", "Concentration at the time of a bolus"),
    "Tlast": ("time", "Time of the last measurable concentration"),
    "Clast": ("conc", "Last measurable concentration"),
    "AUClast": ("auc", "Area to Tlast"),
    "AUCall": ("auc", "Area to the last sample"),
    "AUMClast": ("aumc", "Area of time x concentration to Tlast"),
    "MRTlast": ("time", "Mean residence time, to Tlast"),
    "Lambda_z": ("rate", "Terminal rate constant"),
    "HL_Lambda_z": ("time", "Terminal half-life"),
    "No_points_lambda_z": ("", "Points of the terminal line"),
    "Lambda_z_lower": ("time", "First of them"),
    "Lambda_z_upper": ("time", "Last of them"),
    "Rsq": ("", "R2 of the terminal line"),
    "Rsq_adjusted": ("", "Its adjusted R2"),
    "Corr_XY": ("", "Correlation of log concentration and time on it"),
    "Span": ("", "Half-lives that the terminal line covers"),
    "Clast_pred": ("conc", "Terminal line at Tlast"),
} | {
    f"{name}_{how}": (kind, f"{words}, by the {'last measured concentration' if how == 'obs' else 'terminal line at Tlast'}")
    for how in ("obs", "pred")
    for name, kind, words in (
        ("AUCINF", "auc", "Area to infinity"),
        ("AUCINF_D", "auc/dose", "AUCINF / dose"),
        ("AUC_%Extrap", "%", "Extrapolated part of AUCINF"),
        ("AUC_%Back_Ext", "%", "Part of AUCINF before the first sample after a bolus"),
        ("AUMCINF", "aumc", "Area of time x concentration to infinity"),
        ("AUMC_%Extrap", "%", "Extrapolated part of AUMCINF"),
        ("MRTINF", "time", "Mean residence time"),
        ("Cl", "clearance", "Clearance"),
        ("Cl_F", "clearance", "Clearance / F"),
        ("Vz", "volume", "Volume of distribution by the terminal slope"),
        ("Vz_F", "volume", "Volume of distribution by the terminal slope / F"),
        ("Vss", "volume", "Volume of distribution at steady state"),
    )
} | {
    "AUC_TAU": ("auc", "Area over the dosing interval"),
    "AUMC_TAU": ("aumc", "Area of time x concentration over the dosing interval"),
    "Ctau": ("conc", "Concentration at the end of the dosing interval"),
    "Cavg": ("conc", "Mean concentration over the dosing interval"),
    "Tmin": ("time", "Time of the smallest concentration of the interval"),
    "Cmin": ("conc", "Smallest concentration of the interval"),
    "Fluctuation%": ("%", "100 (Cmax - Cmin) / Cavg"),
    "Swing": ("", "(Cmax - Cmin) / Cmin"),
    "CLss": ("clearance", "Clearance at steady state"),
    "CLss_F": ("clearance", "Clearance at steady state / F"),
    "Accumulation_Index": ("", "1 / (1 - exp(-lambda_z tau))"),
    "AR_AUC": ("", "AUC_TAU / AUC_TAU after the first dose"),
    "AR_Cmax": ("", "Cmax / Cmax after the first dose"),
}  # fmt: skip


@dataclass
class Analysed:
    """A profile, its curve and terminal line, its parameters, and why others are missing.

    ``measured`` marks the points of the curve that were measured and are above zero.
    ``reasons`` are (what is missing, sentence), ``notes`` sentences on numbers that are there.
    """

    profile: Profile
    kind: str
    curve: Curve | None = None
    line: Line | None = None
    measured: Any = None
    values: dict[str, float] = field(default_factory=dict)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """All that is missing and why, then the notes, as one text."""
        return "; ".join([*(f"{what}: {why}" for what, why in self.reasons), *self.notes])


@dataclass(frozen=True)
class Settings:
    """How profiles are analysed; see :func:`nlme.noncompartmental.analysis.nca`."""

    rule: str
    below: Mapping[str, Any]
    lambda_z: Mapping[Any, tuple[float, ...]]
    partial: Sequence[tuple[float, float]]
    steady_from: int | None
    factor: float


def analysed(profile: Profile, settings: Settings) -> Analysed:
    """Everything of one profile."""
    time, conc, measured = substituted(profile.samples, settings.below, profile.words)
    if not measured.any():
        return Analysed(profile, "", reasons=[("all", "no measured concentration above zero")])
    kind = _kind(profile, float(conc[measured].max()), settings.steady_from)
    out = Analysed(profile, kind)
    if profile.begins and np.inf > (part := _carried(profile, float(conc[measured].max()))) > CARRIED:
        out.notes.append(f"before the first dose there is {100 * part:.0f} % of Cmax already")
    time, conc, measured, inserted = _with_start(out, time, conc, measured)
    measured = measured & ~inserted
    tau = profile.interval if kind != "single" and profile.interval else np.inf
    within = measured & (time <= tau * (1 + 1e-9))
    if not within.any():
        out.reasons.append(("all", f"no measured concentration above zero within the dosing interval of {tau:g}"))
        return out
    peak = int(np.flatnonzero(within)[np.argmax(conc[within])])
    out.curve, out.measured = Curve(time, conc, settings.rule, float(time[peak])), measured
    out.line = _line(out, measured, peak, settings)
    _observed(out, measured, peak)
    _terminal(out)
    _to_infinity(out, inserted, settings.factor)
    if profile.interval:
        _over_interval(out, settings.factor)
    for start, end in settings.partial:
        _partial(out, start, end)
    return out


def partial_name(start: float, end: float) -> str:
    """The name of a partial area."""
    return f"AUC_{start:g}_{end:g}"


def _kind(profile: Profile, cmax: float, steady_from: int | None) -> str:
    """ "single", "steady state" or "multiple": earlier doses are still there, and nobody said that it is a steady state."""
    if profile.dose.steady or (steady_from is not None and profile.number >= steady_from):
        return "steady state"
    free = profile.begins or _carried(profile, cmax) <= CARRIED
    return "single" if free else "multiple"


def _carried(profile: Profile, cmax: float) -> float:
    """The concentration before the dose as a part of Cmax; infinite where it is not known."""
    return np.inf if profile.before is None else profile.before / cmax


def _with_start(out: Analysed, time, conc, measured):
    """The samples with a value at the time of the dose, where none was taken there; which value was put in."""
    profile = out.profile
    if profile.dose.bolus and time[0] == 0.0 and conc[0] <= 0.0 and len(time) > 1:
        # what is all in the plasma at once is not absent there at that time
        time, conc, measured = time[1:], conc[1:], measured[1:]
        out.notes.append("the 0 at the bolus is taken for one before it, and C0 is extrapolated back")
    inserted = np.zeros(len(time), dtype=bool)
    if time[0] == 0.0:
        if profile.dose.bolus:
            out.values["C0"] = float(conc[0])
        return time, conc, measured, inserted
    if len(time) == 1 and (profile.dose.bolus or out.kind != "single"):
        return time, conc, measured, inserted  # one concentration says nothing of that at the dose
    if profile.dose.bolus:
        start = out.values["C0"] = _back(out, time, conc, measured)
    elif out.kind == "single":
        start = 0.0
    else:
        tau = profile.interval or np.inf
        start = float(conc[time <= tau * (1 + 1e-9)].min(initial=np.inf))
        start = start if np.isfinite(start) else float(conc.min())
        out.notes.append("no sample at the dose: the smallest concentration of the interval stands there")
    return np.r_[0.0, time], np.r_[start, conc], np.r_[False, measured], np.r_[True, inserted]


def _back(out: Analysed, time, conc, measured) -> float:
    """Concentration at a bolus: the logarithmic line through the first two, or the first where they do not fall."""
    if len(time) > 1 and measured[:2].all() and conc[1] < conc[0]:
        return float(conc[0] * (conc[0] / conc[1]) ** (time[0] / (time[1] - time[0])))
    out.notes.append("C0 is the first concentration: no first two that fall")
    return float(conc[0])


def _observed(out: Analysed, measured, peak: int) -> None:
    """What is seen without the terminal line."""
    curve, dose, put = out.curve, out.profile.dose, out.values
    last = int(np.flatnonzero(curve.conc > 0)[-1])
    if dose.route == "extravascular" and out.kind == "single":
        first = int(np.flatnonzero(measured)[0])
        put["Tlag"] = float(curve.time[max(first - 1, 0)])
    put |= {"Tmax": float(curve.time[peak]), "Cmax": float(curve.conc[peak])}
    put |= {"Tlast": float(curve.time[last]), "Clast": float(curve.conc[last])}
    put["Cmax_D"] = put["Cmax"] / dose.amount
    if len(curve.time) == 1:
        out.reasons.append(("areas", "a single concentration, and none at the dose"))
        return
    to_last = curve.between(curve.time[0], curve.time[last])
    put |= {"AUClast": to_last.auc, "AUCall": curve.auc, "AUMClast": to_last.aumc}
    if put["AUClast"] > 0:
        put["MRTlast"] = put["AUMClast"] / put["AUClast"] - 0.5 * dose.duration
    else:
        out.reasons.append(("MRTlast", "AUClast is 0"))


def _line(out: Analysed, measured, peak: int, settings: Settings) -> Line | None:
    """The terminal line, or None with its reason."""
    curve, dose, profile = out.curve, out.profile.dose, out.profile
    asked = settings.lambda_z
    points = next((asked[k] for k in ((str(profile.id), profile.number), str(profile.id), None) if k in asked), None)
    if points is not None:
        found = asked_line(curve.time, curve.conc, measured, points, profile.words)
    else:
        after = curve.time >= curve.time[peak] if dose.bolus else curve.time > max(curve.time[peak], dose.duration)
        found = best_line(curve.time, curve.conc, measured & after)
    if isinstance(found, Line):
        return found
    out.reasons.append(("Lambda_z and what it is needed for", found))
    return None


def _terminal(out: Analysed) -> None:
    line = out.line
    if line is None:
        return
    out.values.update(
        Lambda_z=line.lambda_z, HL_Lambda_z=line.half_life, No_points_lambda_z=line.points, Lambda_z_lower=line.lower,
        Lambda_z_upper=line.upper, Rsq=line.r2, Rsq_adjusted=line.adjusted, Corr_XY=-float(np.sqrt(line.r2)),
        Span=(line.upper - line.lower) / line.half_life, Clast_pred=float(line.at(out.values["Tlast"])),
    )  # fmt: skip


def _to_infinity(out: Analysed, inserted, factor: float) -> None:
    """Areas to infinity, and after a single dose clearance, volumes and mean residence time."""
    line, put, dose = out.line, out.values, out.profile.dose
    if line is None:
        return
    f = "_F" if dose.route == "extravascular" else ""
    rest = line.lambda_z
    for how, c in (("obs", put["Clast"]), ("pred", put["Clast_pred"])):
        beyond, beyond_m = c / rest, put["Tlast"] * c / rest + c / rest**2
        auc, aumc = put["AUClast"] + beyond, put["AUMClast"] + beyond_m
        put |= {f"AUCINF_{how}": auc, f"AUC_%Extrap_{how}": 100 * beyond / auc}
        if dose.bolus and inserted[0]:
            put[f"AUC_%Back_Ext_{how}"] = 100 * out.curve.between(0.0, out.curve.time[1]).auc / auc
        if out.kind != "single":
            continue
        mrt = aumc / auc - 0.5 * dose.duration
        put |= {f"AUMCINF_{how}": aumc, f"AUMC_%Extrap_{how}": 100 * beyond_m / aumc, f"MRTINF_{how}": mrt}
        put[f"AUCINF_D_{how}"] = auc / dose.amount
        clearance = dose.amount / auc * factor
        put |= {f"Cl{f}_{how}": clearance, f"Vz{f}_{how}": clearance / rest}
        if not f:
            put[f"Vss_{how}"] = mrt * clearance
    if out.kind == "multiple":
        out.reasons.append(
            (
                f"Cl{f}, Vz{f} and MRTINF",
                "earlier doses may still be there, and nothing says that it is a steady state (SS, steady_state=) or a new "
                "beginning (EVID 4, a sample before the dose)",
            )
        )


def _over_interval(out: Analysed, factor: float) -> None:
    """What holds over a dosing interval, and at steady state clearance, volumes and mean residence time."""
    tau, put = float(out.profile.interval), out.values
    curve = _reaching(out, 0.0, tau)
    if isinstance(curve, str):
        out.reasons.append(("AUC_TAU and what it is needed for", curve))
        return
    auc, aumc = curve.auc, curve.aumc
    put |= {"AUC_TAU": auc, "AUMC_TAU": aumc, "Ctau": float(curve.conc[-1]), "Cavg": auc / tau}
    if out.line is not None:
        put["Accumulation_Index"] = float(-1.0 / np.expm1(-out.line.lambda_z * tau))
    if out.kind == "single":
        return
    low = int(np.argmin(np.where(out.curve.time <= tau * (1 + 1e-9), out.curve.conc, np.inf)))
    put |= {"Tmin": float(out.curve.time[low]), "Cmin": float(out.curve.conc[low])}
    put["Fluctuation%"] = 100 * (put["Cmax"] - put["Cmin"]) / put["Cavg"]
    if put["Cmin"] > 0:
        put["Swing"] = (put["Cmax"] - put["Cmin"]) / put["Cmin"]
    else:
        out.reasons.append(("Swing", "Cmin is 0"))
    if out.kind == "steady state":
        _steady(out, tau, auc, aumc, factor)


def _steady(out: Analysed, tau: float, auc: float, aumc: float, factor: float) -> None:
    put, dose = out.values, out.profile.dose
    f = "_F" if dose.route == "extravascular" else ""
    clearance = put[f"CLss{f}"] = dose.amount / auc * factor
    if out.line is None:
        return
    for how in ("obs", "pred"):
        mrt = put[f"MRTINF_{how}"] = (aumc + tau * (put[f"AUCINF_{how}"] - auc)) / auc - 0.5 * dose.duration
        put[f"Vz{f}_{how}"] = clearance / out.line.lambda_z
        if not f:
            put[f"Vss_{how}"] = mrt * clearance


def _partial(out: Analysed, start: float, end: float) -> None:
    name = partial_name(start, end)
    curve = _reaching(out, start, end)
    if isinstance(curve, str):
        out.reasons.append((name, curve))
    else:
        out.values[name] = curve.auc


def _reaching(out: Analysed, start: float, end: float) -> Curve | str:
    """The curve from ``start`` to ``end``, or why there is none; after the last measured concentration it falls by lambda_z, so that
    an area to a late time is that to infinity (obs)."""
    last = out.values["Tlast"]
    if start < out.curve.time[0]:
        return f"there is no concentration before {out.curve.time[0]:g}"
    tail = 1e-9 * max(1.0, end)
    if end <= out.curve.time[-1] + tail:
        return out.curve.between(start, min(end, float(out.curve.time[-1])))
    if out.line is None:
        return f"the last measurable concentration is at {last:g}, and there is no terminal slope to go on to {end:g}"

    def beyond(t):
        return out.values["Clast"] * np.exp(-out.line.lambda_z * (t - last))

    out.notes.append(f"from {last:g} to {end:g} the last measured concentration declines by lambda_z")
    known = Curve(np.array([start]), np.array([beyond(start)]), out.curve.rule, out.curve.tmax)
    if start < last:
        known = out.curve.between(start, last)
    return Curve(np.r_[known.time, end], np.r_[known.conc, beyond(end)], known.rule, known.tmax, out.line.lambda_z)


def require_partial(partial: Any) -> tuple[tuple[float, float], ...]:
    """Pairs of times, from before to.

    Raises
    ------
    DataError
        Something else.
    """
    out = []
    for pair in partial if isinstance(partial, Iterable) else (partial,):
        try:
            start, end = (float(t) for t in pair)
        except (TypeError, ValueError):
            raise DataError(f"partial: pairs of times after the dose, partial=[(0, 12), (0, 24)]; got {pair!r}.") from None
        if not 0 <= start < end < np.inf:
            raise DataError(f"partial: from {start:g} to {end:g} is no time after the dose that begins before it ends.")
        out.append((start, end))
    return tuple(out)
