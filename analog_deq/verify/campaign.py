"""The verification of one trained network: everything simulated, compared and judged, in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import Tensor, as_tensor

from analog_deq.calibration.mismatch import neuron_sigmas
from analog_deq.draws import Stream, generator
from analog_deq.errors import SimulationError
from analog_deq.fit.parameters import ProxyParameters, SynapseLaw
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Progress
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, ProxyStates, Readout
from analog_deq.train.tasks.task import Score, Task
from analog_deq.verify import compare, regression
from analog_deq.verify.bent import Settler
from analog_deq.verify.dies import DieResult, draw_die, extracted_model, own_states, run_dies
from analog_deq.verify.dynamics import NoiseResult, Settling, run_noise, run_transients
from analog_deq.verify.found import Drawing, Found, Section
from analog_deq.verify.limits import Limits
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.needed import needs
from analog_deq.verify.registry import run_checks
from analog_deq.verify.samples import sample_table, spice_score
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.stopping import run_until_decided, stopping_plans, with_decisions
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, run_sweeps
from analog_deq.verify.unmodelled import withhold

Array = np.ndarray
PERCENT = 100.0
NUMERIC_IMAGES = 16
TIGHT = 1e-8


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Everything measured: the measurements to be judged, and what the report draws and lists.

    ``score`` is the task's score in ngspice on all test samples; ``outputs`` (images, outputs) the readout's there.
    ``found`` is what the further checks of the sheet found.
    """

    measurements: tuple[Measurement, ...]
    equilibria: SweepResult
    proxy: ProxyStates
    score: Score | None
    outputs: Array
    transients: tuple[Settling, ...]
    noise: tuple[NoiseResult, ...]
    dies: tuple[DieResult, ...]
    samples: pd.DataFrame
    found: tuple[Found, ...] = ()

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Tables of the further checks by name."""
        return {name: table for found in self.found for name, table in found.tables.items()}

    @property
    def sections(self) -> tuple[Section, ...]:
        """Sections of the further checks."""
        return tuple(section for found in self.found for section in found.sections)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """Figures of the further checks."""
        return tuple(drawing for found in self.found for drawing in found.drawings)


def verify_network(
    design: DesignSpec,
    proxy: ProxyParameters,
    plan: CalibrationPlan,
    checkpoint: Checkpoint,
    cells: NeuronCells,
    task: Task,
    limits: Limits,
    bed: Bed,
    progress: Progress,
    *,
    flat: bool = False,
) -> VerifyResult:
    """Equilibria of all test images, transients, noise, anchor and dies of a checkpoint, in ngspice.

    Then the further checks that ``limits`` lists (:mod:`analog_deq.verify.registry`).

    Where the synapses bend, equilibria come from the reduced deck with the cells' own currents
    (:mod:`analog_deq.verify.bent`); transients, noise and the anchor from the flat one.
    """
    bends = not proxy.synapse.linear
    model = DeployedNetwork.nominal(design, proxy, checkpoint.g_pos, checkpoint.g_neg, checkpoint.r_feedback_share)
    readout = Readout(
        as_tensor(checkpoint.readout_weight), as_tensor(checkpoint.readout_bias), design.converters.adc_bits
    )
    network = LoweredNetwork.nominal(
        design, cells, checkpoint.g_pos, checkpoint.g_neg, bed.simulator.klu, proxy, checkpoint.r_feedback_share
    )
    x = task.x_test
    solved = model.solve(x, domain_share=None)
    reading, inputs = solved.reading.numpy(), model.inputs(x).numpy()
    right = None
    if not task.regression:
        right = float((readout.predict(solved.reading) == task.y_test).double().mean())
    for need in needs(limits, design.verify, len(x), right):
        progress.note(need.statement())
    progress.note(f"equilibria of {len(x)} test images")
    everything = Sweep(network, inputs, solved.h.numpy())
    settler = Settler(model, flat, bends)
    equilibria = settler.settle([everything], [x], bed, progress)[0]
    if not (flat or bends):
        (equilibria,) = with_exact_supply([everything], [equilibria], bed, progress)
    measurements = compare.fixed_points(equilibria, reading, design.seed)
    measurements.append(compare.residual(equilibria, model, x))
    measurements += _answers(task, equilibria, reading, readout, design.seed)
    measurements += _numeric_and_anchor(everything, x, equilibria, settler, bed, progress, proxy.synapse)
    rng = generator(design.seed, Stream.VERIFY_CHOICE, 10**6)
    usable = np.flatnonzero(equilibria.ok)
    images = np.sort(rng.choice(usable, min(design.verify.transients, len(usable)), replace=False))
    noisy = images[: design.verify.noise_images] if len(images) else np.array([0])
    progress.note(f"transients of {len(images)} images from rest")
    transients = run_transients(
        network, model, x, images, equilibria.states.z, equilibria.states.ports_v, bed, progress, flat=flat or bends
    )
    measurements += compare.settling(transients, design.verify.settle_tolerance_fs)
    progress.note("noise of the whole network")
    # a reduced array has the thermal noise of its conductances; synapses with more are simulated one by one
    full_noise = flat or bends or not proxy.synapse.thermal
    noise = tuple(run_noise(network, model, x, int(i), bed, progress, flat=full_noise) for i in noisy)
    measurements.append(compare.noise(noise))
    progress.note(f"{design.verify.dies} mismatch dies, with and without trim")
    trim_images = generator(design.seed, Stream.VERIFY_CHOICE, 10**6 + 1).choice(
        len(task.x_train), design.verify.trim_images, replace=False
    )

    def simulate(chosen: range) -> list[DieResult]:
        return run_dies(network, model, x, task.x_train[trim_images], chosen, bed, progress, flat=flat)

    def passing(ran: Sequence[DieResult]) -> dict[str, Array]:
        if task.regression:
            return regression.passing_dies(ran, task, readout, design.verify.die_max_rel_err)
        return compare.passing_dies(ran, readout, task.y_test.numpy(), reading, design.verify.die_max_drop)

    plans = stopping_plans(limits, design.verify.dies)
    least = limits.campaign.corner_dies
    dies, decided = run_until_decided(simulate, passing, plans, design.verify.dies, progress, least=least)
    measurements += with_decisions(_dies(task, dies, readout, equilibria.states.z, reading, design), decided)
    measurements.append(_extracted_die(network, model, plan, dies[0], x, bed, progress))
    measurements += _model_checks(proxy, model, solved, checkpoint)
    found = run_checks(
        SheetRun(
            design, proxy, plan, checkpoint, cells, task, limits, bed, progress, flat, model, readout, network, settler,
            inputs, solved, equilibria, tuple(transients), noise, tuple(dies),
        )
    )  # fmt: skip
    measurements += [m for part in found for m in part.measurements]
    measurements.append(_failed(equilibria, transients, noise, dies, found))
    drawn = any(np.any(sigma) for sigma in neuron_sigmas(cells, design.mismatch).values())
    drawn = drawn or any(cells.synapse.mismatch_sigmas.values())
    judgeable = withhold(measurements, proxy.not_modelled, drawn=drawn)
    samples = sample_table(task, equilibria, reading, dies, readout)
    if "power" in proxy.not_modelled:
        samples["supply_w"] = np.nan  # what some cells draw is not what the network draws
    outputs = readout.outputs(as_tensor(equilibria.states.z)).numpy()
    score = spice_score(task, equilibria, outputs)
    return VerifyResult(
        tuple(judgeable), equilibria, solved, score, outputs, tuple(transients), noise, tuple(dies), samples,
        tuple(found),
    )  # fmt: skip


def _answers(task: Task, equilibria: SweepResult, reading: Array, readout: Readout, seed: int) -> list[Measurement]:
    if task.regression:
        return regression.errors(equilibria, reading, task, readout, seed)
    return compare.labels(equilibria, reading, readout, task.y_test.numpy(), seed)


def _dies(
    task: Task, dies: list[DieResult], readout: Readout, nominal: Array, reading: Array, design: DesignSpec
) -> list[Measurement]:
    if task.regression:
        found = regression.dies(dies, task, readout, design.verify.die_max_rel_err)
    else:
        y = task.y_test.numpy()
        found = compare.accuracy_dies(dies, readout, y, nominal, reading, design.verify.die_max_drop)
        found.append(compare.drop_over_dies(dies, readout, y, reading, design.seed))
    return [*found, compare.die_states(dies, nominal, found[0].worst)]


def _numeric_and_anchor(
    everything: Sweep,
    x: Tensor,
    loose: SweepResult,
    settler: Settler,
    bed: Bed,
    progress: Progress,
    synapse: SynapseLaw,
) -> list[Measurement]:
    """Tighter tolerance on a few images, and the other deck of the very network, flat or reduced, at that tolerance.

    Where everything ran flat although the synapse bends, the reduced deck is not the network: the difference is shown,
    and not judged.
    """
    design = everything.die.design
    usable = np.flatnonzero(loose.ok)
    if not len(usable):
        return [
            Measurement(name, None, "%FS", 0, detail="no equilibrium") for name in ("run.numeric", "net.anchor_err")
        ]
    few = usable[np.linspace(0, len(usable) - 1, min(NUMERIC_IMAGES, len(usable))).round().astype(int)]
    part = replace(everything, x=everything.x[few], h=everything.h[few])
    progress.note("tolerance check and flat anchor")
    linear_only = settler.flat and not synapse.linear
    chosen = x[as_tensor(few)]
    near = Settler(settler.model, linear_only, settler.bends)
    tight = near.settle([part], [chosen], bed, progress, reltol=TIGHT)[0]
    anchors = min(design.verify.anchor_images, len(few))
    first = replace(part, x=part.x[:anchors], h=part.h[:anchors])
    anchor = run_sweeps([first], bed, progress, flat=not linear_only, reltol=TIGHT)[0]
    result = []
    for name, images, a, b in (
        ("run.numeric", few, tight, loose.states.z[few]),
        ("net.anchor_err", few[:anchors], anchor, tight.states.z[:anchors]),
    ):
        both = a.ok & np.isfinite(b).all(axis=1)
        value = PERCENT * float(np.abs(a.states.z - b)[both].max()) if both.any() else None
        detail = f"images {', '.join(map(str, images[:4]))}{' ...' if len(images) > 4 else ''}"
        result.append(Measurement(name, value, "%FS", len(images), detail=detail, failed_samples=int(np.sum(~both))))
    if linear_only:
        why = f"the synapse bends by {PERCENT * synapse.bend:.2g} % within {synapse.reach_v:g} V"
        why += ", so every image ran on the full netlist; shown is what the linear equivalent would have missed"
        result[1] = replace(result[1], unjudged="info", detail=f"{why}; {result[1].detail}")
    return result


def _extracted_die(
    network: LoweredNetwork,
    model: DeployedNetwork,
    plan: CalibrationPlan,
    die: DieResult,
    x: Tensor,
    bed: Bed,
    progress: Progress,
) -> Measurement:
    """Fixed-point error of the proxy given what was measured at one die's own terminals."""
    progress.note(f"proxy of die {die.die} from its own measurements")
    name, detail = "net.die_fixed_point_err", f"die {die.die}, untrimmed"
    try:
        drawn = draw_die(network, die.die)
        own = extracted_model(drawn, model, plan, bed, progress)
        solved = own_states(drawn, own, x[die.images], bed, progress)
    except SimulationError as problem:
        detail = f"die {die.die} could not be measured: {problem.reason}"
        return Measurement(name, None, "%FS", len(die.images), detail=detail, failed_samples=len(die.images))
    ok = die.untrimmed.ok
    error = PERCENT * (solved.reading.numpy() - die.untrimmed.states.z)[ok]
    value = float(np.sqrt(np.mean(error**2))) if ok.any() else None
    return Measurement(name, value, "%FS", len(ok), detail=detail, failed_samples=int(np.sum(~ok)))


def _model_checks(
    proxy: ProxyParameters, model: DeployedNetwork, solved: ProxyStates, checkpoint: Checkpoint
) -> list[Measurement]:
    outside, goodness = model.extrapolated(solved.h), proxy.activation.goodness
    share = PERCENT * float(outside.double().mean())
    return [
        *compare.certificate(checkpoint.certificate, model.design.certificate.weight_class),
        Measurement(
            "fit.residual_max", PERCENT * goodness.held_out, "%FS", goodness.n_held_out, detail="activation, rms"
        ),
        Measurement("fit.extrapolation", share, "%", outside.numel(), detail="states of the test images"),
    ]


def _failed(
    equilibria: SweepResult,
    transients: list[Settling],
    noise: tuple[NoiseResult, ...],
    dies: list[DieResult],
    found: list[Found],
) -> Measurement:
    failed = (
        int(np.sum(~equilibria.ok)) + sum(t.status != "ok" for t in transients) + sum(r.status != "ok" for r in noise)
    )
    failed += sum(int(np.sum(~r.untrimmed.ok)) + int(np.sum(~r.trimmed.ok)) for r in dies)
    failed += sum(part.failed for part in found)
    total = len(equilibria.status) + len(transients) + len(noise) + sum(2 * len(r.images) for r in dies)
    total += sum(part.simulated for part in found)
    return Measurement("run.failed", float(failed), "", total, detail="simulations without a valid result")
