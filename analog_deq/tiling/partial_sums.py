"""Digital partial sums: tiles of an input layer read one by one through ADCs, added as numbers, and put back by DACs.

The input's part of an equilibrium network's pre-activations does not change while it settles. It may come from tiles
that are not connected to the network at all: each tile's columns end in virtual grounds, an ADC takes their currents,
the codes are added exactly, and one current DAC a state injects the sum. What that costs is the rounding of every
tile's ADC and of the DAC, beside what every array has (wires, levels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.array import terminal_admittance
from analog_deq.errors import SpecError
from analog_deq.tiling.plan import Tile, check_tiles

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Converter:
    """Mid-tread converter over +-``range_a`` amperes with 2^bits - 1 codes; it clips."""

    bits: int
    range_a: float

    @property
    def step_a(self) -> float:
        return self.range_a / (2 ** (self.bits - 1) - 1)

    def convert(self, amps: Array) -> Array:
        """The nearest code's current, in amperes."""
        most = 2 ** (self.bits - 1) - 1
        return np.asarray(np.clip(np.round(amps / self.step_a), -most, most) * self.step_a)


@dataclass(frozen=True, slots=True)
class PartialSums:
    """Currents into the summing nodes (images, N): ``digital`` after converters, ``exact`` without them.

    ``clipped`` is the number of conversions beyond a converter's range.
    """

    digital: Array
    exact: Array
    clipped: int


def partial_sums(
    g_pos: Array,
    g_neg: Array,
    tiles: Sequence[Tile],
    volts: Array,
    *,
    r_line_ohm: float,
    r_dac_ohm: float,
    adc: Converter,
    dac: Converter,
) -> PartialSums:
    """Sums of all tiles' column currents at row voltages ``volts`` (images, rows), each +V and -V behind ``r_dac_ohm``.

    Conductances (rows, N) in siemens. Every tile has DACs of its own: tiles are read at different times.
    """
    rows, columns = g_pos.shape
    check_tiles(tiles, rows, columns)
    if volts.ndim != 2 or volts.shape[1] != rows:
        raise SpecError(f"volts has shape {volts.shape}; (images, {rows}) is needed")
    digital, exact = np.zeros((len(volts), columns)), np.zeros((len(volts), columns))
    clipped = 0
    for tile in tiles:
        g = np.stack([g_pos[tile.rows, tile.columns], g_neg[tile.rows, tile.columns]], axis=1)
        own = torch.as_tensor(g.reshape(-1, g.shape[-1]))
        with torch.no_grad():
            y = terminal_admittance(own, r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm, r_source_ohm=r_dac_ohm).numpy()
        count = len(own)
        transfer = -(
            y[count:, 0:count:2] - y[count:, 1:count:2]
        )  # amperes out of the columns per volt of a logical row
        amps = volts[:, tile.rows] @ transfer.T
        exact[:, tile.columns] += amps
        digital[:, tile.columns] += adc.convert(amps)
        clipped += int(np.sum(np.abs(amps) > adc.range_a + adc.step_a / 2))
    return PartialSums(
        dac.convert(digital), exact, clipped + int(np.sum(np.abs(digital) > dac.range_a + dac.step_a / 2))
    )
