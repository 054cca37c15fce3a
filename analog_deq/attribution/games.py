"""The games whose players are causes: what is read with some of them on, against what would be read with none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.causes import TRIM_STEP, Cause, switched_off
from analog_deq.attribution.dies import DieNetwork
from analog_deq.attribution.setting import Setting
from analog_deq.attribution.shapley import Array, Value
from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.dynamics import Dynamics, trajectory
from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.equilibrium.readout import read_at, read_window
from analog_deq.proxy.mapping import quantise
from analog_deq.train.tasks.task import Task
from analog_deq.train.timing import STEPS_PER_TAU

PERCENT = 100.0
READS = 8
"""Noisy reads an image when noise is a cause; even."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What an error costs: squared distance of the states in %FS^2, and the task's loss.

    The loss of a label is 100 where it is wrong, so that means are points; of a regression the squared relative error
    in %^2. ``weight`` (outputs, N) and ``bias`` (outputs,) are the digital readout's.
    """

    task: Task
    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor, reading: Tensor, reference: Tensor, y: Tensor) -> Array:
        """(..., images, 2) of states (..., images, N) and of what the readout is given, against ``reference``."""
        state = PERCENT**2 * (states - reference).square().mean(-1)
        outputs = reading @ self.weight.T + self.bias
        if self.task.regression:
            lost = PERCENT**2 * ((outputs - y) / self.task.scale).square().mean(-1)
        else:
            lost = PERCENT * (outputs.argmax(-1) != y).to(state.dtype)
        return np.stack([state.numpy(), lost.numpy()], axis=-1)


def design_value(setting: Setting, causes: Sequence[Cause], judge: Judge, x: Tensor, y: Tensor) -> Value:
    """Game of nominal imperfections: equilibria with some on, against those with none; an image a row."""
    ideal = switched_off(setting, *causes)
    reference = ideal.nominal().solve(x).reading
    bits = setting.design.converters.adc_bits

    def value(on: frozenset[str]) -> Array:
        some = switched_off(setting, *(cause for cause in causes if cause.name not in on))
        reading = some.nominal().solve(x).reading
        return judge(reading, quantise(reading, bits), reference, y)

    return value


def die_value(
    dies: DieNetwork, causes: Sequence[Cause], judge: Judge, x: Tensor, y: Tensor, reference: Tensor, *,
    trimmed: bool = True,
) -> Value:  # fmt: skip
    """Game of what differs from die to die: trimmed dies against the nominal network's ``reference``; a die a row.

    ``x`` (D, images, M), ``y`` (D, images, ...) and ``reference`` (D, images, N) are each die's own images.
    """
    bits = dies.setting.design.converters.adc_bits
    start = dies.setting.nominal().solve(x.flatten(0, 1)).z.reshape(*x.shape[:2], -1)

    def value(on: frozenset[str]) -> Array:
        coarse = TRIM_STEP.name in on or all(cause.name != TRIM_STEP.name for cause in causes)
        reading = dies.readings(on - {TRIM_STEP.name}, x, fine_trim=not coarse, trimmed=trimmed, start=start)
        return judge(reading, quantise(reading, bits), reference, y).mean(axis=1)

    return value


@dataclass(frozen=True, slots=True)
class ReadNetwork:
    """Reading the nominal network once, at a time: trajectories from rest and noise of its images ``x`` (images, M).

    ``tau_share`` (images, N) are relative errors of the time constants, those of C_F on some die.
    """

    setting: Setting
    x: Tensor
    tau_share: Array
    seed: int
    reads: int = READS

    def states(self, setting: Setting, spread: bool) -> Tensor:
        """Readings (images, N) when ``setting`` says, without noise; ``spread``: with the errors of C_F."""
        loop = setting.nominal()
        inputs = quantise(self.x, loop.dac_bits)
        if setting.read_s is None:
            return loop.solve(self.x).reading
        share = 1 + self.tau_share if spread else np.ones_like(self.tau_share)
        tau = torch.as_tensor(setting.tau_s(loop.load.numpy()) * share)
        delay, window = setting.proxy.tau.values["delay_s"], setting.design.training.read_window_s or 0.0
        start = max(setting.read_s - delay, 0.0)
        slew = None if setting.slew_v_per_s is None else setting.slew_v_per_s / setting.design.neuron.v_unit_v
        u = loop.drive(inputs)
        with torch.no_grad():
            # images are draws of one sample each: every one has time constants of its own
            path = trajectory(
                loop.w_state.expand(len(u), -1, -1), u[:, None], loop.act, Dynamics(tau, slew_per_s=slew),
                t_end_s=max(start + window, float(tau.min())), dt_s=float(tau.min()) / STEPS_PER_TAU,
                keep_from_s=start,
            )  # fmt: skip
            z = (read_window(path.z, start, window) if window else read_at(path.z, start)).value[:, 0]
            return loop.read(z, inputs)

    def noise(self, setting: Setting) -> Tensor:
        """Noise (reads, images, N) of each read, of the full network at its equilibria."""
        loop, proxy = setting.nominal(), setting.proxy
        with torch.no_grad():
            slope = loop.act.slope(loop.solve(self.x).h)
            tau = torch.as_tensor(setting.tau_s(loop.load.numpy()))
            share = None if setting.share is None else torch.as_tensor(setting.share)
            covariance = network_covariance(
                setting.design, proxy, loop.w_state, loop.load.numpy(), slope, tau,
                window_s=setting.design.training.read_window_s or 0.0, share=share,
            )  # fmt: skip
            source = torch.Generator().manual_seed(int(generator(self.seed, Stream.ATTRIBUTION, 10**6).integers(2**31)))
            z = torch.stack([sample_noise(covariance, source) for _ in range(self.reads // 2)])
            # each read with its mirror image: what noise does to other errors to first order cancels, as on average
            return torch.cat([z, -z]) @ loop.r_state.mT


def read_value(network: ReadNetwork, causes: Sequence[Cause], judge: Judge, y: Tensor) -> Value:
    """Game of one read: readings against the nominal equilibrium's; an image a row.

    Whatever acts through time is worked out once for each combination of the causes in time; noise once.
    """
    setting = network.setting
    timed = [cause for cause in causes if cause.name not in ("noise", "ADC")]
    spread = {cause.name for cause in causes if cause.name in ("c_feedback", "tau")}
    reference = replace(setting, read_s=None)
    target = network.states(reference, False)
    noise = network.noise(setting) if any(cause.name == "noise" for cause in causes) else None
    known: dict[frozenset[str], Tensor] = {}

    def at_read(on: frozenset[str]) -> Tensor:
        if "settling window" not in on:
            return target
        key = frozenset(cause.name for cause in timed if cause.name in on)
        if key not in known:
            some = switched_off(setting, *(cause for cause in timed if cause.name not in on))
            known[key] = network.states(some, bool(spread & on))
        return known[key]

    def value(on: frozenset[str]) -> Array:
        reading = at_read(on)[None]
        if noise is not None and "noise" in on:
            reading = reading + noise
        read = quantise(reading, setting.design.converters.adc_bits) if "ADC" in on else reading
        return judge(read, read, target, y).mean(axis=0)

    return value
