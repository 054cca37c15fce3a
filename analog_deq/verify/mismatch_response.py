"""What each mismatch parameter of the cells does to a neuron's fitted parameters, measured in ngspice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.attribution.dies import DieDraws
from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import Die, neuron_sigmas
from analog_deq.errors import SimulationError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.fit.variation import NEURON_PARAMETERS, extract_neurons
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Progress
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.verify.dies import draw_die, measured_neurons, needs_reading, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class NeuronResponse:
    """Fitted parameters ``base`` (7,) of a nominal neuron, and their shifts ``linear`` d + ``square`` d^2 for each
    mismatch parameter deviating by d (in its own unit).
    """

    base: Array
    linear: Mapping[str, Array]
    square: Mapping[str, Array]

    def shift(self, name: str, deviation: Array) -> Array:
        """Shifts (..., 7) for deviations (...) of one parameter."""
        d = deviation[..., None]
        return np.asarray(d * self.linear[name] + d**2 * self.square[name])


def measure_response(
    design: DesignSpec, proxy: ProxyParameters, plan: CalibrationPlan, cells: NeuronCells, bed: Bed, progress: Progress
) -> NeuronResponse:
    """The response at plus and minus one sigma of each parameter, on the calibration's own testbench.

    Raises the SimulationError of a measurement that failed.
    """
    sigmas = {name: sigma for name, sigma in sorted(neuron_sigmas(cells, design.mismatch).items()) if sigma > 0}
    bench, load = Bench(design, plan, cells), plan.mismatch.load_siemens
    settings: list[dict[str, float]] = [{}]
    settings += [{name: sign * sigma} for name, sigma in sigmas.items() for sign in (1, -1)]
    dies = [Die(k, deviations, load) for k, deviations in enumerate(settings)]
    rows, neuron = measured_neurons(bench, dies, bed, progress), design.neuron
    frame, _, _ = extract_neurons(
        rows["mismatch"], rows["mismatch_dynamic"], proxy.integrator, proxy.tau, proxy.activation,
        r_feedback_ohm=neuron.r_feedback_ohm, v_unit_v=neuron.v_unit_v, z_unit_v=neuron.z_unit_v,
    )  # fmt: skip
    found = frame.sort_values("die")[list(NEURON_PARAMETERS)].to_numpy()
    base, up, down = found[0], found[1::2], found[2::2]
    scale = np.array(list(sigmas.values()))[:, None]
    linear, square = (up - down) / (2 * scale), (up + down - 2 * base) / (2 * scale**2)
    return NeuronResponse(base, dict(zip(sigmas, linear, strict=True)), dict(zip(sigmas, square, strict=True)))


def drawn_dies(
    network: LoweredNetwork, response: NeuronResponse, dies: Sequence[int], bed: Bed, progress: Progress
) -> DieDraws:
    """The sign-off's own dies as the proxy sees them, their draws taken apart by parameter.

    Raises SimulationError where the conductances of a die cannot be read.
    """
    drawn = [draw_die(network, die) for die in dies]
    if needs_reading(network):
        drawn, lost = read_dies(drawn, bed, progress)
        if lost:
            raise SimulationError(next(iter(lost.values())))
    own = {}
    for name in response.linear:
        deviation = np.stack([die.deviations[name] for die in drawn])
        if name in network.deviations:  # the neurons' shares of R_F lie on top
            deviation = (1 + deviation) / (1 + network.deviations[name]) - 1
        own[name] = response.shift(name, deviation)
    nominal = _seen(network)
    errors = np.stack([_seen(die) / nominal - 1 for die in drawn])
    return DieDraws(tuple(dies), response.base, own, errors)


def _seen(network: LoweredNetwork) -> Array:
    return np.stack([network.g_pos, network.g_neg]) if network.seen is None else np.asarray(network.seen)
