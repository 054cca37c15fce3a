"""What each figure of the report is drawn from. Arrays are float64; z is in units, full scale is ``full_scale``.

Every record ends with ``how``: one sentence on how the data were measured, printed under the figure. Arrays may hold
NaN where a sample failed; the figure leaves the point out and its caption counts it. Wrong shapes raise ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _same_shape(what: str, *arrays: Array | NDArray[np.bool_] | None) -> None:
    shapes = {np.shape(array) for array in arrays if array is not None}
    if len(shapes) != 1 or 0 in next(iter(shapes)):
        raise ValueError(f"{what}: arrays must share one shape that is not empty; got {sorted(shapes)}")


def _table(what: str, *arrays: Array | None) -> None:
    _same_shape(what, *arrays)
    if any(array is not None and array.ndim != 2 for array in arrays):
        raise ValueError(f"{what}: needs one row a sample and one column a node, even for a single node")


@dataclass(frozen=True, slots=True)
class SettlingTrace:
    """One input's transient: ``t_s`` (T,), ``z_spice`` and ``z_proxy`` (T, nodes).

    ``band_fs`` is the settling tolerance as a share of full scale; ``settled_s`` the time the last node enters it for
    good (None: it never does).
    """

    t_s: Array
    z_spice: Array
    z_proxy: Array
    band_fs: float
    settled_s: float | None
    full_scale: float = 1.0
    how: str = ""

    def __post_init__(self) -> None:
        _table("SettlingTrace z", self.z_spice, self.z_proxy)
        _same_shape("SettlingTrace t", self.t_s, self.z_spice[:, 0])


@dataclass(frozen=True, slots=True)
class TransferCurve:
    """A measured activation and its fit: all (n,). ``held_out`` marks points the fit never saw."""

    x: Array
    y: Array
    y_fit: Array
    held_out: NDArray[np.bool_]
    x_label: str = "h (units)"
    y_label: str = "z (units)"
    full_scale: float = 1.0
    limit_percent_fs: float | None = None
    how: str = ""

    def __post_init__(self) -> None:
        _same_shape("TransferCurve", self.x, self.y, self.y_fit, self.held_out)


@dataclass(frozen=True, slots=True)
class NoiseSpectrum:
    """Output noise of some nodes: ``frequency_hz`` (F,), densities (F, nodes) in V/rtHz, totals (nodes,) in V."""

    frequency_hz: Array
    density_spice: Array
    rms_spice_v: Array
    rms_proxy_v: Array
    nodes: tuple[str, ...]
    density_proxy: Array | None = None
    how: str = ""

    def __post_init__(self) -> None:
        _table("NoiseSpectrum density", self.density_spice, self.density_proxy)
        _same_shape("NoiseSpectrum frequency", self.frequency_hz, self.density_spice[:, 0])
        _same_shape("NoiseSpectrum totals", self.rms_spice_v, self.rms_proxy_v, np.zeros(len(self.nodes)))


@dataclass(frozen=True, slots=True)
class FixedPointScatter:
    """Resting points of all inputs: ``z_spice`` and ``z_proxy`` (images, nodes)."""

    z_spice: Array
    z_proxy: Array
    full_scale: float = 1.0
    limit_percent_fs: float | None = None
    how: str = ""

    def __post_init__(self) -> None:
        _table("FixedPointScatter", self.z_spice, self.z_proxy)


@dataclass(frozen=True, slots=True)
class OutputScatter:
    """What a regression should answer, ``target``, and what ngspice answered, ``output``: (samples, outputs).

    ``scale`` is what 100 % of relative error is, in the outputs' own unit.
    """

    target: Array
    output: Array
    scale: float
    how: str = ""

    def __post_init__(self) -> None:
        _table("OutputScatter", self.target, self.output)


@dataclass(frozen=True, slots=True)
class DieScores:
    """Score of each die, (dies,), without and with its trim; ``limit`` is what a die must reach.

    Accuracy, or with ``lower_is_better`` an error, in per cent, or in points against something, as ``x_label`` and
    ``unit`` say. ``reference`` is what software reaches.
    """

    untrimmed: Array
    trimmed: Array | None
    limit: float
    reference: float | None = None
    how: str = ""
    x_label: str = "accuracy (%)"
    unit: str = "%"
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        _same_shape("DieScores", self.untrimmed, self.trimmed)


@dataclass(frozen=True, slots=True)
class YieldCurve:
    """Which dies passed, (dies,), in the order they were drawn; the yield demanded, in per cent, at ``confidence``."""

    passes: NDArray[np.bool_]
    limit: float
    confidence: float
    how: str = ""

    def __post_init__(self) -> None:
        _same_shape("YieldCurve", self.passes)
        if not 0 < self.limit < 100:
            raise ValueError(f"YieldCurve: limit {self.limit} %; a yield is demanded between 0 and 100 %")


@dataclass(frozen=True, slots=True)
class ScoreLadder:
    """Accuracy, or with ``lower_is_better`` relative error, in per cent by name, in drawing order: (value, low, high).

    The ends are a 95 % interval. ``n`` counts the inputs of a rung (the fewest, when they differ); ``simulated`` names
    the rungs that ran in ngspice.
    """

    rungs: Mapping[str, tuple[float, float, float]]
    n: int
    simulated: tuple[str, ...] = ()
    how: str = ""
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        if not self.rungs:
            raise ValueError("ScoreLadder: no rung; leave the figure out instead")
        if not set(self.simulated) <= set(self.rungs):
            raise ValueError(f"ScoreLadder: simulated {self.simulated} holds a name that is no rung")
        for name, (value, low, high) in self.rungs.items():
            if not low <= value <= high:
                raise ValueError(f"ScoreLadder {name!r}: {value} is not within {low} to {high}")


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """The figures of one report. One left out is replaced by its reason in ``missing``, by field name.

    ``answers`` is a regression's own, ``yields`` that of a sheet which demands a yield; without them and without
    a reason the report has no such figure.
    """

    fixed_point: FixedPointScatter | None = None
    settling: SettlingTrace | None = None
    transfer: TransferCurve | None = None
    noise: NoiseSpectrum | None = None
    dies: DieScores | None = None
    ladder: ScoreLadder | None = None
    answers: OutputScatter | None = None
    yields: YieldCurve | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
