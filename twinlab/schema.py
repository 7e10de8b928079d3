"""Labels and checks of registered variables; the base model; errors that say what was expected.

The registry (:mod:`twinlab.variables`) is the contract between the rooms: entry points check what they are
given with :func:`check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args, get_origin

import numpy as np
import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from twinlab.variables import COORDINATES, VARIABLES


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
    items = error.errors()
    places = [item["loc"] for item in items]
    for item in items:
        place = item["loc"]
        if any(other != place and other[: len(place)] == place for other in places):
            continue  # says only that something inside is wrong, which has an item of its own
        field = ".".join(str(p) for p in place) or model.__name__
        context = item.get("ctx", {})
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, place[:-1])
            parts.append(
                f"{field}: expected one of {', '.join(known) or 'the known keys'}; got an unknown key"
            )
        elif item["type"] == "missing":
            parts.append(f"{field}: expected a value; got none")
        elif item["type"] == "union_tag_not_found":
            keys = ", ".join(map(str, item["input"])) if isinstance(item["input"], Mapping) else item["input"]
            parts.append(f"{field}: expected a key {context['discriminator']}; got {keys}"[:400])
        elif item["type"] == "union_tag_invalid":
            expected = context["expected_tags"].replace("'", "")
            name = str(context["discriminator"]).strip("'")
            parts.append(f"{field}.{name}: expected one of {expected}; got {context['tag']!r}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            # A whole mapping is no help in one line: rules over several fields say what came themselves.
            got = "" if isinstance(item["input"], (Mapping, BaseModel)) else f"; got {item['input']!r}"
            parts.append(f"{field}: {message}{got}"[:400])
    return f"{where}: " + "; ".join(parts)


def _known_keys(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Keys of the model at a place of a validation error: fields, indices and tags of unions lead there."""
    models = [model]
    for part in place:
        inner = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        tagged = [m for m in models if part in _tags(m)]
        models = [found for annotation in inner for found in _models_in(annotation)] or tagged or models
    return list(dict.fromkeys(key for found in models for key in found.model_fields))


def _tags(model: type[BaseModel]) -> set[Any]:
    """What names a model in a union: its own name, or the values that a field of it is bound to."""
    bound = (
        get_args(f.annotation) for f in model.model_fields.values() if get_origin(f.annotation) is Literal
    )
    return {model.__name__}.union(*bound)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
