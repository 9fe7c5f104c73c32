"""Units of what an analysis gives, from those of time, concentration and dose.

A dose in mg and concentrations in ng/mL give volumes in L and clearances in L/h: amounts and volumes of the metric system are
converted, and a dose per kg stays per kg.  Other units are put together as they are (mg/(IU/mL)), without a conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nlme.errors import DataError, name_error

_PREFIX = {"k": 1e3, "": 1.0, "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_SIGNS = str.maketrans({"µ": "u", "μ": "u", " ": ""})
_WORDS = {"mcg": "ug", "gram": "g", "liter": "l", "litre": "l"}
KNOWN = ("time", "conc", "dose")


@dataclass(frozen=True)
class Units:
    """Units of time, concentration and dose; "" where they are not known."""

    time: str = ""
    conc: str = ""
    dose: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str] | None, endpoint: str) -> Units:
        """From ``{"time": "h", "conc": "mg/L", "dose": "mg"}``; the concentration also by the endpoint's name.

        Raises
        ------
        DataError
            No dict, or a unit of something else.
        """
        if given is not None and not isinstance(given, Mapping):
            raise DataError(f'units=: a dict, {{"time": "h", "conc": "mg/L", "dose": "mg"}}; got {given!r}.')
        given = dict(given or {})
        if endpoint in given and endpoint not in KNOWN:
            given["conc"] = given.pop(endpoint)
        for name in given:
            if name not in KNOWN:
                raise DataError("units=: " + name_error("quantity", str(name), [*KNOWN, endpoint], "nlme.nca"))
        return cls(**{name: str(unit).strip() for name, unit in given.items()})

    @property
    def _volume(self) -> tuple[str, float]:
        """Unit of a volume of distribution, and what dose / concentration is multiplied by to be in it."""
        if not (self.dose and self.conc):
            return "", 1.0
        dose, _, per = self.dose.partition("/")
        amount, _, volume = self.conc.partition("/")
        scales = [_scale(dose, ("g", "mol")), _scale(amount, ("g", "mol")), _scale(volume, ("l",))]
        if None in scales or scales[0][0] != scales[1][0]:
            return f"{self.dose}/({self.conc})", 1.0
        return ("L" + (f"/{per}" if per else "")), scales[0][1] / scales[1][1] * scales[2][1]

    @property
    def factor(self) -> float:
        """What a dose divided by a concentration is multiplied by."""
        return self._volume[1]

    def unit(self, kind: str) -> str:
        """Unit of a kind of quantity; "" where it is not known or there is none."""
        time, conc, (volume, _) = self.time, self.conc, self._volume
        litres, _, per = volume.partition("/")
        known = {
            "time": time,
            "rate": time and f"1/{time}",
            "conc": conc,
            "dose": self.dose,
            "auc": conc and time and f"{time}·{conc}",
            "aumc": conc and time and f"{time}²·{conc}",
            "conc/dose": conc and self.dose and f"{conc} per {self.dose}",
            "auc/dose": conc and self.dose and time and f"{time}·{conc} per {self.dose}",
            "volume": volume,
            "clearance": volume and time and (f"{volume}/{time}" if "(" in volume or not per else f"{litres}/{time}/{per}"),
            "%": "%",
        }
        return known.get(kind, "")


def _scale(unit: str, bases: tuple[str, ...]) -> tuple[str, float] | None:
    """('g', 1e-3) of mg; None for what is none of the bases with a metric prefix."""
    text = unit.translate(_SIGNS).casefold()
    text = _WORDS.get(text, text)
    for base in bases:
        head, tail = text[: -len(base)], text[-len(base) :]
        if tail == base and head in _PREFIX:
            return base, _PREFIX[head]
    return None
