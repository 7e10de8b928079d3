"""Recipes: phantoms written down as YAML, painted from analytic solids or made from a sample patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import xarray as xr
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from twinlab.kernels import solids as kernel
from twinlab.phantom.build import AIR_DENSITY_G_CM3, BODY, OUTSIDE, RESERVED_ORGANS, assemble
from twinlab.phantom.paint import paint
from twinlab.phantom.shapes import Point, Shape
from twinlab.schema import InputError, Model, load_yaml, refuse


class Recipe(Model):
    """Analytic phantom: a grid in air, and solids painted on it in their order (later over earlier).

    Solids whose ``organ`` is not given belong to the organ ``body``.
    """

    kind: Literal["shapes"] = "shapes"
    name: str
    title: str
    source: str
    spacing_mm: Point
    size_mm: Point
    subsamples: PositiveInt = 4
    shapes: tuple[Shape, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.spacing_mm.array.min() <= 0 or (self.size_mm.array < self.spacing_mm.array).any():
            raise ValueError("expected spacing_mm above 0 and size_mm of one voxel or more")
        names = [s.name for s in self.shapes]
        if len(set(names)) != len(names):
            raise ValueError(
                f"expected each shape name once, got {sorted({n for n in names if names.count(n) > 1})}"
            )
        return self

    def density_of(self, shape: Shape) -> float:
        """Density of a solid [g/cm3]: as written, else that of its material."""
        if shape.density_g_cm3 is not None:
            return shape.density_g_cm3
        return _material_density(shape.material, where=f"recipe {self.name!r}, shape {shape.name!r}")

    def path_lengths(self, origin_mm: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Exact length of rays in each solid as painted (what a later solid covers, an earlier one loses).

        Parameters
        ----------
        origin_mm, direction : ndarray, shape (n, 3), order x, y, z
            ``direction`` of unit length.

        Returns
        -------
        ndarray, shape (n_shapes, n), units mm
        """
        return kernel.painted(kernel.solids([s.form() for s in self.shapes]), origin_mm, direction)


class PatientRecipe(Model):
    """Phantom from a sample patient's CT."""

    kind: Literal["patient"]
    name: str
    title: str
    source: str
    sample: str
    form: Literal["nifti", "dicom"] = "nifti"
    kv: PositiveFloat = 120.0
    spacing_mm: Point | None = None


def _folders() -> list[Path]:
    package = Path(__file__).resolve().parents[1]
    return [Path.cwd() / "phantoms", package.parent / "phantoms", package / "_phantoms"]


def list_recipes() -> list[str]:
    """Names that :func:`load_recipe` knows without a path."""
    return sorted({p.stem for folder in _folders() if folder.is_dir() for p in folder.glob("*.yaml")})


def load_recipe(name_or_path: str | Path) -> Recipe | PatientRecipe:
    """Read a recipe by name (``phantoms/NAME.yaml``) or path.

    Raises
    ------
    InputError
        No such recipe, or a field of it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        found = [f / f"{name_or_path}.yaml" for f in _folders() if (f / f"{name_or_path}.yaml").is_file()]
        if not found:
            known = ", ".join(list_recipes())
            refuse("load_recipe", f"a recipe ({known}) or the path of a YAML file", repr(str(name_or_path)))
        path = found[0]
    data = load_yaml(path)
    model = PatientRecipe if data.get("kind") == "patient" else Recipe
    return model.make(data, where=str(path))


def from_recipe(
    name_or_path: str | Path | Recipe | PatientRecipe,
    *,
    spacing_mm: float | Sequence[float] | None = None,
    partial_volume: bool = True,
) -> xr.Dataset:
    """Phantom from a recipe.

    Parameters
    ----------
    name_or_path : str, path or recipe
        See :func:`load_recipe`.
    spacing_mm : float or (z, y, x), optional
        Voxel size instead of the recipe's.
    partial_volume : bool
        Voxels cut by a surface get the mean density of ``subsamples``**3 points, the material of the
        largest mass and the organ of the largest volume; otherwise they are what their centre is.

    Returns
    -------
    Dataset
        A Phantom (``material``, ``density``, ``organ``, dims z, y, x), centred on the recipe's origin.

    Raises
    ------
    InputError
        No such recipe, a wrong field, an unknown material, or a spacing that is not positive.
    """
    recipe = name_or_path if isinstance(name_or_path, Recipe | PatientRecipe) else load_recipe(name_or_path)
    where = f"from_recipe({recipe.name})"
    steps = None if spacing_mm is None else _three(spacing_mm, where)
    if isinstance(recipe, PatientRecipe):
        return _patient(recipe, steps)
    if steps is None:
        steps = (recipe.spacing_mm.z, recipe.spacing_mm.y, recipe.spacing_mm.x)
    size = (recipe.size_mm.z, recipe.size_mm.y, recipe.size_mm.x)
    counts = [max(1, int(np.ceil(extent / step - 1e-9))) for extent, step in zip(size, steps, strict=True)]
    z, y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(counts, steps, strict=True))
    names, organs, owner = _tables(recipe, where)
    densities = np.array([AIR_DENSITY_G_CM3] + [recipe.density_of(s) for s in recipe.shapes])
    material, density, organ = paint(
        recipe.shapes,
        z=z,
        y=y,
        x=x,
        steps=steps,
        densities=densities,
        materials=np.array([0] + [names.index(s.material) for s in recipe.shapes]),
        organs=np.array([OUTSIDE, *owner]),
        subsamples=recipe.subsamples if partial_volume else 1,
    )
    return assemble(
        material=material,
        density=density,
        organ=organ,
        material_names=names,
        organ_names=organs,
        z=z,
        y=y,
        x=x,
        name=recipe.name,
        source=recipe.source,
        attrs={"title": recipe.title, **{f"d{a}_mm": s for a, s in zip("zyx", steps, strict=True)}},
    )


def _tables(recipe: Recipe, where: str) -> tuple[list[str], dict[int, str], list[int]]:
    names = list(dict.fromkeys(["air", *(s.material for s in recipe.shapes)]))
    for name in names:
        _material_density(name, where=where)
    organs = dict(RESERVED_ORGANS)
    ids = {"body": BODY, "outside": OUTSIDE}
    for shape in recipe.shapes:
        if shape.organ is not None and shape.organ not in ids:
            ids[shape.organ] = len(ids) - 1
            organs[ids[shape.organ]] = shape.organ
    return names, organs, [ids[s.organ or "body"] for s in recipe.shapes]


def _three(spacing_mm: float | Sequence[float], where: str) -> tuple[float, float, float]:
    values = (
        np.broadcast_to(np.asarray(spacing_mm, float), (3,)) if np.size(spacing_mm) in (1, 3) else np.zeros(1)
    )
    if values.size != 3 or not (values > 0).all():
        refuse(where, "spacing_mm as one positive number or (z, y, x)", spacing_mm)
    return float(values[0]), float(values[1]), float(values[2])


def _material_density(name: str, *, where: str) -> float:
    from twinlab.physics import materials

    try:
        return float(materials.get(name).density_g_cm3)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _patient(recipe: PatientRecipe, steps: tuple[float, float, float] | None) -> xr.Dataset:
    from twinlab import sample
    from twinlab.phantom.grid import resample
    from twinlab.phantom.patient import from_dicom, from_nifti

    files = sample.patient(recipe.sample, forms=("nifti", "dicom") if recipe.form == "dicom" else ("nifti",))
    name, source = recipe.name, recipe.source
    if files.dicom_folder is not None:
        phantom = from_dicom(
            files.dicom_folder,
            labels=files.labels,
            legend=files.legend,
            kv=recipe.kv,
            name=name,
            source=source,
        )
    else:
        phantom = from_nifti(
            files.ct, files.labels, legend=files.legend, kv=recipe.kv, name=name, source=source
        )
    if steps is None and recipe.spacing_mm is not None:
        steps = (recipe.spacing_mm.z, recipe.spacing_mm.y, recipe.spacing_mm.x)
    return phantom if steps is None else resample(phantom, spacing_mm=steps)
