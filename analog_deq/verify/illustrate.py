"""The figures of a report, from what a verification measured."""

from __future__ import annotations

import numpy as np
import torch

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.activation import numpy_activation
from analog_deq.spec import DesignSpec
from analog_deq.tables import CalibrationTable
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Score, Task
from analog_deq.verify import compare, regression
from analog_deq.verify.campaign import PERCENT, VerifyResult
from analog_deq.verify.limits import Limits
from analog_deq.verify.report.figures import (
    DieScores,
    FixedPointScatter,
    NoiseSpectrum,
    OutputScatter,
    ReportFigures,
    ScoreLadder,
    SettlingTrace,
    TransferCurve,
    YieldCurve,
)

NODES_SHOWN = 8
YIELD = "net.yield_mismatch"


def figures(
    result: VerifyResult,
    design: DesignSpec,
    proxy: ProxyParameters,
    checkpoint: Checkpoint,
    task: Task,
    transfer: CalibrationTable | None,
    limits: Limits,
) -> ReportFigures:
    """Every figure that the run supports; one that it does not is named in ``missing`` with its reason."""
    missing: dict[str, str] = {}
    readout = Readout(
        torch.as_tensor(checkpoint.readout_weight), torch.as_tensor(checkpoint.readout_bias), design.converters.adc_bits
    )
    ok = result.equilibria.ok
    reading = result.proxy.reading.numpy()
    fixed_point = None
    if ok.any():
        how = "Nominal circuit, .dc sweeps over the image index in ngspice"
        fixed_point = FixedPointScatter(result.equilibria.states.z[ok], reading[ok], how=how)
    else:
        missing["fixed_point"] = "no equilibrium was simulated"
    settling = _settling(result, design, missing)
    spectrum = None
    noise = next((r for r in result.noise if r.status == "ok"), None)
    if noise is not None:
        unit = 2 * design.neuron.z_unit_v
        spectrum = NoiseSpectrum(
            noise.frequency_hz, noise.density * unit, noise.rms_spice * unit,
            noise.rms_proxy * unit, tuple(f"z{k}" for k in noise.nodes),
            how=f"From .noise of the whole network at test image {noise.image}; prediction: Lyapunov equation",
        )  # fmt: skip
    else:
        missing["noise"] = result.noise[0].status
    dies = _die_scores(result, design, task, readout)
    answers = _answers(result, task) if task.regression else None
    curve = None
    if transfer is None:
        missing["transfer"] = "the calibration tables of this proxy were not at hand"
    else:
        curve = _transfer(transfer, design, proxy)
    return ReportFigures(
        fixed_point,
        settling,
        curve,
        spectrum,
        dies,
        _ladder(result, checkpoint, task),
        answers,
        _yields(result, design, task, readout, limits),
        missing,
    )


def _die_scores(result: VerifyResult, design: DesignSpec, task: Task, readout: Readout) -> DieScores:
    reading, count = result.proxy.reading.numpy(), len(result.dies[0].images)
    if task.regression:
        untrimmed, trimmed = regression.die_errors(result.dies, task, readout)
        return DieScores(
            untrimmed, trimmed, PERCENT * design.verify.die_max_rel_err,
            regression.rms(regression.reading_errors(task, readout, reading)),
            how=f"Each die on its own {count} test samples; software is the proxy on all of them",
            x_label="relative error (%)", lower_is_better=True,
        )  # fmt: skip
    untrimmed, trimmed = compare.die_accuracy(result.dies, readout, task.y_test.numpy())
    own = compare.software_accuracy(result.dies, readout, task.y_test.numpy(), reading)
    return DieScores(
        untrimmed - own, trimmed - own, -PERCENT * design.verify.die_max_drop, 0.0,
        how=f"Each die on its own {count} test images, beside software on the same images",
        x_label="accuracy minus software's (points)", unit="points",
    )  # fmt: skip


def _yields(
    result: VerifyResult, design: DesignSpec, task: Task, readout: Readout, limits: Limits
) -> YieldCurve | None:
    row, verify = limits.row(YIELD), design.verify
    if row is None or row.judge != "yield" or row.min is None or not 0 < row.min < PERCENT:
        return None
    if task.regression:
        passes = regression.passing_dies(result.dies, task, readout, verify.die_max_rel_err)
    else:
        reading = result.proxy.reading.numpy()
        passes = compare.passing_dies(result.dies, readout, task.y_test.numpy(), reading, verify.die_max_drop)
    return YieldCurve(passes[YIELD], row.min, row.confidence, how="Trimmed dies in the order of their numbers")


def _answers(result: VerifyResult, task: Task) -> OutputScatter:
    how = "Nominal circuit, test samples never trained on"
    return OutputScatter(task.y_test.numpy(), result.outputs, task.scale, how=how)


def _ladder(result: VerifyResult, checkpoint: Checkpoint, task: Task) -> ScoreLadder:
    scores: dict[str, Score] = dict(checkpoint.scores)
    simulated: tuple[str, ...] = ()
    if result.score is not None:
        simulated = ("ours, in ngspice",)
        scores[simulated[0]] = result.score
    rungs = {name: (PERCENT * s.value, PERCENT * s.low, PERCENT * s.high) for name, s in scores.items()}
    interval = "bootstrap" if task.regression else "Wilson"
    what = "Samples" if task.regression else "Images"
    return ScoreLadder(
        rungs, len(task.y_test), simulated, how=f"{what} never trained on, {interval} intervals, one training seed",
        lower_is_better=task.regression,
    )  # fmt: skip


def _settling(result: VerifyResult, design: DesignSpec, missing: dict[str, str]) -> SettlingTrace | None:
    slow = [r for r in result.transients if r.status == "ok" and r.trace is not None]
    if not slow:
        missing["settling"] = "no transient settled"
        return None
    worst = max(slow, key=lambda r: r.t_spice_s)
    assert worst.trace is not None
    t, z, proxy = worst.trace
    inside = np.abs(z - z[-1]) <= design.verify.settle_tolerance_fs
    last_exit = np.where(inside.all(axis=0), 0, len(t) - np.argmin(inside[::-1], axis=0))
    shown = np.argsort(-last_exit)[:NODES_SHOWN]
    until = t <= min(t[-1], 1.6 * worst.t_spice_s)
    return SettlingTrace(
        t[until], z[until][:, shown], proxy[until][:, shown], design.verify.settle_tolerance_fs, worst.t_spice_s,
        how=f"Slowest of {len(slow)} transients from rest (test image {worst.image}), "
        f"the {len(shown)} slowest of its {z.shape[1]} nodes",
    )  # fmt: skip


def _transfer(transfer: CalibrationTable, design: DesignSpec, proxy: ProxyParameters) -> TransferCurve:
    rows = transfer.valid
    rows = rows[rows["driver_load"] == 0]
    loads = sorted(rows["load"].unique())
    middle = rows[rows["load"] == loads[len(loads) // 2]].sort_values("v", ascending=False)
    h = (-middle["v"] / design.neuron.v_unit_v).to_numpy()
    z = ((middle["zp"] - middle["zn"]) / (2 * design.neuron.z_unit_v)).to_numpy()
    held = np.arange(len(h)) % 2 == 1
    return TransferCurve(
        h, z, numpy_activation(proxy.activation, h), held, limit_percent_fs=None,
        how=f"A .dc sweep of the neuron in ngspice, {len(h)} points",
    )  # fmt: skip
