"""A causal convolutional network over whole histories (needs torch, an extra).

One pass gives the prediction at every possible cut, so the loss is summed over all of them with the weights of
the cuts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.maintenance.remaining.features import ALL, rolling_mean, rolling_slope, smooth
from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import refuse

TAPS = 4
DILATIONS = (1, 3, 9, 27, 81)  # the last layer sees 364 rows back


@dataclass
class CausalNetwork:
    """Five dilated causal convolutions with shortcuts, trained by AdamW for a fixed number of steps.

    Attributes
    ----------
    width : int
        Channels of a layer.
    steps, batch : int
        Steps of training, and units (whole histories) in each.
    drop : float
        Share of the inputs that are blanked out for a whole history.

    References
    ----------
    S. Bai, J. Z. Kolter, V. Koltun, "An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling", arXiv:1803.01271 (2018).
    """

    width: int = 32
    steps: int = 300
    batch: int = 16
    rate: float = 4e-3
    drop: float = 0.1
    _net: Any = field(default=None, repr=False)
    _mean: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _spread: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _scale: float = 1.0

    def fit(self, units: Histories, target: Array, weight: Array, *, seed: int) -> CausalNetwork:
        """Learn ``target`` (row) with the weights of the rows."""
        torch = _torch()
        x = _inputs(units)
        self._mean, self._spread = x.mean(axis=0), x.std(axis=0) + 1e-6
        self._scale = float(target.max()) or 1.0
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = _build(torch, x.shape[1], self.width)
            blocks = self._blocks(units, x)
            wanted = units.pieces(target / self._scale)
            place = units.pieces(weight)
            turn = torch.optim.AdamW(self._net.parameters(), lr=self.rate, weight_decay=1e-3)
            pace = torch.optim.lr_scheduler.OneCycleLR(turn, self.rate, total_steps=self.steps)
            for chosen in _batches(rng, len(units), self.batch, self.steps):
                inputs, truth, share = (
                    torch.from_numpy(_padded([part[i] for i in chosen])) for part in (blocks, wanted, place)
                )
                blank = torch.rand(len(chosen), 1, inputs.shape[2]) > self.drop
                found = self._net((inputs * blank / (1.0 - self.drop)).transpose(1, 2))[:, 0]
                loss = (share[..., 0] * (found - truth[..., 0]) ** 2).sum() / len(chosen)
                turn.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
                turn.step()
                pace.step()
        return self

    def predict(self, units: Histories) -> Array:
        """Prediction at every row, shape (row,)."""
        torch = _torch()
        found = []
        with torch.no_grad():
            for block in self._blocks(units, _inputs(units)):
                value = self._net(torch.from_numpy(block.T[None].copy()))[0, 0]
                found.append(value.numpy().astype(float) * self._scale)
        return np.concatenate(found)

    def _blocks(self, units: Histories, inputs: Array) -> list[NDArray]:
        return units.pieces(((inputs - self._mean) / self._spread).astype(np.float32))


def _inputs(units: Histories) -> Array:
    def of(piece: Array) -> Array:
        slope = rolling_slope(piece, ALL)
        return np.hstack([smooth(piece, 8), smooth(piece, 40), slope, rolling_mean(piece, ALL)])

    return np.hstack([np.concatenate([of(piece) for piece in units.pieces()]), units.cycle[:, None]])


def _batches(rng: np.random.Generator, units: int, batch: int, steps: int) -> list[NDArray[np.int64]]:
    """Units of each step; every unit comes once before any comes twice."""
    found: list[NDArray[np.int64]] = []
    while len(found) < steps:
        found += np.array_split(rng.permutation(units), -(-units // batch))
    return found[:steps]


def _padded(pieces: list[NDArray]) -> NDArray[np.float32]:
    """Histories of several lengths in one block of zeros behind them, shape (unit, row, column)."""
    columns = [piece.reshape(len(piece), -1) for piece in pieces]
    block = np.zeros((len(columns), max(map(len, columns)), columns[0].shape[1]), np.float32)
    for row, piece in zip(block, columns, strict=True):
        row[: len(piece)] = piece
    return block


def _build(torch: Any, inputs: int, width: int) -> Any:
    nn = torch.nn

    class Layer(nn.Module):  # type: ignore[name-defined]
        def __init__(self, inputs: int, dilation: int) -> None:
            super().__init__()
            self.pad = nn.ConstantPad1d(((TAPS - 1) * dilation, 0), 0.0)
            self.convolution = nn.Conv1d(inputs, width, TAPS, dilation=dilation)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.convolution(self.pad(x)))
            return y + x if y.shape == x.shape else y

    layers = [Layer(inputs if i == 0 else width, d) for i, d in enumerate(DILATIONS)]
    return nn.Sequential(*layers, nn.Conv1d(width, 1, 1))


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        refuse(WHERE, 'torch: pip install "twinlab[torch]"', "not installed")
    return torch
