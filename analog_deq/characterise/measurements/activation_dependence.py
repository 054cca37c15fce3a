"""How an activation's transfer depends on temperature and supply, at the corner's own temperature and supply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.rails import move_rails
from analog_deq.records import Alter, Command, Dc, Op, Plot

STEP_K = 5.0
STEP_SHARE = 0.05
"""Half the steps of the central differences: kelvin, and share of each rail."""
NEAR = 1 / 1000
"""Input at which the slope is measured, over the input range."""
NOTHING = 1e-9
"""Relative change that is the solver's, not the cell's."""
KINDS = ("slope", "saturation", "offset")


class ActivationDependence(AbstractCellMeasurement):
    """Central differences of slope, saturation (half the distance of its levels) and input offset.

    Supply: both rails move by 5 % of themselves; volts are of the total supply. Input and ``in_cm`` stay.
    """

    name = "dependence"
    roles = ("activation",)
    quantities = (
        Quantity("slope_tempco", "%/K", "magnitude", "relative change of the slope at rest per kelvin"),
        Quantity("saturation_tempco", "%/K", "magnitude", "relative change of the saturation per kelvin"),
        Quantity("offset_tempco", "V/K", "magnitude", "change of the input offset per kelvin"),
        Quantity("slope_supply", "%/V", "magnitude", "relative change of the slope at rest per volt of supply"),
        Quantity("saturation_supply", "%/V", "magnitude", "relative change of the saturation per volt of supply"),
        Quantity("offset_supply", "V/V", "magnitude", "change of the input offset per volt of supply"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += [*bench.supplies(copy), *path.path_lines(bench, copy, own_rails=True)]
            save += path.output_vectors(bench, copy)
        corner, centre = bench.corner, bench.corner.temperature_celsius
        sweep: dict[bool, Command] = {True: Dc("temp", centre - STEP_K, centre + STEP_K, STEP_K), False: Op()}
        commands: list[Command] = []
        for share in (1 - STEP_SHARE, 1 + STEP_SHARE, 1.0) if bench.has_supply else (1.0,):
            if bench.has_supply:
                commands.append(move_rails(bench, bench.copies, share * corner.vdd_v, share * corner.vss_v))
            for x in inputs(bench):
                commands += [Alter((("vu", x),)), sweep[share == 1.0]]
        return Testbench("temperature and supply dependence of an activation", lines, commands, save)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        x = inputs(bench)
        y = [path.output(bench, copy, plot) - path.output_rest_v(bench) for plot in plots]
        temperature = np.stack(y[-len(x) :])  # (inputs, 3 temperatures)
        here = temperature[:, 1]
        found = _changes("tempco", x, temperature[:, 0], here, temperature[:, 2], 2 * STEP_K, "temperature")
        if not bench.has_supply:
            return [*found, *(not_modelled(f"{kind}_supply", "the cell has no supply pins") for kind in KINDS)]
        low, high = np.ravel(y[: len(x)]), np.ravel(y[len(x) : 2 * len(x)])
        volts = 2 * STEP_SHARE * (bench.corner.vdd_v - bench.corner.vss_v)
        return [*found, *_changes("supply", x, low, here, high, volts, "the supply")]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("output_against_temperature", plot.sweep, path.output(bench, copy, plot), f"in={x:.4g}V")
            for x, plot in zip(inputs(bench), plots[-len(inputs(bench)) :], strict=True)
        ]


def inputs(bench: CellBench) -> list[float]:
    """The inputs of every step: both ends of the range, rest, and close to it on either side."""
    low, high = path.span_v(bench)
    near = NEAR * (high - low)
    return [low, -near, 0.0, near, high]


def _changes(
    kind: str, x: Sequence[float], low: np.ndarray, here: np.ndarray, high: np.ndarray, step: float, cause: str
) -> list[Value]:
    """Changes from ``low`` to ``high`` of the outputs at the five inputs, over ``step``."""
    ids = [f"{name}_{kind}" for name in KINDS]
    full = np.max(np.abs(here - here.mean()))
    if full == 0.0:
        return [undefined(i, "the output does not move") for i in ids]
    still = [not_modelled(i, f"{cause} does not move the {name}") for i, name in zip(ids, KINDS, strict=True)]
    if np.max(np.abs(high - low)) <= NOTHING * full:
        return still
    slopes = [(y[3] - y[1]) / (x[3] - x[1]) for y in (low, here, high)]
    levels = [(y[4] - y[0]) / 2 for y in (low, here, high)]
    if slopes[1] == 0.0:
        return [undefined(i, "the slope at rest is zero") for i in ids]
    found = []
    for k, values in enumerate((slopes, levels)):
        change = (values[2] - values[0]) / values[1]
        found.append(Value(ids[k], 100 * change / step) if abs(change) > NOTHING else still[k])
    # a balanced cell's offset is zero at every temperature; that is a result, not a gap in the model
    offsets = [-y[2] / slope for y, slope in ((low, slopes[0]), (high, slopes[2]))]
    return [*found, Value(ids[2], (offsets[1] - offsets[0]) / step)]
