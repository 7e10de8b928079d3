"""Dose of an embryo or fetus, with the uterus in its place early in pregnancy."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.dose.tables import labelled
from twinlab.schema import check, label, refuse

FETUS = ("fetus*", "foetus*", "embryo*", "conceptus*")
UTERUS = ("uterus*",)
STATEMENT = (
    "Dose of the uterus stands for that of the embryo or fetus in early pregnancy; later, size, position and depth "
    "differ. Below 100 mGy no malformation or fall of intelligence is expected, and a dose of that size is no "
    "medical reason to end a pregnancy (ICRP Publication 84)."
)


def fetal_dose(dose: xr.Dataset) -> xr.Dataset:
    """Dose of the embryo or fetus: of its own label, else of the uterus.

    Parameters
    ----------
    dose : Dataset
        As from :func:`twinlab.dose.simulate`: ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_cut``.

    Returns
    -------
    Dataset
        ``fetal_dose`` and ``fetal_dose_sd``, mGy. attrs: ``of`` (the labels), ``surrogate``, ``cut``,
        ``statement``.

    Raises
    ------
    InputError
        Neither a fetus nor a uterus among the labels: nothing is guessed from other organs.

    References
    ----------
    ICRP Publication 84, Pregnancy and Medical Radiation (2000).
    """
    check(dose, "organ_dose", "organ_dose_sd", "organ_mass", "organ_cut", where="fetal_dose")
    names = [str(n) for n in dose["organ_name"].values]
    mass = dose["organ_mass"].values
    for patterns, surrogate in ((FETUS, False), (UTERUS, True)):
        member = labelled(names, patterns) & (mass > 0)
        if member.any():
            weight = mass[member] / mass[member].sum()
            return xr.Dataset(
                {
                    "fetal_dose": label("fetal_dose", float(weight @ dose["organ_dose"].values[member])),
                    "fetal_dose_sd": label(
                        "fetal_dose_sd", float(weight @ dose["organ_dose_sd"].values[member])
                    ),
                },
                attrs={
                    "of": ", ".join(np.array(names)[member]),
                    "surrogate": "uterus for the embryo or fetus" if surrogate else "none",
                    "cut": str(bool(dose["organ_cut"].values[member].any())),
                    "statement": STATEMENT,
                },
            )
    refuse("fetal_dose", "a label of the uterus or fetus inside the images", ", ".join(names))
