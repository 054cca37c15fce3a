"""What a deck of one sample gives, by name: its states, and the figure that checks look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.errors import SchemaError, SimulationError
from analog_deq.records import Plot
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.replay import Replay
from analog_deq.waveforms import settling_time

Array = np.ndarray
PERCENT = 100.0
EQUILIBRIUM = "equilibrium"
MOST_VECTORS = 100
"""Vectors of a check's own deck that are recorded, each by its last value."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Which sample a deck is of. ``trim_a`` (N,) are a die's trim currents; ``rest_z`` (N,) where a transient ends.

    ``kind`` is ``equilibrium``, ``transient``, ``noise``, or what a check calls a deck of its own. One of a cell alone
    has no ``image``.
    """

    kind: str
    image: int | None
    die: int | None = None
    corner: str = ""
    trim_a: tuple[float, ...] | None = None
    rest_z: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        die = "" if self.die is None else f"-die{self.die}"
        die += "-untrimmed" if die and self.trim_a is None and self.kind == EQUILIBRIUM else ""
        image = "" if self.image is None else f"-image{self.image}"
        return f"{self.kind}{image}{die}" + (f"-{self.corner}" if self.corner else "")

    @property
    def test_image(self) -> int:
        """Number of the test image; ValueError for a cell alone."""
        if self.image is None:
            raise ValueError(f"{self.name}: a deck of a cell alone has no image")
        return self.image

    @property
    def trim(self) -> Array | None:
        """Trim currents (N,) as an array."""
        return None if self.trim_a is None else np.array(self.trim_a)


def off_mirror(writer: Replay, sample: Sample, plots: Sequence[Plot]) -> bool:
    """Whether a reduced deck's rows are no mirror images, so that it has to be printed unmirrored."""
    network = writer.network(sample.die, corner=sample.corner)
    if sample.kind == "noise" or writer.runs_flat(sample.kind, network, sample.corner):
        return False
    return network.mirror_error(plots[0]) > MIRROR_LIMIT


def values_of(writer: Replay, sample: Sample, plots: Sequence[Plot], *, mirrored: bool) -> dict[str, float]:
    """Figures of a deck's plots by name, SI or as the name says; SchemaError when they do not fit the network."""
    read = {"equilibrium": _equilibrium, "transient": _transient, "noise": _noise}.get(sample.kind)
    if read is None or sample.image is None:
        return _last_values(plots)
    network = writer.network(sample.die, sample.trim, sample.corner)
    network = network if mirrored else network.unmirrored()
    x = writer.model().inputs(writer.task.x_test[sample.test_image : sample.test_image + 1]).numpy()
    try:
        return read(writer, network, sample, plots, x)
    except (SimulationError, KeyError) as error:
        raise SchemaError(f"{sample.name}: its plots do not fit the network ({error}); run verify again") from error


def _equilibrium(
    writer: Replay, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array
) -> dict[str, float]:
    z = network.read_states(plots[0], x, flat=writer.runs_flat(sample.kind, network, sample.corner)).z
    image = writer.task.x_test[sample.test_image : sample.test_image + 1]
    error = PERCENT * (z - writer.model().solve(image, domain_share=None).reading.numpy())[0]
    found = {
        "rms_error_percent_fs": float(np.sqrt(np.mean(error**2))), "max_error_percent_fs": float(np.abs(error).max())
    }  # fmt: skip
    if not writer.task.regression:
        found["predicted"] = float(writer.readout().predict(torch.as_tensor(z))[0])
    return {**found, **{f"z{i}": float(value) for i, value in enumerate(z[0])}}


def _transient(
    writer: Replay, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array
) -> dict[str, float]:
    flat = writer.runs_flat(sample.kind, network, sample.corner)
    t, z, supply = network.read_trajectory(plots[0], x[0], flat=flat)
    rest = z[-1] if sample.rest_z is None else np.array(sample.rest_z)
    off = np.abs(z - rest).max(axis=1)
    settled = settling_time(t, off, 0.0, writer.design.verify.settle_tolerance_fs)
    until = t <= settled
    return {
        "settling_time_s": float(settled), "end_error_percent_fs": PERCENT * float(off[-1]),
        "supply_energy_j": float(np.trapezoid(supply[until], t[until])) if until.any() else float("nan"),
        **{f"z{i}": float(value) for i, value in enumerate(z[-1])},
    }  # fmt: skip


def _noise(
    writer: Replay, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array
) -> dict[str, float]:
    unit = 2 * writer.design.neuron.z_unit_v
    return {
        f"noise_rms_z{node}": float(np.sqrt(np.trapezoid((np.real(p["onoise_spectrum"]) / unit) ** 2, p.sweep)))
        for node, p in zip(writer.noise_nodes(network), plots, strict=True)
    }


def _last_values(plots: Sequence[Plot]) -> dict[str, float]:
    """The last value of each vector, its magnitude where it is complex, of the first :data:`MOST_VECTORS`."""
    found = {}
    for k, plot in enumerate(plots):
        for name, value in zip(plot.variables, plot.data[-1], strict=True):
            found[f"{k}: {name}"] = float(np.abs(value)) if np.iscomplexobj(plot.data) else float(value)
    return dict(list(found.items())[:MOST_VECTORS])
