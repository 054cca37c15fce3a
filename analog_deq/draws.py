"""All randomness of the package: NumPy generators keyed by (seed, stream, index), never by order of use.

A die drawn alone equals the same die drawn in a campaign, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Independent uses of one design seed. Append only: the numbers are part of every result."""

    CALIBRATION_DIE = 1
    CONDUCTANCE_DIE = 2
    CROSSBAR = 3
    SPLIT = 4
    TRAINING = 5
    VERIFY_DIE = 6
    VERIFY_CHOICE = 7
    STATISTICS = 8
    CELL_DIE = 9
    FINE_TUNING = 10
    READ_NOISE = 11
    DRIFT = 12
    AUTO_ZERO = 13
    PROGRAMMING = 14
    ATTRIBUTION = 16
    DYNAMICS = 17
    CORNERS = 18


def generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """Generator of one stream and index of a design seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), index)))


def deviations(rng: np.random.Generator, sigmas: Mapping[str, float | np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Normal draws (size,) for each parameter, in the sorted order of their names. Truncated at 5 sigma.

    A sigma is one number, or one for each draw.

    Truncation keeps a resistance positive in an endless campaign; it changes a variance by 1.5e-5.
    """
    result = {}
    for name in sorted(sigmas):
        values = rng.standard_normal(size)
        result[name] = sigmas[name] * np.clip(values, -5.0, 5.0)
    return result
