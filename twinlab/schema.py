"""Names, dims and units of every labelled variable; the base model; errors that say what was expected.

The registry is the contract between the rooms: a variable that crosses a public function is listed here,
and entry points check what they are given with :func:`check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class InputError(ValueError):
    """Input that cannot be used: says where, what was expected and what came."""


def refuse(where: str, expected: str, got: object) -> NoReturn:
    """Raise :class:`InputError` in the one form that all errors have.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(f"{where}: expected {expected}; got {got}")


@dataclass(frozen=True)
class Variable:
    """One labelled quantity: dims, units and meaning."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str


def _registry() -> dict[str, Variable]:
    rows = [
        # phantom
        ("material", "z y x", "1", "index into material_name"),
        ("density", "z y x", "g cm-3", "mass density"),
        ("organ", "z y x", "1", "organ label, an organ_id"),
        ("material_name", "material_id", "1", "name of the material in the physics registry"),
        ("organ_name", "organ_id", "1", "name of the organ"),
        (
            "water_equivalent_diameter",
            "z",
            "mm",
            "diameter of the water cylinder that attenuates like the slice",
        ),
        # attenuation
        ("photoelectric", "energy", "cm2 g-1", "photoelectric mass attenuation coefficient"),
        ("rayleigh", "energy", "cm2 g-1", "coherent scattering mass attenuation coefficient"),
        ("incoherent", "energy", "cm2 g-1", "incoherent scattering mass attenuation coefficient"),
        ("total", "energy", "cm2 g-1", "mass attenuation coefficient with coherent scattering"),
        ("mu_en", "energy", "cm2 g-1", "mass energy-absorption coefficient"),
        # spectra and beam
        ("fluence", "energy", "mm-2 mAs-1", "photon fluence per energy bin at 1 m from the focal spot"),
        ("beam_fluence", "fan_angle energy", "mm-2 mAs-1", "fluence at 1 m behind filters and bowtie"),
        ("photons", "channel energy", "1", "mean photons that meet a detector cell in one view, no object"),
        ("solid_angle", "row channel", "sr", "solid angle of a detector cell at the focal spot"),
        # acquisition
        ("view_angle", "view", "rad", "gantry angle; 0 = tube anterior, grows towards the patient's left"),
        ("source_z", "view", "mm", "table position of the focal spot"),
        ("path", "basis view row channel", "g cm-2", "line integral of a basis density"),
        ("row_lo", "view", "1", "first detector row that was computed"),
        ("row_hi", "view", "1", "end (exclusive) of the detector rows that were computed"),
        ("basis_mu", "basis energy", "cm2 g-1", "mass attenuation of a basis function"),
        (
            "mixing",
            "basis mixed_material",
            "1",
            "makes basis_mu at any energy from the materials' mass attenuation",
        ),
        ("signal", "view row channel", "keV mAs-1", "mean absorbed energy of a reading per mAs of the view"),
        (
            "signal_variance",
            "view row channel",
            "keV2 mAs-1",
            "quantum variance of a reading per mAs of the view",
        ),
        ("air_signal", "row channel", "keV mAs-1", "mean absorbed energy of a reading without an object"),
        (
            "water_polynomial",
            "channel power",
            "1",
            "water correction: projection = raw * sum_i c_i (raw/raw_max)^i",
        ),
        (
            "projection",
            "view row channel",
            "1",
            "water-corrected line integral (-log of the air-normalised signal)",
        ),
        ("variance", "view row channel", "1", "variance of projection"),
        # image
        ("hu", "z y x", "HU", "CT number"),
        # dose
        ("dose", "z y x", "mGy", "absorbed dose"),
        ("dose_sd", "z y x", "mGy", "standard uncertainty of dose"),
        ("organ_dose", "organ_id", "mGy", "mean absorbed dose of the organ"),
        ("organ_dose_sd", "organ_id", "mGy", "standard uncertainty of organ_dose (statistical)"),
        ("organ_mass", "organ_id", "g", "mass of the organ inside the phantom"),
        ("organ_coverage", "organ_id", "1", "share of the organ's mass inside the imaged range"),
        (
            "organ_cut",
            "organ_id",
            "1",
            "whether the organ reaches the end of the phantom and may be incomplete",
        ),
        ("ctdi100_centre", "", "mGy", "CTDI100 at the centre per 100 mAs"),
        (
            "ctdi100_periphery",
            "",
            "mGy",
            "CTDI100 10 mm below the surface per 100 mAs, mean over the circumference",
        ),
        ("ctdi_w", "", "mGy", "weighted CTDI per 100 mAs"),
        ("ctdi100_centre_sd", "", "mGy", "standard uncertainty of ctdi100_centre (statistical)"),
        ("ctdi100_periphery_sd", "", "mGy", "standard uncertainty of ctdi100_periphery (statistical)"),
        ("ctdi_w_sd", "", "mGy", "standard uncertainty of ctdi_w (statistical)"),
        ("ctdi_w_published", "", "mGy", "published weighted CTDI per 100 mAs"),
        ("output_factor", "", "1", "published over simulated ctdi_w"),
        ("output_factor_sd", "", "1", "standard uncertainty of output_factor (statistical)"),
        # quality
        ("nps", "fy fx", "HU2 mm2", "noise power spectrum"),
        ("nps_radial", "frequency", "HU2 mm2", "radially averaged noise power spectrum"),
        ("dprime", "", "1", "detectability index"),
    ]
    return {name: Variable(name, tuple(dims.split()), units, meaning) for name, dims, units, meaning in rows}


VARIABLES: Mapping[str, Variable] = _registry()

COORDINATES: Mapping[str, tuple[str, str]] = {
    "x": ("mm", "voxel centre, to the patient's left"),
    "y": ("mm", "voxel centre, to posterior"),
    "z": ("mm", "voxel centre, to the head"),
    "energy": ("keV", "bin centre"),
    "fan_angle": ("rad", "angle from the central ray in the plane of rotation"),
    "row": ("mm", "detector row centre, along z, at the detector"),
    "frequency": ("mm-1", "radial spatial frequency"),
    "fx": ("mm-1", "spatial frequency along x"),
    "fy": ("mm-1", "spatial frequency along y"),
}


def label(
    name: str,
    values: Any,
    coords: Mapping[str, Any] | None = None,
    *,
    dims: Sequence[str] | None = None,
    **attrs: Any,
) -> xr.DataArray:
    """DataArray of a registered variable with its units and long name.

    Parameters
    ----------
    name : str
        A key of :data:`VARIABLES`.
    values : array_like
        Shape as the dims of the registry, or as ``dims`` (registered dims behind extra leading ones).
    coords : mapping, optional
        Coordinates; those in :data:`COORDINATES` get their units.
    dims : sequence of str, optional
        When the array has further leading dims (a study's grid); the registered dims must come last.
    **attrs
        Further attributes.

    Raises
    ------
    InputError
        Unknown name, or dims that do not end with the registered ones.

    Examples
    --------
    >>> label("source_z", [0.0, 1.0]).attrs["units"]
    'mm'
    """
    if name not in VARIABLES:
        refuse("label", f"a registered variable ({', '.join(sorted(VARIABLES))})", repr(name))
    var = VARIABLES[name]
    dims = tuple(dims) if dims is not None else var.dims
    if dims[len(dims) - len(var.dims) :] != var.dims:
        refuse(f"label({name})", f"dims ending with {var.dims}", dims)
    array = xr.DataArray(
        values,
        dims=dims,
        coords=coords,
        name=name,
        attrs={"units": var.units, "long_name": var.long_name, **attrs},
    )
    for coord in array.coords:
        if coord in COORDINATES:
            units, meaning = COORDINATES[str(coord)]
            array[coord].attrs.update(units=units, long_name=meaning)
    return array


def check(data: xr.Dataset | xr.DataArray, *names: str, where: str) -> None:
    """Check that registered variables are present with their dims and units.

    Parameters
    ----------
    data : Dataset or DataArray
        For a DataArray, exactly one name, the variable that it must be.
    *names : str
        Registered variables.
    where : str
        Name of the caller, for the error.

    Raises
    ------
    InputError
        A variable is missing, or has other dims or units than registered.
    """
    for name in names:
        var = VARIABLES[name]
        if isinstance(data, xr.DataArray):
            array = data
        elif name in data:
            array = data[name]
        else:
            refuse(
                where,
                f"a variable {name!r} ({var.long_name} [{var.units}])",
                f"variables {sorted(map(str, data))}",
            )
        if tuple(array.dims)[array.ndim - len(var.dims) :] != var.dims:
            refuse(where, f"{name} with dims {var.dims}", f"dims {array.dims}")
        if array.attrs.get("units") != var.units:
            refuse(where, f"{name} in units {var.units!r}", f"units {array.attrs.get('units')!r}")


def spacing(coord: xr.DataArray, *, where: str = "spacing") -> float:
    """Step of an even, ascending coordinate in its own unit.

    Raises
    ------
    InputError
        The coordinate is uneven by more than 0.1 % of a step, descending, or has one point only.
    """
    values = np.asarray(coord, dtype=float)
    if values.size < 2:
        refuse(where, f"coordinate {coord.name!r} with two points or more", f"{values.size}")
    steps = np.diff(values)
    step = float(values[-1] - values[0]) / (values.size - 1)
    if step <= 0 or np.abs(steps - step).max() > 1e-3 * abs(step):
        refuse(
            where,
            f"coordinate {coord.name!r} even and ascending",
            f"steps {steps.min():g} to {steps.max():g}",
        )
    return step


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: ``1e-3`` is a number, and a key written twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise InputError(f"{loader.name}, line {line}: expected each key once; got {key!r} again")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping; ``1e-3`` is a number.

    Raises
    ------
    InputError
        The file is missing, is not YAML, repeats a key, or holds no mapping.
    """
    path = Path(path)
    if not path.is_file():
        refuse("load_yaml", "a YAML file", f"no file {path}")
    with path.open(encoding="utf-8") as stream:
        try:
            data = yaml.load(stream, Loader=_Loader)
        except yaml.YAMLError as error:
            raise InputError(f"{path}: expected YAML; got {str(error).replace(chr(10), ' ')}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        refuse(str(path), "a YAML mapping of names to values", type(data).__name__)
    return data


class Model(BaseModel):
    """Base of all validated inputs: frozen, unknown keys refused, errors in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def make(cls, data: Mapping[str, Any], *, where: str | None = None) -> Self:
        """Validate a mapping.

        Raises
        ------
        InputError
            One line that names every wrong field, what was expected and what came.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise InputError(_one_line(error, cls, where or cls.__name__)) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Validate a YAML file (see :func:`load_yaml`)."""
        return cls.make(load_yaml(path), where=str(path))


def _one_line(error: ValidationError, model: type[BaseModel], where: str) -> str:
    parts = []
    for item in error.errors():
        field = ".".join(str(p) for p in item["loc"]) or model.__name__
        if item["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) if len(item["loc"]) == 1 else "a known key"
            parts.append(f"{field}: expected one of {known}; got an unknown key")
        elif item["type"] == "missing":
            parts.append(f"{field}: expected a value; got none")
        else:
            message = item["msg"].removeprefix("Value error, ")
            # A whole mapping is no help in one line: rules over several fields say what came themselves.
            got = "" if isinstance(item["input"], (Mapping, BaseModel)) else f"; got {item['input']!r}"
            parts.append(f"{field}: {message}{got}"[:400])
    return f"{where}: " + "; ".join(parts)
