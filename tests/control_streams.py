"""A small control stream with its data, written for these tests, and its import without evaluation."""

from __future__ import annotations

from pathlib import Path

import nlme

DATA = """ID,TIME,AMT,DV,EVID,MDV,WT,OCC,DVID,NOTE
1,0,100,.,1,1,70,1,0,5
1,1,.,5.0,0,0,70,1,1,5
1,2,.,4.0,0,0,70,1,2,5
1,24,100,.,1,1,70,2,0,6
1,25,.,6.0,0,0,70,2,1,6
2,0,100,.,1,1,80,1,0,5
2,1,.,5.5,0,0,80,1,1,5
2,2,.,3.0,0,0,80,2,2,6
"""
HEAD = """$PROBLEM A drug
$INPUT ID TIME AMT DV EVID MDV WT OCC DVID NOTE
$DATA data.csv IGNORE=@
"""
ONE = (
    HEAD
    + """$SUBROUTINES ADVAN1 TRANS2
$PK
  TVCL = THETA(1)*(WT/70)**0.75
  CL = TVCL*EXP(ETA(1))
  V = THETA(2)
  S1 = V
$ERROR
  IPRED = F
  Y = IPRED*(1 + EPS(1)) + EPS(2)
$THETA (0, 2) ; CL [L/h]
  (0, 20) ; Volume of distribution (L)
$OMEGA 0.1
$SIGMA 0.04 1 FIX
$EST METHOD=1 INTER
"""
)


def imported(folder: Path, stream: str, data: str = DATA):
    (folder / "data.csv").write_text(data)
    (folder / "run.mod").write_text(stream)
    return nlme.from_nonmem(folder / "run.mod", evaluate=False)
