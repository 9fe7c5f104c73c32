"""Curves whose areas are known: exponentials, infusions, steady states; scales of time, concentration and dose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.noncompartmental.areas import RULES, Curve
from nlme.noncompartmental.units import Units

CL, V, DOSE = 2.0, 10.0, 100.0
K = CL / V
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0])


def population(times, conc, **dose):
    """One subject with one dose record."""
    first = dict(ID=1, TIME=0.0, DV=np.nan, EVID=1, **{"AMT": DOSE, "RATE": 0.0, "II": 0.0, "ADDL": 0, "SS": 0} | dose)
    rows = [dict(ID=1, TIME=t, DV=c, EVID=0, AMT=0.0, RATE=0.0, II=0.0, ADDL=0, SS=0) for t, c in zip(times, conc, strict=True)]
    return nlme.read_nonmem(pd.DataFrame([first, *rows]), allow="duplicated record")


def one(*arguments, **options):
    return nlme.nca(*arguments, **options).table.iloc[0]


def test_a_bolus_is_exact():
    found = one(population(TIMES, DOSE / V * np.exp(-K * TIMES)), route="intravenous")
    exact = dict(
        C0=DOSE / V, Lambda_z=K, HL_Lambda_z=np.log(2) / K, AUCINF_obs=DOSE / CL, AUCINF_pred=DOSE / CL, AUMCINF_obs=DOSE / CL / K,
        MRTINF_obs=1 / K, Cl_obs=CL, Vz_obs=V, Vss_obs=V, Rsq_adjusted=1.0, No_points_lambda_z=6,
    )  # fmt: skip
    exact["AUC_%Back_Ext_obs"] = 100 * (1 - np.exp(-0.5 * K))
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-10), name


def test_a_zero_at_a_bolus_is_of_before_it():
    """Written after the dose record, or below the limit: the drug that was just given is not absent."""
    times, conc = np.r_[0.0, TIMES], np.r_[0.0, DOSE / V * np.exp(-K * TIMES)]
    found = one(population(times, conc), route="intravenous")
    for name, value in dict(C0=DOSE / V, AUCINF_obs=DOSE / CL, Cl_obs=CL, MRTINF_obs=1 / K).items():
        assert found[name] == pytest.approx(value, rel=1e-10), name
    assert "0 at the bolus" in found["REASON"]


def test_an_infusion_leaves_half_its_length_out_of_the_residence_time():
    length = 2.0
    times = np.concatenate([np.linspace(0, length, 2001), [3.0, 5.0, 8.0, 12.0, 16.0]])
    rising = DOSE / length / CL * -np.expm1(-K * np.minimum(times, length))
    found = one(population(times, rising * np.exp(-K * np.maximum(times - length, 0)), RATE=DOSE / length))
    for name, value in dict(Cl_obs=CL, Vz_obs=V, Vss_obs=V, MRTINF_obs=1 / K, DURATION=length).items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["Lambda_z_lower"] > length


def test_a_steady_state_is_exact():
    tau = 6.0
    times = np.array([0.0, 1.0, 2.0, 4.0, 6.0])
    conc = DOSE / V * np.exp(-K * times) / -np.expm1(-K * tau)
    result = nlme.nca(population(times, conc, II=tau, SS=1), route="intravenous")
    found = result.table.iloc[0]
    exact = dict(
        AUC_TAU=DOSE / CL, CLss=CL, Vz_obs=V, MRTINF_obs=1 / K, Vss_obs=V, Cavg=DOSE / CL / tau, Cmin=conc[-1], Cmax=conc[0],
        Accumulation_Index=1 / -np.expm1(-K * tau), Ctau=conc[-1], TAU=tau,
    )  # fmt: skip
    exact["Fluctuation%"] = 100 * (conc[0] - conc[-1]) / (DOSE / CL / tau)
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-10), name
    assert found["KIND"] == "steady state" and "Cl_obs" not in result.table


def test_accumulation_of_repeated_doses():
    tau, n = 6.0, 4
    rows = [dict(ID=1, TIME=0.0, DV=np.nan, EVID=1, AMT=DOSE, II=tau, ADDL=n - 1)]
    grid = np.array([0.5, 1.0, 2.0, 4.0, 5.5])
    for k in (0, n - 1):
        for t in grid:
            level = DOSE / V * sum(np.exp(-K * (t + j * tau)) for j in range(k + 1))
            rows.append(dict(ID=1, TIME=k * tau + t, DV=level, EVID=0, AMT=0.0, II=0.0, ADDL=0))
    result = nlme.nca(nlme.read_nonmem(pd.DataFrame(rows)), route="intravenous", steady_state=n)
    first, last = result.table.iloc[0], result.table.iloc[1]
    assert (first["PROFILE"], last["PROFILE"]) == (1, n) and (first["KIND"], last["KIND"]) == ("single", "steady state")
    assert last["AR_AUC"] == pytest.approx(-np.expm1(-K * tau * n) / -np.expm1(-K * tau), rel=1e-10)
    assert first["Cl_obs"] == pytest.approx(CL, rel=1e-10)
    unsaid = nlme.nca(result.population, route="intravenous").table.iloc[1]
    assert unsaid["KIND"] == "multiple" and np.isnan(unsaid["Cl_obs"]) and "steady state" in unsaid["REASON"]


@pytest.mark.parametrize("rule", RULES)
def test_partial_areas_add_up_and_reach_infinity(rule):
    conc = np.array([3.0, 5.0, 4.0, 2.5, 1.0, 0.4])
    found = one(
        population(TIMES, conc), route="extravascular", rule=rule, partial=[(0, 3), (3, 20), (0, 20), (12, 1e6), (0, 1e6)]
    )
    assert found["AUC_0_3"] + found["AUC_3_20"] == pytest.approx(found["AUC_0_20"], rel=1e-12)
    assert found["AUC_0_1e+06"] == pytest.approx(found["AUCINF_obs"], rel=1e-10)
    assert found["AUC_12_1e+06"] == pytest.approx(found["Clast"] / found["Lambda_z"], rel=1e-10)


def test_scales_of_time_concentration_and_dose():
    conc = np.array([3.0, 5.0, 4.0, 2.5, 1.0, 0.4])
    base = one(population(TIMES, conc), route="extravascular")
    powers = {  # of time, concentration, dose
        "Cmax": (0, 1, 0), "Tmax": (1, 0, 0), "AUCINF_obs": (1, 1, 0), "AUMCINF_obs": (2, 1, 0), "Lambda_z": (-1, 0, 0),
        "Cl_F_obs": (-1, -1, 1), "Vz_F_obs": (0, -1, 1), "MRTINF_obs": (1, 0, 0), "Rsq": (0, 0, 0), "AUCINF_D_obs": (1, 1, -1),
    }  # fmt: skip
    scaled = one(population(60 * TIMES, 7 * conc, AMT=3 * DOSE), route="extravascular")
    for name, (t, c, d) in powers.items():
        assert scaled[name] == pytest.approx(base[name] * 60.0**t * 7.0**c * 3.0**d, rel=1e-10), name


def test_rules_on_a_segment():
    """(1, 4) to (3, 1): linear 5; logarithmic 3 / (log 4 / 2); upwards only 'linear log' after Tmax is logarithmic."""
    log = 6 / np.log(4)
    for rule, area in (("linear", 5.0), ("linear-up log-down", log), ("linear log", log)):
        assert Curve(np.array([1.0, 3.0]), np.array([4.0, 1.0]), rule, 1.0).auc == pytest.approx(area, rel=1e-14)
    for rule, area in (("linear", 5.0), ("linear-up log-down", 5.0), ("linear log", log)):
        assert Curve(np.array([1.0, 3.0]), np.array([1.0, 4.0]), rule, 0.0).auc == pytest.approx(area, rel=1e-14)
    for pair in ([0.0, 4.0], [4.0, 0.0], [4.0, 4.0], [4.0, 4.0 * (1 + 1e-9)]):
        for rule in RULES:
            curve = Curve(np.array([1.0, 3.0]), np.array(pair), rule, 0.0)
            assert curve.auc == pytest.approx(sum(pair), rel=1e-8)
            assert curve.aumc == pytest.approx(pair[0] + 3 * pair[1], rel=0.05)


@pytest.mark.parametrize(
    ("time", "conc", "dose", "volume", "clearance", "factor"),
    [
        ("h", "mg/L", "mg", "L", "L/h", 1.0),
        ("h", "ng/mL", "mg", "L", "L/h", 1000.0),
        ("day", "µg/mL", "mg/kg", "L/kg", "L/day/kg", 1.0),
        ("min", "nmol/L", "umol", "L", "L/min", 1000.0),
        ("h", "mcg/dL", "g", "L", "L/h", 1e5),
        ("h", "IU/mL", "IU", "IU/(IU/mL)", "IU/(IU/mL)/h", 1.0),
        ("h", "nmol/L", "mg", "mg/(nmol/L)", "mg/(nmol/L)/h", 1.0),
        ("", "mg/L", "mg", "L", "", 1.0),
        ("h", "", "mg", "", "", 1.0),
    ],
)
def test_units_of_volumes_and_clearances(time, conc, dose, volume, clearance, factor):
    units = Units(time, conc, dose)
    assert (units.unit("volume"), units.unit("clearance")) == (volume, clearance)
    assert units.factor == pytest.approx(factor, rel=1e-12)
