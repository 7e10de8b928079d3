"""Registry of materials: what things are made of, and where that is written.

A key names a material everywhere in twinlab (in phantoms, protocols, results). Besides the plain keys of
:func:`names`, two forms are understood by :func:`get`, so that every material has a key that rebuilds it:

``blood+iodine_5mg_ml``
    5 mg of the element iodine in every ml of blood.
``mix(water=0.9,calcium=0.1)`` and ``mix(water=0.9,calcium=0.1)@1.05``
    A mixture by mass fraction, with the density of ideal mixing or the one given in g/cm3 (:func:`mix`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import xraylib
from pydantic import model_validator

from twinlab.schema import Model, load_yaml, refuse

# A published table in whole tenths of a percent may miss 100 % by its own rounding.
_SUM_TOLERANCE = 2e-3
_SOLUTION = re.compile(r"^(?P<base>.+)\+(?P<solute>[A-Za-z_]+?)_(?P<amount>\d+(?:\.\d+)?)mg_ml$")
_MIXTURE = re.compile(r"^mix\((?P<parts>.+)\)(?:@(?P<density>\d+(?:\.\d+)?(?:e-?\d+)?))?$")


class Material(Model):
    """Composition and density of one material.

    Attributes
    ----------
    key, name, source : str
        Registry key, plain name and citation of the numbers.
    density_g_cm3 : float
        Nominal density; a phantom's voxels carry their own.
    composition : dict of str to float
        Mass fraction by element symbol, sum 1.
    """

    key: str
    name: str
    density_g_cm3: float
    composition: dict[str, float]
    source: str

    @model_validator(mode="after")
    def _physical(self) -> Self:
        if not self.density_g_cm3 > 0:
            raise ValueError(f"density_g_cm3 above 0 expected for {self.key!r}")
        if min(self.composition.values(), default=0.0) <= 0:
            raise ValueError(f"mass fractions above 0 expected for {self.key!r}")
        if abs(sum(self.composition.values()) - 1) > 1e-9:
            raise ValueError(f"mass fractions that sum to 1 expected for {self.key!r}")
        return self

    @property
    def elements(self) -> tuple[tuple[int, float], ...]:
        """Pairs (atomic number, mass fraction) by rising atomic number."""
        return tuple(sorted((xraylib.SymbolToAtomicNumber(s), w) for s, w in self.composition.items()))

    @property
    def electrons_mol_per_g(self) -> float:
        """Moles of electrons per gram, ``sum_i w_i Z_i / A_i``."""
        return sum(w * z / xraylib.AtomicWeight(z) for z, w in self.elements)

    @property
    def relative_electron_density(self) -> float:
        """Electrons per volume at the nominal density, relative to water."""
        water = get("water")
        own = self.density_g_cm3 * self.electrons_mol_per_g
        return own / (water.density_g_cm3 * water.electrons_mol_per_g)


def names() -> tuple[str, ...]:
    """Keys of all plain materials, sorted.

    Examples
    --------
    >>> "water" in names()
    True
    """
    return tuple(sorted(_registry()))


def get(key: str | Material) -> Material:
    """Material of a key (a Material is passed through).

    Parameters
    ----------
    key : str or Material
        A key of :func:`names`, ``BASE+ELEMENT_Xmg_ml``, or ``mix(KEY=FRACTION,...)``, ``@DENSITY`` optional.

    Raises
    ------
    InputError
        Unknown key (near matches are listed), or fractions that do not sum to 1.

    Notes
    -----
    A solution's density is that of the base plus the mass of the element, which takes no room of its own.
    Contrast media come close to it: 1 ml of iopromide 370 weighs 1.405 g and holds 0.370 g iodine, that is
    1.1 g per ml more for every g of iodine per ml, its carrier included.

    Examples
    --------
    >>> round(get("blood+iodine_5mg_ml").composition["I"], 5)
    0.00469
    """
    if isinstance(key, Material):
        return key
    return _get(key)


@lru_cache(maxsize=4096)
def _get(key: str) -> Material:
    if not isinstance(key, str):
        refuse("materials.get", "a material key or a Material", f"{type(key).__name__} {key!r}")
    found = _registry().get(key)
    if found is not None:
        return found
    # A mixture first: its parts may be solutions, but a solution's base may be a mixture as well.
    solution = _SOLUTION.match(key)
    if solution:
        return _solution(key, **solution.groupdict())
    mixture = _MIXTURE.match(key)
    if mixture:
        density = float(mixture["density"]) if mixture["density"] else None
        return mix(_parts(key, mixture["parts"]), density_g_cm3=density)
    near = difflib.get_close_matches(key.lower(), names(), n=5, cutoff=0.5)
    near += [name for name in names() if key and key.lower() in name and name not in near][:5]
    hint = f"; near: {', '.join(near)}" if near else ""
    refuse("materials.get", f"a material key (see materials.names()){hint}", repr(key))


def mix(fractions: Mapping[str, float], *, density_g_cm3: float | None = None) -> Material:
    """Mixture by mass fraction.

    Parameters
    ----------
    fractions : mapping of key to float
        Mass fractions, sum 1 within 1e-6.
    density_g_cm3 : float, optional
        Measured density. By default volumes add: ``1/rho = sum_i w_i/rho_i``.

    Returns
    -------
    Material
        Its key rebuilds it: ``get(mix(...).key)`` is the same material.

    Raises
    ------
    InputError
        Unknown key, a fraction not above 0, a sum other than 1, a density not above 0.

    Examples
    --------
    >>> mix({"water": 0.5, "ethanol": 0.5}).key
    'mix(ethanol=0.5,water=0.5)'
    """
    if not fractions or any(not (w > 0) for w in fractions.values()):
        refuse("materials.mix", "mass fractions above 0", dict(fractions))
    total = sum(fractions.values())
    if abs(total - 1) > 1e-6:
        refuse("materials.mix", "mass fractions that sum to 1", f"{total:.7g} from {dict(fractions)}")
    if density_g_cm3 is not None and not density_g_cm3 > 0:
        refuse("materials.mix", "density_g_cm3 above 0", density_g_cm3)
    parts = {part: float(fractions[part]) for part in sorted(fractions)}
    composition: dict[str, float] = {}
    volume = 0.0
    for part, weight in parts.items():
        material = get(part)
        volume += weight / total / material.density_g_cm3
        for symbol, w in material.composition.items():
            composition[symbol] = composition.get(symbol, 0.0) + weight * w
    key = "mix(" + ",".join(f"{part}={weight!r}" for part, weight in parts.items()) + ")"
    if density_g_cm3 is not None:
        key += f"@{float(density_g_cm3)!r}"
    return Material.make(
        {
            "key": key,
            "name": " + ".join(f"{100 * weight:.3g} % {get(part).name}" for part, weight in parts.items()),
            "density_g_cm3": density_g_cm3 if density_g_cm3 is not None else 1 / volume,
            "composition": _normalised(composition, key),
            "source": "mixture by mass of " + "; ".join(f"{part} ({get(part).source})" for part in parts),
        }
    )


def schneider_hu_edges() -> np.ndarray:
    """Lower edges in HU of the segments ``schneider_01`` to ``schneider_24``, ascending; the last is open."""
    return np.array([row["hu_from"] for row in _data("schneider2000")["segments"].values()], dtype=float)


def schneider_density_g_cm3(hu: np.ndarray | float) -> np.ndarray:
    """Mass density of a CT number, g/cm3 (any shape).

    Straight pieces of Schneider et al. (2000), held constant beyond -1000 and 1600 HU. It rests on their
    scanner at 120 kV; the step down at 100 HU, where bone takes over from soft tissue, is theirs.

    References
    ----------
    Schneider, Bortfeld and Schlegel, Phys. Med. Biol. 45:459 (2000), eqs 17 to 21.
    """
    points = np.array(_data("schneider2000")["density_points"], dtype=float)
    return np.interp(np.asarray(hu, dtype=float), points[:, 0], points[:, 1])


@lru_cache(maxsize=8)
def _data(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("twinlab.physics") / "data" / f"{name}.yaml") as path:
        return load_yaml(Path(path))


@lru_cache(maxsize=1)
def _registry() -> dict[str, Material]:
    rows = [*_nist(), *_elements(), *_formulas(), *_tissues(), *_schneider()]
    registry = {row.key: row for row in rows}
    if len(registry) != len(rows):
        seen = [row.key for row in rows]
        refuse("materials data", "each key once", sorted({key for key in seen if seen.count(key) > 1}))
    return registry


def _nist() -> list[Material]:
    out = []
    for key, nist_name in _data("nist_compounds").items():
        data = xraylib.GetCompoundDataNISTByName(nist_name)
        symbols = [xraylib.AtomicNumberToSymbol(z) for z in data["Elements"]]
        source = f"NIST compound data (NISTIR 4999) in xraylib {xraylib.__version__}: {nist_name}"
        fractions = dict(zip(symbols, data["massFractions"], strict=True))
        out.append(_make(key, nist_name, data["density"], fractions, source))
    return out


def _elements() -> list[Material]:
    out = []
    for key, row in _data("elements").items():
        symbol = row["symbol"]
        density = row.get("density_g_cm3", xraylib.ElementDensity(xraylib.SymbolToAtomicNumber(symbol)))
        source = f"element; density: {row.get('reason', f'xraylib {xraylib.__version__}')}"
        out.append(_make(key, key.capitalize(), density, {symbol: 1.0}, source))
    return out


def _formulas() -> list[Material]:
    out = []
    for key, row in _data("formulas").items():
        data = xraylib.CompoundParser(row["formula"])
        symbols = [xraylib.AtomicNumberToSymbol(z) for z in data["Elements"]]
        fractions = dict(zip(symbols, data["massFractions"], strict=True))
        out.append(_make(key, row["name"], row["density_g_cm3"], fractions, row["source"]))
    return out


def _tissues() -> list[Material]:
    data = _data("tissues")
    out = []
    for key, row in data["tissues"].items():
        fractions = {symbol: percent / 100 for symbol, percent in row["mass_percent"].items()}
        source = data["sources"][row["source"]]
        if row["checked"]:
            source += f" (compared with {row['checked']})"
        out.append(_make(key, row["name"], row["density_g_cm3"], fractions, source))
    return out


def _schneider() -> list[Material]:
    data = _data("schneider2000")
    segments = list(data["segments"].items())
    out = []
    for (key, row), upper in zip(segments, [*(r["hu_from"] for _, r in segments[1:]), 1600], strict=True):
        percents = zip(data["elements"], row["mass_percent"], strict=True)
        fractions = {symbol: percent / 100 for symbol, percent in percents if percent}
        middle = 0.5 * (row["hu_from"] + upper)
        # Segment 1 is air: its density is air's, not the line's value half way to lung.
        hu = -1000 if key == "schneider_01" else middle
        name = f"Schneider segment {key[-2:]}, {row['hu_from']} to {upper} HU"
        out.append(_make(key, name, float(schneider_density_g_cm3(hu)), fractions, data["source"]))
    return out


def _make(key: str, name: str, density: float, fractions: Mapping[str, float], source: str) -> Material:
    composition = _normalised(fractions, key)
    row = {"key": key, "name": name, "density_g_cm3": density, "composition": composition, "source": source}
    return Material.make(row, where=f"material {key}")


def _normalised(fractions: Mapping[str, float], key: str) -> dict[str, float]:
    total = sum(fractions.values())
    if abs(total - 1) > _SUM_TOLERANCE:
        refuse(f"material {key}", "mass fractions that sum to 1", f"{total:.6g}")
    return {symbol: w / total for symbol, w in fractions.items()}


def _solution(key: str, *, base: str, solute: str, amount: str) -> Material:
    elements = {row["symbol"].lower(): row["symbol"] for row in _data("elements").values()}
    elements |= {name: row["symbol"] for name, row in _data("elements").items()}
    if solute.lower() not in elements:
        refuse(f"material {key!r}", f"an element after '+' ({', '.join(_data('elements'))})", repr(solute))
    solvent = get(base)
    added = float(amount) * 1e-3
    density = solvent.density_g_cm3 + added
    composition = {symbol: w * solvent.density_g_cm3 / density for symbol, w in solvent.composition.items()}
    symbol = elements[solute.lower()]
    if added > 0:
        composition[symbol] = composition.get(symbol, 0.0) + added / density
    name = f"{solvent.name} with {float(amount):g} mg/ml {symbol}"
    return _make(key, name, density, composition, f"{solvent.source}; element added without volume")


def _parts(key: str, text: str) -> dict[str, float]:
    """Split ``a=0.1,mix(b=0.5,c=0.5)=0.9`` at the commas outside brackets."""
    parts: dict[str, float] = {}
    depth, start = 0, 0
    for i, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            name, _, weight = text[start:i].rpartition("=")
            try:
                parts[name.strip()] = float(weight)
            except ValueError:
                refuse(f"material {key!r}", "mix(KEY=FRACTION,...)", repr(text[start:i]))
            start = i + 1
    return parts
