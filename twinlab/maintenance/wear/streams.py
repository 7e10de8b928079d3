"""Random numbers of wear: one Philox stream for each (seed, scanner, purpose), so that nothing shifts another."""

from __future__ import annotations

import zlib

import numpy as np

from twinlab.schema import refuse


def stream(seed: int, scanner: str, purpose: str, index: int = 0) -> np.random.Generator:
    """Generator of one purpose of one scanner.

    Parameters
    ----------
    seed : int
        0 or more.
    scanner, purpose : str
        Hashed into the key.
    index : int
        A day, a unit.

    Raises
    ------
    InputError
        A negative seed.
    """
    if int(seed) < 0:
        refuse("seed", "0 or more", seed)
    words = [int(seed), zlib.crc32(scanner.encode()), zlib.crc32(purpose.encode()), int(index)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
