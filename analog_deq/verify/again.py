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
from torch import as_tensor

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.bent import Settler
from analog_deq.verify.dies import die_images, draw_die, needs_reading, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.samples import sample_frame
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep

Array = np.ndarray
NOMINAL = -1
TRIMMED = "trimmed"


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
        net, x = self.checkpoint, self.task.x_test
        model = DeployedNetwork.nominal(self.design, self.proxy, net.g_pos, net.g_neg, net.r_feedback_share)
        readout = Readout(
            as_tensor(net.readout_weight), as_tensor(net.readout_bias), self.design.converters.adc_bits
        )  # fmt: skip
        solved = model.solve(x, domain_share=None)
        images = np.arange(len(x)) if die == NOMINAL else die_images(self.design, len(x), die)
        inputs, h = model.inputs(x).numpy(), solved.h.numpy()
        sweep = Sweep(self._nominal(), inputs[images], h[images])
        settler = Settler(model, self.flat, not self.proxy.synapse.linear)
        settled = self._settle(sweep, settler, die, trim, x[torch.as_tensor(images)])
        rows = sample_frame(self.task, readout, solved.reading.numpy(), die, trim, images, settled)
        if "power" in self.proxy.not_modelled:
            rows["supply_w"] = np.nan
        return rows

    def _settle(self, sweep: Sweep, settler: Settler, die: int, trim: str, x: torch.Tensor) -> SweepResult:
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
