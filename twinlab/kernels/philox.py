"""Counter-based random numbers: the same stream for a history on any device, thread count and batch order.

Philox4x32 maps (counter, key) to four 32-bit words. The key is the seed, the counter is
(step, history), so no state travels between histories and none needs to be stored. Histories draw with seven rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Scalar functions of the transport, which CPU and GPU share. Without _nrt=False every access to an array of
# a named tuple counts references atomically, which halves the speed of one core and stops two from scaling.
DEVICE: dict[str, Any] = {"cache": True, "_nrt": False, "error_model": "numpy"}
INLINE: dict[str, Any] = {**DEVICE, "forceinline": True}

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_SEVEN = np.uint64(7)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_9, _18, _27, _4 = np.uint64(9), np.uint64(18), np.uint64(27), np.uint64(4)
_REST = np.uint64(0x1FF)
_HALF = np.float32(0.5)
_ULP = np.float32(2.0**-23)


@njit(cache=True, inline="always")
def _round(c0, c1, c2, c3, k0, k1):
    a = _M0 * c0
    b = _M1 * c2
    return (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW


@njit(**INLINE)
def philox7(c0, c1, c2, c3, k0, k1):
    """Philox4x32-7: as :func:`philox4x32` with seven rounds.

    The fewest with which Philox4x32 passes every test of BigCrush, on many streams.

    References
    ----------
    Salmon J K et al. 2011, table 2 and section 4.
    """
    # written out, because a loop over counters is vectorised only when nothing loops inside
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return _round(c0, c1, c2, c3, k0, k1)


@njit(**DEVICE)
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four random 32-bit words of one counter and key (ten rounds).

    Parameters
    ----------
    c0, c1, c2, c3 : uint64
        Counter words, each below 2**32.
    k0, k1 : uint64
        Key words, each below 2**32.

    Returns
    -------
    tuple of 4 uint64
        Each below 2**32.

    References
    ----------
    Salmon J K et al. 2011, Parallel random numbers: as easy as 1, 2, 3. Proc. SC'11.
    """
    c0, c1, c2, c3 = philox7(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _SEVEN * _W0) & _LOW, (k1 + _SEVEN * _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return _round(c0, c1, c2, c3, k0, k1)


@njit(cache=True, inline="always")
def uniform(word):
    """Float32 in the open interval (0, 1) from a 32-bit word; 23 bits and a half step, so never 0 or 1."""
    return (np.float32(np.int32(word >> _9)) + _HALF) * _ULP


@njit(**INLINE)
def draw(step, history, k0, k1):
    """Four uniform float32 of a history's step.

    Parameters
    ----------
    step : uint64
        How many draws the history has made before; below 2**32.
    history : uint64
        Index of the history, the identity of the stream.
    k0, k1 : uint64
        Low and high words of the seed.

    Returns
    -------
    tuple of 4 float32
        In (0, 1).
    """
    a, b, c, d, _ = draw_five(step, history, k0, k1)
    return a, b, c, d


@njit(**INLINE)
def draw_five(step, history, k0, k1):
    """The four uniforms of :func:`draw` and a fifth, made of the bits that those leave over."""
    zero = history & np.uint64(0)
    a, b, c, d = philox7(step, history & _LOW, history >> _32, zero, k0, k1)
    rest = (a & _REST) | ((b & _REST) << _9) | ((c & _REST) << _18) | ((d & _REST) << _27)
    return uniform(a), uniform(b), uniform(c), uniform(d), uniform(rest >> _4)


def key(seed: int) -> tuple[np.uint64, np.uint64]:
    """Split a seed of up to 64 bits into the two key words.

    Raises
    ------
    ValueError
        The seed is negative or needs more than 64 bits.
    """
    if not 0 <= int(seed) < 2**64:
        raise ValueError(f"seed: expected an integer from 0 to 2**64 - 1; got {seed}")
    return np.uint64(int(seed) & 0xFFFFFFFF), np.uint64(int(seed) >> 32)
