"""Operating conditions: clusters of the settings, and sensors as deviations from their condition's usual value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import refuse

TIGHT = 0.001  # share of the settings' variance that may stay inside the clusters
MOST = 12
TELLS = 0.1  # share of some sensor's variance that lies between conditions, else there is but one
ENOUGH = 20  # rows that a condition needs for a mean and a spread


@dataclass(frozen=True)
class Conditions:
    """Clusters of settings with the mean and spread of each sensor.

    Attributes
    ----------
    centre : ndarray, shape (condition, setting)
        In units of ``scale``.
    scale : ndarray, shape (setting,)
        Standard deviation of each setting.
    mean, spread : ndarray, shape (condition, sensor)
        Of the sensor in the condition; ``spread`` is infinite where the sensor never moves.
    kept : ndarray of int
        Sensors that move in some condition.
    """

    centre: Array
    scale: Array
    mean: Array
    spread: Array
    kept: NDArray[np.int64]
    names: tuple[str, ...]

    def of(self, units: Histories) -> NDArray[np.int64]:
        """Condition of each row: the nearest centre."""
        if units.settings.shape[1] != self.centre.shape[1]:
            refuse(WHERE, f"{self.centre.shape[1]} settings", units.settings.shape[1])
        if len(self.centre) == 1:
            return np.zeros(len(units.cycle), np.int64)
        away = units.settings[:, None, :] / self.scale - self.centre[None]
        return np.einsum("rcs,rcs->rc", away, away).argmin(axis=1)

    def apply(self, units: Histories) -> Histories:
        """Sensors in standard deviations from the mean of their condition; fixed sensors and settings go."""
        if units.sensor_names != self.names:
            refuse(WHERE, f"sensors {self.names}", units.sensor_names)
        which = self.of(units)
        values = ((units.sensors - self.mean[which]) / self.spread[which])[:, self.kept]
        return replace(
            units,
            sensors=values,
            settings=np.empty((len(values), 0)),
            sensor_names=tuple(self.names[i] for i in self.kept),
            setting_names=(),
        )


def fit_conditions(units: Histories, *, seed: int = 0) -> Conditions:
    """Cluster the settings and measure each sensor in each cluster.

    k-means with the least number of clusters that leaves at most 0.1 % of the variance of the settings inside
    them (at most 12; 6 for C-MAPSS FD002 and FD004). Clusters that explain less than 10 % of the variance of
    every sensor are no conditions, and one is used (FD001, FD003).

    Raises
    ------
    InputError
        No sensor moves in any condition, or scikit-learn is missing.
    """
    labels, centre, scale = _clusters(units.settings, seed)
    mean, spread = _levels(units.sensors, labels, len(centre))
    if len(centre) > 1 and not _matters(units.sensors, labels, mean):
        labels, centre = np.zeros_like(labels), centre.mean(axis=0, keepdims=True)
        mean, spread = _levels(units.sensors, labels, 1)
    kept = np.flatnonzero(np.isfinite(spread).any(axis=0))
    if not kept.size:
        refuse(WHERE, "a sensor that moves", "only constants")
    return Conditions(centre, scale, mean, spread, kept, units.sensor_names)


def _levels(sensors: Array, labels: NDArray[np.int64], count: int) -> tuple[Array, Array]:
    mean = np.zeros((count, sensors.shape[1]))
    spread = np.full_like(mean, np.inf)
    for i in range(count):
        rows = sensors[labels == i]
        if len(rows) < ENOUGH:
            rows = sensors
        mean[i], sigma = rows.mean(axis=0), rows.std(axis=0)
        moves = sigma > 1e-6 * np.abs(mean[i]) + 1e-12
        spread[i, moves] = sigma[moves]
    return mean, spread


def _matters(sensors: Array, labels: NDArray[np.int64], mean: Array) -> bool:
    total = sensors.var(axis=0)
    between = mean[labels].var(axis=0)
    moves = total > 1e-12 * sensors.mean(axis=0) ** 2 + 1e-24
    return bool((between[moves] > TELLS * total[moves]).any())


def _clusters(settings: Array, seed: int) -> tuple[NDArray, Array, Array]:
    scale = settings.std(axis=0)
    wide = scale > 0
    if settings.shape[1] == 0 or not wide.any():
        one = np.zeros(len(settings), np.int64)
        return one, np.zeros((1, settings.shape[1])), np.ones(settings.shape[1])
    scale = np.where(wide, scale, np.inf)  # a setting that never moves says nothing
    scaled = settings / scale
    total = ((scaled - scaled.mean(axis=0)) ** 2).sum()
    best = None
    for count in range(2, MOST + 1):
        best = _kmeans(count, seed).fit(scaled)
        if best.inertia_ <= TIGHT * total:
            break
    assert best is not None
    return best.labels_.astype(np.int64), best.cluster_centers_, scale


def _kmeans(count: int, seed: int):  # type: ignore[no-untyped-def]
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        refuse(WHERE, 'scikit-learn: pip install "twinlab[maintenance]"', "not installed")
    return KMeans(count, n_init=3, random_state=seed)
