"""One die of a sign-off simulated again, whole: every sample of it as the campaign had it, digit for digit.

ngspice walks from image to image, so the last digits of an equilibrium hang on the images before it. A sample is
therefore simulated again in the sweep it was part of: the nominal circuit with all test images, or a die with its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, as_tensor

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Progress
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, ProxyStates, Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.bent import Settler
from analog_deq.verify.corner_campaign import corner_campaign, corner_table
from analog_deq.verify.dies import DieResult, die_images, draw_die, needs_reading, read_dies
from analog_deq.verify.limits import Limits
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.samples import sample_frame
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep

Array = np.ndarray
NOMINAL = -1
TRIMMED = "trimmed"


@dataclass(frozen=True, slots=True)
class _Base:
    """What every sweep starts from: test inputs, what the DACs and the proxy make of them, and who settles them."""

    x: Tensor
    inputs: Array
    solved: ProxyStates
    readout: Readout
    settler: Settler


@dataclass(frozen=True, slots=True)
class Again:
    """A network as its sign-off had it. ``trims`` are each die's trim currents (N,) in amperes."""

    design: DesignSpec
    proxy: ProxyParameters
    checkpoint: Checkpoint
    cells: NeuronCells
    task: Task
    flat: bool
    trims: Mapping[int, Array]
    bed: Bed
    progress: Progress

    def samples(self, die: int, trim: str) -> pd.DataFrame:
        """The rows of ``samples.csv`` of one die (-1: the nominal circuit), without or with its trim."""
        base = self._base()
        images = np.arange(len(base.x)) if die == NOMINAL else die_images(self.design, len(base.x), die)
        settled = self._settle(base, images, die, trim)
        rows = sample_frame(self.task, base.readout, base.solved.reading.numpy(), die, trim, images, settled)
        if "power" in self.proxy.not_modelled:
            rows["supply_w"] = np.nan
        return rows

    def corners(self, corner: str, die: int, plan: CalibrationPlan, limits: Limits) -> pd.DataFrame:
        """The rows of ``corners.csv`` of one corner and die (-1: the nominal circuit), and those it needs."""
        base, model = self._base(), self._model()
        dies: tuple[DieResult, ...] = ()
        everything = np.arange(len(base.x))
        nominal = self._settle(base, everything, NOMINAL, "none")
        if die != NOMINAL:  # of a die at a corner, only its number and its trim matter
            dies = (DieResult(die, everything, nominal, nominal, self.trims[die], 0),)
        campaign = limits.campaign.model_copy(update={"corners": (corner,), "corner_dies": len(dies)})
        run = SheetRun(
            self.design, self.proxy, plan, self.checkpoint, self.cells, self.task,
            limits.model_copy(update={"campaign": campaign}), self.bed, self.progress, self.flat, model, base.readout,
            self._nominal(), base.settler, base.inputs, base.solved, nominal, (), (), dies,
        )  # fmt: skip
        return corner_table(run, corner_campaign(run))

    def _model(self) -> DeployedNetwork:
        net = self.checkpoint
        return DeployedNetwork.nominal(self.design, self.proxy, net.g_pos, net.g_neg, net.r_feedback_share)

    def _base(self) -> _Base:
        net, x, model = self.checkpoint, self.task.x_test, self._model()
        bits = self.design.converters.adc_bits
        readout = Readout(as_tensor(net.readout_weight), as_tensor(net.readout_bias), bits)
        settler = Settler(model, self.flat, not self.proxy.synapse.linear)
        return _Base(x, model.inputs(x).numpy(), model.solve(x, domain_share=None), readout, settler)

    def _settle(self, base: _Base, images: Array, die: int, trim: str) -> SweepResult:
        sweep = Sweep(self._nominal(), base.inputs[images], base.solved.h.numpy()[images])
        settler, x = base.settler, base.x[torch.as_tensor(images)]
        if die == NOMINAL:
            result = settler.settle([sweep], [x], self.bed, self.progress)[0]
            exact = not (settler.flat or settler.bends)
            return with_exact_supply([sweep], [result], self.bed, self.progress)[0] if exact else result
        network = draw_die(sweep.die, die)
        if needs_reading(sweep.die) and not self.flat:
            (network,), lost = read_dies([network], self.bed, self.progress)
            if lost:
                return failed_sweep(sweep, lost[0])
        trim_a = self.trims[die] if trim == TRIMMED else None
        return settler.settle([replace(sweep, die=replace(network, trim_a=trim_a))], [x], self.bed, self.progress)[0]

    def _nominal(self) -> LoweredNetwork:
        net, klu = self.checkpoint, self.bed.simulator.klu
        return LoweredNetwork.nominal(
            self.design, self.cells, net.g_pos, net.g_neg, klu, self.proxy, net.r_feedback_share
        )
