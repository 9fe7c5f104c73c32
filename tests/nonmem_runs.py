"""Control streams of the reference cases, written for these tests, with NONMEM's estimates as an .ext file beside them."""

from __future__ import annotations

from pathlib import Path

from reference import Case

EXT = """TABLE NO.     1: {title}: Goal Function=MINIMUM VALUE OF OBJECTIVE FUNCTION: Problem=1
 ITERATION {names} OBJ
 -1000000000 {values} {objective!r}
"""


def lower_names(kind: str, rows) -> list[tuple[str, float]]:
    return [(f"{kind}({i},{j})", float(x or 0.0)) for i, row in enumerate(rows, 1) for j, x in enumerate(row, 1)]


def values_of(parameters: dict) -> list[tuple[str, float]]:
    found = [(f"THETA{k}", v) for k, v in enumerate(parameters.get("THETA", ()), 1)]
    found += lower_names("SIGMA", parameters.get("SIGMA_lower", ()))
    found += lower_names("OMEGA", parameters.get("OMEGA_lower", ()))
    diagonal = parameters.get("OMEGA_diagonal", ())
    found += lower_names("OMEGA", [[0.0] * i + [v] for i, v in enumerate(diagonal)])
    return found


def write_run(folder: Path, case: Case, stream: str, parameters: dict, objective: float) -> Path:
    """run.mod and run.ext in ``folder``; @FILE stands for the case's data file."""
    values = values_of(parameters)
    (folder / "run.mod").write_text(stream.replace("@FILE", str(case.folder / "data.csv")))
    names, numbers = " ".join(n for n, _ in values), " ".join(repr(v) for _, v in values)
    (folder / "run.ext").write_text(EXT.format(title="Estimation", names=names, values=numbers, objective=objective))
    return folder / "run.mod"


THEOPHYLLINE = """$PROBLEM Theophylline
$INPUT ID TIME DV WT DOSE
$DATA @FILE IGNORE=@
$PRED
  KA = THETA(1)*EXP(ETA(1))
  V  = THETA(2)*EXP(ETA(2))
  K  = THETA(3)*EXP(ETA(3))
  F0 = DOSE/V*KA/(KA - K)*(EXP(-K*TIME) - EXP(-KA*TIME))
  IPRED = F0
  Y = IPRED + IPRED*EPS(1) + EPS(2)
$THETA (0, 2) ; KA [1/h]
  (0, 50) ; V [L]
  (0, 0.1) ; K [1/h]
$OMEGA BLOCK(3)
  0.2
  0.1 0.2
  0.1 0.1 0.2
$SIGMA 0.1 ; prop
$SIGMA 0.1 ; add
$ESTIMATION METHOD
"""

CONTROL5 = """$PROB THEOPHYLLINE POPULATION DATA
$INPUT ID TIME AMT DV EVID MDV WT
$DATA @FILE IGNORE=@
$SUBR ADVAN2
$PK
  CALLFL=-2
  KA=THETA(1)+ETA(1)
  K=THETA(2)+ETA(2)
  CL=THETA(3)*WT+ETA(3)
  SC=CL/K/WT
$THETA (.1,3,5) (.008,.08,.5) (.004,.04,.9)
$OMEGA BLOCK(3) 6 .005 .0002 .3 .006 .4
$ERROR
  Y=F+EPS(1)
$SIGMA .4
$EST MAXEVAL=450 PRINT=5
"""

PHENOBARBITAL = """$PROBLEM Phenobarbital
$INPUT ID TIME AMT DV EVID MDV WGT APGR
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
  TVCL = THETA(1)*WGT
  TVV = THETA(2)*WGT
  IF (APGR.LT.5) TVV = TVV*(1 + THETA(3))
  CL = TVCL*EXP(ETA(1))
  V = TVV*EXP(ETA(2))
  S1 = V
$ERROR
  W = F
  Y = F + W*EPS(1)
$THETA (0, 0.0047) ; Clearance [L/h/kg]
  (0, 1) ; Volume [L/kg]
  (-.99, .1) ; apgar
$OMEGA 0.03 0.03
$SIGMA 0.013
$EST METHOD=COND INTER
"""

IOV = """$PROBLEM Warfarin with occasions
$INPUT ID TIME DV EVID AMT CMT=DROP RATE MDV OCC NARM
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
  KAPPA = ETA(4)
  IF (OCC.EQ.2) KAPPA = ETA(5)
  CL = THETA(1)*EXP(ETA(1) + KAPPA)
  V = THETA(2)*EXP(ETA(2))
  KA = THETA(3)*EXP(ETA(3))
  S2 = V
$ERROR
  IPRED = F
  Y = IPRED*(1 + EPS(1))
$THETA (0, 0.2) (0, 10) (0, 1.5)
$OMEGA 0.09 0.04 0.3
$OMEGA BLOCK(1) 0.01
$OMEGA BLOCK(1) SAME
$SIGMA 0.04
$ESTIMATION METHOD=1 INTERACTION
"""
IOV_WEIGHTED = (
    IOV.replace("KAPPA = ETA(4)\n", "KAPPA = ETA(4)/SQRT(NARM)\n")
    .replace("KAPPA = ETA(5)", "KAPPA = ETA(5)/SQRT(NARM)")
    .replace(" INTERACTION", "")
)

WANG = """$PROBLEM Wang 2007
$INPUT ID TIME EVID MDV AMT DV
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN1 TRANS1
$PK
  K = 0.5*EXP(ETA(1))
  S1 = 1
$ERROR
  IPRED = F
  ERROR
$OMEGA 0.04 FIX
$SIGMA 0.1 FIX
$EST METHOD
"""

BLQ = """$PROBLEM Below the limit of quantification
$INPUT ID TIME AMT RATE EVID MDV CMT DV CENS
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN3 TRANS4
$PK
  MU_1 = THETA(1)
  MU_2 = THETA(2)
  CL = EXP(MU_1 + ETA(1))
  V1 = EXP(MU_2 + ETA(2))
  Q  = EXP(THETA(3) + ETA(3))
  V2 = EXP(THETA(4) + ETA(4))
  S1 = V1
$ERROR
  SD = THETA(5)
  IPRED = LOG(F + 1.0E-30)
  LLOQ = -3.5
  IF (CENS.EQ.0) THEN
    F_FLAG = 0
    Y = IPRED + SD*EPS(1)
  ELSE
    F_FLAG = 1
    Y = PHI((LLOQ - IPRED)/SD)
  ENDIF
$THETA 2 2 2 2 (0, 0.2)
$OMEGA BLOCK(4) VALUES(0.15, 0.01)
$SIGMA 1 FIX
$EST METHOD=COND INTERACTION LAPLACE NUMERICAL SLOW
"""

INFUSION = """$PROBLEM Infusion
$INPUT ID TIME DV AMT RATE WT AGE SEX EVID MDV
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
  LTVCL = THETA(1) + THETA(3)*LOG(WT/70) + THETA(5)*LOG(AGE/50) + THETA(7)*SEX
  LTVV = THETA(2) + THETA(4)*LOG(WT/70) + THETA(6)*LOG(AGE/50) + THETA(8)*SEX
  MU_1 = LTVCL
  MU_2 = LTVV
  CL = EXP(MU_1 + ETA(1))
  V = EXP(MU_2 + ETA(2))
  S1 = V
$ERROR
  Y = F + F*EPS(1)
$THETA 0.7 3 0.8 0.8 -0.1 0.1 0.7 0.7
$OMEGA BLOCK(2) 0.1 0.001 0.1
$SIGMA 0.04
$EST METHOD=1 INTER
"""

WEIBULL = """$PROBLEM Time to event
$INPUT ID TIME DV EVID
$DATA @FILE IGNORE=@
$PRED
  SCALE = EXP(THETA(1))
  SHAPE = EXP(THETA(2)FRAILTY)
  CHZ = (TIME/SCALE)**SHAPE
  HAZ = (SHAPE/SCALE)*(TIME/SCALE)**(SHAPE - 1)
  IF (DV.EQ.0) Y = EXP(-CHZ)
  IF (DV.EQ.1) Y = HAZ*EXP(-CHZ)
$THETA (0.001, 3, 10) (0.001, 0.693, 5)
OMEGAS
$EST METHOD=COND LAPLACE LIKE
"""

DOSING = """$PROBLEM Dosing
$INPUT ID TIME EVID AMT CMT SS II ADDL RATE LAGT MODE DUR2 RAT2 BIOAV DV
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
  CL = THETA(1)*EXP(ETA(1))
  V = 20
  KA = 1.5
  ALAG2 = LAGT
  F2 = BIOAV
  IF (MODE.EQ.2) D2 = DUR2
$ERROR
  CP = A(2)/(V/1000)
  Y = CP + EPS(1)
$THETA (0, 1.1)
$OMEGA 0.1
$SIGMA 1
$EST METHOD=0
"""

VARYING = """$PROBLEM Weight that changes
$INPUT ID TIME EVID AMT CMT SS II ADDL RATE WT CLN=DROP DV
$DATA @FILE IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
  CL = THETA(1)*(WT/70)**0.75*EXP(ETA(1))
  V = 20
  KA = 1.5
$ERROR
  Y = 1000*A(2)/V + EPS(1)
$THETA (0, 1.1)
$OMEGA 0.1
$SIGMA 1
$EST METHOD=0
"""
