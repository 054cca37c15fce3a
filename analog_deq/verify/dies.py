"""Mismatch dies of the whole network: drawn, simulated, trimmed by their own measurements, simulated again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.calibration.measurement import SPICE_OPTIONS, Bench, Rows
from analog_deq.calibration.mismatch import READ_V, Die, NeuronMismatch, neuron_sigmas, synapse_errors
from analog_deq.draws import Stream, deviations, generator
from analog_deq.errors import SimulationError, SpecError
from analog_deq.fit.variation import extract_neurons
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.device import device_statistics
from analog_deq.netlists.library import cell_arguments, cell_files
from analog_deq.netlists.testbench import synapse_bench
from analog_deq.programming.design import instance_errors, program_die
from analog_deq.proxy.array import effective_map
from analog_deq.proxy.autozero import residual_offset
from analog_deq.records import Deck, Op, Plot, Progress
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.train.deployed import DeployedNetwork, ProxyStates
from analog_deq.verify.bent import BentDie, Settler, proxy_states
from analog_deq.verify.lower import LoweredNetwork, scaled_feedback
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep
from analog_deq.verify.trim import trim_dies

Array = np.ndarray
OFFSETS = ("opamp.vos", "integrator.vos")
"""Mismatch that an auto-zero stores."""


@dataclass(frozen=True, slots=True)
class DieResult:
    """One die: its test images, results without and with trim, and the trim currents (N,) with how many clipped."""

    die: int
    images: Array
    untrimmed: SweepResult
    trimmed: SweepResult
    trim_a: Array
    clipped: int


def draw_die(nominal: LoweredNetwork, die: int, scale: float = 1.0) -> LoweredNetwork:
    """The network with the mismatch of one die, drawn in NumPy from (design seed, die) alone.

    ``scale`` multiplies every sigma: such dies show what is rare at 1 (:func:`analog_deq.statistics.scaled_sigma`).
    SpecError for another scale than 1 where the design programs its cells, whose errors are not normal.

    Where the synapse's only error is a share of its conductance, and it is what it is programmed to, that share is
    multiplied in. Other synapses keep their errors as parameters (:func:`needs_reading`), among them memristors that
    the design programs, which have their age and the noise of one read as well.
    """
    design, cells = nominal.design, nominal.cells
    rng = generator(design.seed, Stream.VERIFY_DIE, die)
    sigmas = {name: scale * sigma for name, sigma in neuron_sigmas(cells, design.mismatch).items()}
    drawn = auto_zeroed(design, deviations(rng, sigmas, nominal.states), die)
    if nominal.deviations:  # the nominal network's only ones: its neurons' shares of R_F
        drawn = scaled_feedback(1 + nominal.deviations["r_feedback"], drawn)
    programmed = nominal.g_pos, nominal.g_neg
    if design.programming is not None:
        if scale != 1.0:
            raise SpecError("programming: errors of programmed cells are not normal; their sigma cannot be scaled")
        own = program_die(device_statistics(cells.synapse), np.stack(programmed), design.programming, design.seed, die)
        drift = cells.synapse.contract.drift
        read = generator(design.seed, Stream.READ_NOISE, die)
        errors = instance_errors(own, design.programming, None if drift is None else drift.param, read)
        return replace(nominal, deviations=drawn, errors=errors, seen=None)
    both = [synapse_errors(rng, cells.synapse, g, scale) for g in programmed]
    if needs_reading(nominal):
        errors = {name: np.stack([part[name] for part in both]) for name in both[0]}
        return replace(nominal, deviations=drawn, errors=errors, seen=None)
    g_pos, g_neg = (g * (1 + part["dg"]) if part else g for g, part in zip(programmed, both, strict=True))
    changed = replace(nominal, g_pos=g_pos, g_neg=g_neg, deviations=drawn, seen=None)
    return replace(changed, reduced=changed.reduce(drive=False))


def auto_zeroed(design: DesignSpec, drawn: dict[str, Array], die: int) -> dict[str, Array]:
    """Deviations of a die with its op-amps' offsets as the design's auto-zero leaves them; as they are without one.

    SpecError where the integrator's cell has no offset to store.
    """
    if design.autozero is None:
        return drawn
    keys = [key for key in drawn if key in OFFSETS]
    if not keys:
        raise SpecError(f"autozero: no offset among the mismatch of the cells ({', '.join(drawn)}); leave it out")
    rng = generator(design.seed, Stream.AUTO_ZERO, die)
    temperature = design.operating.temperature_celsius
    left = {key: residual_offset(drawn[key], design.autozero, temperature, rng) for key in keys}
    return {**drawn, **left}


def needs_reading(nominal: LoweredNetwork) -> bool:
    """Whether a die's conductances are known only once its cells were read in ngspice (:func:`read_die`)."""
    law_differs = nominal.seen is not None and not np.array_equal(nominal.seen, [nominal.g_pos, nominal.g_neg])
    return law_differs or not nominal.cells.relative_spread or nominal.design.programming is not None


def read_dies(
    dies: Sequence[LoweredNetwork], bed: Bed, progress: Progress
) -> tuple[list[LoweredNetwork], dict[int, str]]:
    """The dies with the conductances that ngspice reads at their cells' terminals, which their reduced decks need.

    Also returns the status of each die, by its place, whose reading failed: it has no reduced deck.
    """
    outcomes = bed.run([_reading(die) for die in dies], progress)
    known, lost = list(dies), {}
    for k, (die, outcome) in enumerate(zip(dies, outcomes, strict=True)):
        if outcome.run is None:
            lost[k] = f"conductances not read: {outcome.status}"
        else:
            read = replace(die, seen=_read(die, outcome.run.plots[0]))
            known[k] = replace(read, reduced=read.reduce(drive=False))
    return known, lost


def die_images(design: DesignSpec, count: int, die: int) -> Array:
    """Which of ``count`` test images one die is tried on: (images_per_die,), drawn from (design seed, die) alone."""
    rng = generator(design.seed, Stream.VERIFY_CHOICE, die)
    return rng.choice(count, design.verify.images_per_die, replace=False)


def run_dies(
    nominal: LoweredNetwork,
    model: DeployedNetwork,
    x_test: Tensor,
    x_trim: Tensor,
    dies: Sequence[int],
    bed: Bed,
    progress: Progress,
    *,
    flat: bool = False,
) -> list[DieResult]:
    """Every die on its own sample of test images, before and after its trim."""
    design = nominal.design
    chosen = [die_images(design, len(x_test), die) for die in dies]
    networks = [draw_die(nominal, die) for die in dies]
    networks, lost = read_dies(networks, bed, progress) if needs_reading(nominal) and not flat else (networks, {})
    settler = Settler(model, flat, not model.proxy.synapse.linear)
    test_solved = model.solve(x_test, domain_share=None)
    test_inputs = model.inputs(x_test).numpy()

    def sweep(network: LoweredNetwork, images: Array) -> Sweep:
        return Sweep(network, test_inputs[images], test_solved.h.numpy()[images])

    def settle(sweeps: Sequence[Sweep], inputs: Sequence[Tensor]) -> list[SweepResult]:
        known = [k for k in range(len(sweeps)) if k not in lost]
        ran = iter(settler.settle([sweeps[k] for k in known], [inputs[k] for k in known], bed, progress))
        return [failed_sweep(s, lost[k]) if k in lost else next(ran) for k, s in enumerate(sweeps)]

    own_inputs = [x_test[torch.as_tensor(images)] for images in chosen]
    first = settle([sweep(n, i) for n, i in zip(networks, chosen, strict=True)], own_inputs)
    networks, currents, clipped = trim_dies(networks, model, x_trim, settle)
    second = settle([sweep(n, i) for n, i in zip(networks, chosen, strict=True)], own_inputs)
    return [DieResult(die, chosen[k], first[k], second[k], currents[k], int(clipped[k])) for k, die in enumerate(dies)]


def _reading(network: LoweredNetwork) -> Deck:
    """Deck that reads every synapse cell of a die at ``READ_V``."""
    errors: list[dict[str, float]] = [{} for _ in range(2 * network.g_pos.size)]
    for name, values in network.errors.items():
        for own, value in zip(errors, values.ravel(), strict=True):
            own[name] = float(value)
    programmed = np.concatenate([network.g_pos.ravel(), network.g_neg.ravel()])
    cells = [(float(g), own) for g, own in zip(programmed, errors, strict=True)]
    return reading_deck("every synapse of one die, read back", cells, network)


def reading_deck(title: str, programmed: Sequence[tuple[float, dict[str, float]]], network: LoweredNetwork) -> Deck:
    """Deck that reads synapse cells of a network, each (g in siemens, its errors), at ``READ_V``: ``i(vg0)``..."""
    synapse = [network.cells.synapse]
    return build_deck(
        title,
        synapse_bench(programmed, network.cells, READ_V),
        [Op()],
        save=[f"i(vg{k})" for k in range(len(programmed))],
        options=SPICE_OPTIONS,
        files=cell_files(synapse),
        temperature_celsius=network.design.operating.temperature_celsius,
        arguments=cell_arguments(synapse),
    )


def _read(network: LoweredNetwork, plot: Plot) -> Array:
    """Conductances (2, logical rows, N) from the plot of :func:`_reading`."""
    read = -np.real(plot.columns([f"i(vg{k})" for k in range(2 * network.g_pos.size)]))[0] / READ_V
    return np.asarray(read.reshape(2, *network.g_pos.shape))


def read_conductances(network: LoweredNetwork, bed: Bed, progress: Progress) -> tuple[Array, Array]:
    """Conductances (logical rows, N) of a die, each synapse cell read in ngspice at ``READ_V``.

    Raises the SimulationError of a read that failed.
    """
    outcome = bed.run([_reading(network)], progress)[0]
    if outcome.run is None:
        raise outcome.error or SimulationError(outcome.status)
    both = _read(network, outcome.run.plots[0])
    return both[0], both[1]


def measured_neurons(bench: Bench, dies: Sequence[Die], bed: Bed, progress: Progress) -> Rows:
    """Tables ``mismatch`` and ``mismatch_dynamic`` of neurons measured alone on the calibration testbench.

    Raises the SimulationError of a measurement that failed.
    """
    measurement = NeuronMismatch()
    plots = []
    for outcome in bed.run(measurement.decks(bench, dies), progress):
        if outcome.run is None:
            raise outcome.error or SimulationError(outcome.status)
        plots.append(outcome.run.plots)
    return measurement.tabulate(bench, dies, plots)


@dataclass(frozen=True, slots=True)
class Meter:
    """Errors of what measures a die: volts rms of each reading, and a relative rms of each conductance."""

    volts: float = 0.0
    conductance: float = 0.0


def extracted_model(
    network: LoweredNetwork,
    model: DeployedNetwork,
    plan: CalibrationPlan,
    bed: Bed,
    progress: Progress,
    *,
    meter: Meter | None = None,
    rng: np.random.Generator | None = None,
) -> DeployedNetwork:
    """The proxy of one die from measurements at its neurons' and synapses' own terminals.

    Each neuron is measured alone on the calibration testbench, its parameters extracted as in the fit. A ``meter`` adds
    its errors, drawn from ``rng``, to what ngspice measured. Raises the SimulationError of a measurement that failed: a
    die that cannot be measured has no proxy.
    """
    meter, rng = meter or Meter(), rng or np.random.default_rng(0)
    design, proxy = model.design, model.proxy
    bench = Bench(design, plan, network.cells)
    dies = [
        Die(i, {key: float(values[i]) for key, values in network.deviations.items()}, plan.mismatch.load_siemens)
        for i in range(network.states)
    ]
    rows = measured_neurons(bench, dies, bed, progress)
    for name in ("v", "zp", "zn"):
        rows["mismatch"][name] += meter.volts * rng.standard_normal(len(rows["mismatch"]))
    neuron = design.neuron
    frame, _, _ = extract_neurons(
        rows["mismatch"], rows["mismatch_dynamic"], proxy.integrator, proxy.tau, proxy.activation,
        r_feedback_ohm=neuron.r_feedback_ohm, v_unit_v=neuron.v_unit_v, z_unit_v=neuron.z_unit_v,
    )  # fmt: skip
    column = {name: frame[name].to_numpy(copy=True) for name in frame.columns}
    g_pos, g_neg = (
        g * (1 + meter.conductance * rng.standard_normal(g.shape)) for g in read_conductances(network, bed, progress)
    )
    effective = effective_map(
        design, proxy, g_pos, g_neg, vos_v=column["vos_v"], r_feedback=column["r_feedback"],
        trim_a=0.0 if network.trim_a is None else network.trim_a,
    )  # fmt: skip
    act = model.act.varied(*(torch.as_tensor(column[k]) for k in ("sat", "in_scale", "in_offset", "out_offset")))
    return DeployedNetwork(design, proxy, effective, act, 1 + column["tau"])


def own_states(network: LoweredNetwork, own: DeployedNetwork, x: Tensor, bed: Bed, progress: Progress) -> ProxyStates:
    """What a die's extracted proxy ``own`` predicts for inputs ``x`` (images, M).

    Cells that bend are measured at their terminals as the rest of the die was. Raises the SimulationError of that.
    """
    if own.proxy.synapse.linear:
        return own.solve(x, domain_share=None)
    known, lost = read_dies([network], bed, progress) if network.seen is None else ([network], {})
    if lost:
        raise SimulationError(lost[0])
    return proxy_states(own, BentDie.measured(known[0], bed, progress), x)[0]
