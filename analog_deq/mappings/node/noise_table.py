"""Noise densities of a node neuron as a table, and its fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.interpolate import PchipInterpolator

from analog_deq.fit.parameters import Goodness
from analog_deq.mappings.node.spec import HELD_H, TOLERANCE, NodeSettings

Array = np.ndarray
SENSE_HZ = 1e8
"""Up to here the node's noise current is read without its capacitor; above, it shorts the current anyway."""


class NoiseTable(BaseModel):
    """Densities over bias h and frequency: lists (biases, frequencies).

    ``state`` is that of a reading with its node held, in units^2/Hz; ``current`` is what the neuron sends into its
    node, in A^2/Hz.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias_h: list[float]
    frequency_hz: list[float]
    state: list[list[float]]
    current: list[list[float]]
    goodness: Goodness

    def at(self, h: Array) -> tuple[Array, Array]:
        """(state, current) densities (..., F) at pre-activations ``h`` (...); those of the last bias beyond."""
        inside = np.clip(h, self.bias_h[0], self.bias_h[-1])
        state, current = (
            np.exp(PchipInterpolator(self.bias_h, np.log(table), axis=0)(inside))
            for table in (self.state, self.current)
        )
        return state, current


def held_out(bias: pd.Series, settings: NodeSettings) -> Array:
    """True where a bias (V) is one of those held out."""
    return np.asarray(np.isclose(bias.to_numpy()[:, None] / settings.bias_v, HELD_H, atol=1e-9).any(axis=1))


def fit_noise(noise: pd.DataFrame, settings: NodeSettings) -> NoiseTable:
    """Densities at the biases; those at some are held out, as relative error of the rms density."""

    def pivot(output: str, scale: float) -> dict[float, Array]:
        rows = noise[noise["output"] == output].sort_values("frequency")
        biases = [float(b) for b in rows["bias"].unique()]
        return {b: (rows.loc[rows["bias"] == b, "density"].to_numpy() / scale) ** 2 for b in biases}

    frequency = np.sort(noise["frequency"].unique())
    state, current = pivot("z", 2 * settings.z_unit_v), pivot("i", 1.0)
    biases = pd.Series(sorted(state))
    kept, held = (biases[which].tolist() for which in (~held_out(biases, settings), held_out(biases, settings)))
    floor = 1e-40  # A^2/Hz: a node without any resistor sends nothing
    made: dict[str, Any] = {
        "bias_h": [b / settings.v_unit_v for b in kept], "frequency_hz": frequency.tolist(),
        "state": [state[b].tolist() for b in kept], "current": [np.maximum(current[b], floor).tolist() for b in kept],
    }  # fmt: skip
    blank = Goodness(unit="", train=0.0, held_out=0.0, n_train=0, n_held_out=0, tolerance=1.0)
    table = NoiseTable(**made, goodness=blank)
    found = table.at(np.array(held) / settings.v_unit_v)
    error, below = 0.0, frequency <= SENSE_HZ
    for k, b in enumerate(held):
        for model, truth in (
            (found[0][k], state[b]),
            (found[1][k][below], np.maximum(current[b], floor)[below]),
        ):
            rms = [np.sqrt(np.trapezoid(s, frequency[: len(s)])) for s in (model, truth)]
            error = max(error, float(abs(rms[0] / rms[1] - 1)))
    goodness = Goodness(
        unit="relative, rms over the band", train=0.0, held_out=error, n_train=len(kept), n_held_out=len(held),
        tolerance=TOLERANCE["noise"],
    )  # fmt: skip
    return NoiseTable(**made, goodness=goodness)
