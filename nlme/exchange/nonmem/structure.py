"""ADVAN and TRANS: which structure of ``nlme.pk`` a subroutine is, from which parameters.

| ADVAN | states                                | TRANS |
|-------|---------------------------------------|-------|
| 1, 2  | (depot) central                       | 1: K (KA); 2: CL V (KA) |
| 3, 4  | (depot) central peripheral            | 1: K K12 K21 or K K23 K32; 3: CL V Q VSS; 4: CL V1 Q V2 or CL V2 Q V3;  |
|       |                                       | 5: AOB ALPHA BETA; 6: ALPHA BETA K21 |
| 11, 12| (depot) central peripheral1, 2        | 1: K K12 K21 K13 K31; 4: CL V1 Q2 V2 Q3 V3; 6: ALPHA BETA GAMMA K21 K31 |
| 5, 7  | those of $MODEL                       | 1: Kij and KiTj |
| 10    | central                               | 1: VM KM |
| 6, 8, 9, 13, 14, 15 | those of $MODEL           | $DES |

Source: NONMEM Users Guide Part VI (PREDPP), chapter VII, for the definitions of the TRANS parameters.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from nlme.exchange.nonmem.records import Record, of_name, option

GENERAL = (6, 8, 9, 13, 14, 15, 16, 18)
_CLOSED = {1: ("central",), 2: ("depot", "central"), 3: ("central", "peripheral"), 4: ("depot", "central", "peripheral"),
           10: ("central",), 11: ("central", "peripheral1", "peripheral2"),
           12: ("depot", "central", "peripheral1", "peripheral2")}  # fmt: skip
_NAMES = {1: "OneCompartment", 2: "OneCompartmentOral", 3: "TwoCompartment", 4: "TwoCompartmentOral", 11: "ThreeCompartment",
          12: "ThreeCompartmentOral"}  # fmt: skip
_DEFAULT_TRANS = 1

#: (ADVAN, TRANS) -> argument of the structure: what it is in NONMEM's parameters
_FORMS = {
    (1, 1): {"cl": "K", "v": "1.0"},
    (1, 2): {"cl": "CL", "v": "V"},
    (3, 1): {"cl": "K", "v1": "1.0", "q": "K12", "v2": "K12 / K21"},
    (3, 3): {"cl": "CL", "v1": "V", "q": "Q", "v2": "VSS - V"},
    (3, 4): {"cl": "CL", "v1": "V1", "q": "Q", "v2": "V2"},
    (4, 1): {"cl": "K", "v1": "1.0", "q": "K23", "v2": "K23 / K32"},
    (4, 3): {"cl": "CL", "v1": "V", "q": "Q", "v2": "VSS - V"},
    (4, 4): {"cl": "CL", "v1": "V2", "q": "Q", "v2": "V3"},
    (11, 1): {"cl": "K", "v1": "1.0", "q2": "K12", "v2": "K12 / K21", "q3": "K13", "v3": "K13 / K31"},
    (11, 4): {"cl": "CL", "v1": "V1", "q2": "Q2", "v2": "V2", "q3": "Q3", "v3": "V3"},
    (12, 1): {"cl": "K", "v1": "1.0", "q2": "K23", "v2": "K23 / K32", "q3": "K24", "v3": "K24 / K42"},
    (12, 4): {"cl": "CL", "v1": "V2", "q2": "Q3", "v2": "V3", "q3": "Q4", "v3": "V4"},
}
_FORMS[2, 1], _FORMS[2, 2] = _FORMS[1, 1], _FORMS[1, 2]
for _advan, _k21 in ((3, "K21"), (4, "K32")):
    # k21 from A/B: with unit dose the coefficients are A = (alpha - k21)/(alpha - beta), B = (k21 - beta)/(alpha - beta)
    _back = "(AOB * BETA + ALPHA) / (AOB + 1)"
    for _trans, _k in ((5, _back), (6, _k21)):
        _out = f"ALPHA * BETA / ({_k})"
        _q = f"ALPHA + BETA - ({_k}) - {_out}"
        _FORMS[_advan, _trans] = {"cl": _out, "v1": "1.0", "q": _q, "v2": f"({_q}) / ({_k})"}


@dataclass(frozen=True)
class Compartments:
    """The states of a model and where doses and observations go by default (numbers from 1; 0: there is no system)."""

    advan: int
    trans: int
    states: tuple[str, ...]
    dose: int
    observed: int
    declared: tuple[str, ...] = ()  # the names that $MODEL gives

    def number(self, state: str) -> int:
        return self.states.index(state) + 1

    @property
    def word(self) -> str:
        return _NAMES.get(self.advan, "ODE")

    @property
    def absorbed(self) -> bool:
        return self.advan in (2, 4, 12)

    def form(self, record: Record) -> dict[str, str]:
        """Arguments of the closed form, in NONMEM's parameters.

        Raises
        ------
        ModelError
            A TRANS that this ADVAN does not have, or that is not imported.
        """
        found = _FORMS.get((self.advan, self.trans))
        if found is None:
            raise record.refuse(f"ADVAN{self.advan} with TRANS{self.trans} is not imported.")
        return found | ({"ka": "KA"} if self.absorbed else {})


@dataclass(frozen=True)
class Subroutine:
    """A closed form as a subroutine: ``parameters`` are argument of the structure -> what TRANS calls it."""

    advan: int
    trans: int
    parameters: dict[str, str]


def subroutine_of(structure: str, arguments: tuple[str, ...]) -> Subroutine | None:
    """The subroutine that is a structure of ``nlme.pk`` by its name; None where there is none."""
    for advan, word in _NAMES.items():
        if word == structure:
            trans = 2 if advan <= 2 else 4
            form = _FORMS[advan, trans] | ({"ka": "KA"} if "Oral" in word else {})
            return Subroutine(advan, trans, form) if set(form) == set(arguments) else None
    return None


NONE = Compartments(0, 0, (), 0, 0)


def compartments_of(records: list[Record]) -> Compartments:
    """From $SUBROUTINES and $MODEL.

    Raises
    ------
    ModelError
        A subroutine of the user's own, an unknown ADVAN, a $MODEL that is missing or has no compartment.
    """
    found = of_name(records, "SUBROUTINES")
    if not found:
        return NONE
    text = " ".join(r.text for r in found).upper()
    own = option(text, "OTHER", "PK", "ERROR", "PRED", "DES", "INFN", "CONTR", "CCONTR", "MIX")
    if own is not None:
        raise found[0].refuse(f"a subroutine of the user's own ({own}) is not imported.")
    advan = re.search(r"ADVAN\s*=?\s*(?:ADVAN)?(\d+)", text)
    trans = re.search(r"TRANS\s*=?\s*(?:TRANS)?(\d+)", text)
    if advan is None:
        raise found[0].refuse("there is no ADVAN.")
    number, way = int(advan[1]), int(trans[1]) if trans else _DEFAULT_TRANS
    if number in _CLOSED:
        states = _CLOSED[number]
        observed = states.index("central") + 1
        return Compartments(number, way, states, 1, observed)
    if number not in (*GENERAL, 5, 7) or number in (9, 15) and of_name(records, "AES") or number in (16, 18):
        raise found[0].refuse(f"ADVAN{number} is not imported.")
    return _declared(records, number, way)


_COMPARTMENT = re.compile(r"\bCOMP(?:[A-Z]*)\b(?:\s*=?\s*\(([^)]*)\)|\s*=\s*([A-Za-z_]\w*)|(?=\s|$))", re.IGNORECASE)
_ATTRIBUTES = ("INITIALOFF", "NOOFF", "NODOSE", "EQUILIBRIUM", "EXCLUDE", "DEFOBSERVATION", "DEFDOSE")


def _attribute(word: str, least: int = 6) -> str:
    """The attribute of a compartment that a word of at least so many letters abbreviates (DEFDOS, DEFOBS), "" if it is a name."""
    meant = [a for a in _ATTRIBUTES if word.upper() == a or len(word) >= least and a.startswith(word.upper())]
    return meant[0] if len(meant) == 1 else ""


def _declared(records: list[Record], advan: int, trans: int) -> Compartments:
    models = of_name(records, "MODEL")
    if not models:
        raise of_name(records, "SUBROUTINES")[0].refuse(f"ADVAN{advan} without $MODEL.")
    text = " ".join(r.text for r in models)
    count = option(text, "NCOMPARTMENTS", "NCOMPS", "NCOMP", "NCM")
    names, dose, observed, undosed = [], 0, 0, set()
    for match in _COMPARTMENT.finditer(text):
        words = [w.strip("\"'") for w in re.split(r"[\s,]+", (match[1] or match[2] or "").strip()) if w]
        attributes = [_attribute(w, 3 if k else 6) for k, w in enumerate(words)]
        names.append(words[0] if words and not attributes[0] else f"comp{len(names) + 1}")
        if unknown := [w for k, (w, a) in enumerate(zip(words, attributes, strict=True)) if k and not a]:
            raise models[0].refuse(f"{unknown[0]}, of the compartment {words[0]}, is no attribute: {', '.join(_ATTRIBUTES)}.")
        for refused in ("INITIALOFF", "EQUILIBRIUM"):
            if refused in attributes:
                raise models[0].refuse(f"the compartment {words[0]} is {refused}, which is not imported.")
        dose = len(names) if "DEFDOSE" in attributes else dose
        observed = len(names) if "DEFOBSERVATION" in attributes else observed
        undosed |= {len(names)} if "NODOSE" in attributes else set()
    left = re.sub(r"\b(N\w+)\s*=\s*\d+", " ", _COMPARTMENT.sub(" ", text), flags=re.IGNORECASE).replace(",", " ").split()
    if left:
        raise models[0].refuse(f"{' '.join(left)} is not imported.")
    if count is not None and count.isdigit():
        names += [f"comp{k}" for k in range(len(names) + 1, int(count) + 1)]
    if not names:
        raise models[0].refuse("no compartment is declared.")
    upper = [n.upper() for n in names]
    free = [k for k in range(1, len(names) + 1) if k not in undosed] or [1]
    dose = dose or next((k for k in free if upper[k - 1] == "DEPOT"), free[0])
    observed = observed or (upper.index("CENTRAL") + 1 if "CENTRAL" in upper else 1)
    states = []
    for name in names:
        plain = re.sub(r"\W", "_", name.lower())
        plain = plain if re.match(r"[a-z]", plain) else f"c{plain}"
        plain = f"{plain}_" if keyword.iskeyword(plain) else plain
        states.append(plain if plain not in states else f"{plain}{len(states) + 1}")
    return Compartments(advan, trans, tuple(states), dose, observed, tuple(names))


def flows_of(names: set[str], n: int) -> dict[str, tuple[int, int]]:
    """Of ADVAN5 and 7: name of a rate constant -> (from, to), to = 0 for out of the system."""
    found = {}
    for name in sorted(names):
        match = re.fullmatch(r"K(\d)(\d)|K(\d+)T(\d+)", name)
        if match:
            come, go = int(match[1] or match[3]), int(match[2] or match[4])
            found[name] = come, 0 if go in (0, n + 1) else go
    return found
