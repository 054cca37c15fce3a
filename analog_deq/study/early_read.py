"""Reading before the circuit has settled: training for a read time, and what that costs.

The state is read a fixed time after the inputs step, from rest. A network trained at its equilibria is read too early;
one trained on the state at the read time (backpropagation through the trajectory) is not, and gives up its equilibrium.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.equilibrium.dynamics import Dynamics, trajectory
from analog_deq.equilibrium.readout import read_at
from analog_deq.errors import SimulationError
from analog_deq.fit.forms import closed_loop_tau
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.spec import DesignSpec
from analog_deq.study.lab import Deployment, Lab
from analog_deq.study.plan import READ_TIMES_TAU, REFIT_SAMPLES
from analog_deq.train.deployed import DeployedNetwork, refit_readout
from analog_deq.train.loop import train_network
from analog_deq.train.models import HOLD_STEPS, RANGE_MARGIN, States
from analog_deq.train.network import Network
from analog_deq.train.scoring import RIDGE, deploy, network_readout

TRAIN_STEPS_PER_TAU, TEST_STEPS_PER_TAU = 4, 20


def tau_of(design: DesignSpec) -> float:
    """The nominal time constant R_F C_F in s, the unit of read times."""
    return design.neuron.r_feedback_ohm * design.neuron.c_feedback_f


class WindowModel(nn.Module):
    """The fitted circuit read ``read_tau`` time constants after its inputs step, from rest; a training model.

    Without mismatch draws and read noise.
    """

    def __init__(self, design: DesignSpec, proxy: ProxyParameters, read_tau: float) -> None:
        super().__init__()
        self.design, self.proxy, self.read_tau = design, proxy, read_tau
        self.act = TableActivation.nominal(proxy.activation)
        self.max_slope = float(self.act.max_slope)
        self.mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Quantised reading at the read time."""
        g_pos, g_neg = self.proxy.synapse.seen(torch.stack(self.mapping.program(network.weights())))
        effective = linear_map(self.design, self.proxy, g_pos, g_neg, checked=step % HOLD_STEPS == 0)
        x_read = quantise(x, self.design.converters.dac_bits)
        u = x_read @ effective.w_input.T + effective.bias
        tau = closed_loop_tau(effective.load, *tau_coefficients(self.proxy.tau))
        unit = tau_of(self.design)
        path = trajectory(
            effective.w_state, u, self.act, Dynamics(tau), t_end_s=self.read_tau * unit,
            dt_s=unit / TRAIN_STEPS_PER_TAU, keep_from_s=self.read_tau * unit,
        )  # fmt: skip
        limit = RANGE_MARGIN * min(-self.act.start, self.proxy.activation.end)
        penalty = torch.relu(path.h.value[-1].abs() - limit).square().mean()
        z = path.z.value[-1]
        return States(quantise(effective.readout(z, x_read), self.design.converters.adc_bits), penalty)


@dataclass(frozen=True, slots=True)
class EarlyErrors:
    """Errors on the test samples by read time, ``READ_TIMES_TAU`` then the equilibrium; ``refit`` with a new readout.

    The readout is refitted on 400 training samples of the nominal proxy read at the same time.
    """

    raw: tuple[float, ...]
    refit: tuple[float, ...]


def window_network(lab: Lab, read_tau: float) -> Network:
    """The network trained for one read time from the methods' common start, as many steps as every method."""

    def make() -> Network:
        model = WindowModel(lab.design, lab.hardware.proxy, read_tau)
        return train_network(
            lab.design, lab.task, model, start=lab.trained("start"), label=f"read at {read_tau:g} tau",
            progress=lab.progress,
        )[0]  # fmt: skip

    return lab.kept(f"window_{read_tau:g}", "proxy", make)


def early_errors(lab: Lab, network: Network) -> EarlyErrors:
    """Errors of a network on the nominal proxy at every read time and at equilibrium."""
    design, task = lab.design, lab.task
    model = deploy(design, lab.hardware.proxy, network)
    few = slice(REFIT_SAMPLES)
    train = [*readings_over_time(model, task.x_train[few]), model.solve(task.x_train[few], domain_share=None).reading]
    test = [*readings_over_time(model, task.x_test), model.solve(task.x_test, domain_share=None).reading]
    own, bits = network_readout(design, network), design.converters.adc_bits
    raw, refit = [], []
    for seen, read in zip(train, test, strict=True):
        fitted = refit_readout(seen, task.y_train[few], bits, RIDGE[task.kind])
        raw.append(task.score(own.outputs(read), task.y_test).value)
        refit.append(task.score(fitted.outputs(read), task.y_test).value)
    return EarlyErrors(tuple(raw), tuple(refit))


def readings_over_time(model: DeployedNetwork, x: Tensor) -> list[Tensor]:
    """Readings (samples, N) at each of ``READ_TIMES_TAU`` on the proxy, from rest."""
    unit, tau = tau_of(model.design), model.tau_s
    with torch.no_grad():
        path = trajectory(
            model.w_state, model.drive(x), model.act, Dynamics(tau), t_end_s=max(READ_TIMES_TAU) * unit,
            dt_s=float(tau.min()) / TEST_STEPS_PER_TAU,
        )  # fmt: skip
        states = [read_at(path.z, time * unit).value for time in READ_TIMES_TAU]
    inputs = model.inputs(x).numpy()
    return [torch.as_tensor(model.map.readout(z.numpy(), inputs)) for z in states]


def spot_check(lab: Lab, deployment: Deployment, read_tau: float, samples: int) -> tuple[float, float, float]:
    """Largest |reading in ngspice - on the proxy| over all read times, then both errors when read at ``read_tau``.

    Of the first test samples, by one ngspice transient each, from rest. SimulationError when the deck fails.
    """
    x, y = lab.task.x_test[:samples], lab.task.y_test[:samples]
    unit, place = tau_of(lab.design), READ_TIMES_TAU.index(read_tau)
    verify = lab.design.verify.model_copy(update={"transient_window_s": 1.01 * max(READ_TIMES_TAU) * unit})
    lowered = replace(lab.lowered(deployment), design=lab.design.model_copy(update={"verify": verify}))
    model = lab.nominal(deployment)
    inputs = model.inputs(x).numpy()
    deck = lowered.transients(inputs, lab.hardware.proxy.integrator.values["s0_v"], points=400, reltol=1e-5)
    (outcome,) = lab.bed.run([deck], lab.progress)
    if outcome.run is None:
        raise outcome.error or SimulationError(outcome.status)
    times = np.array(READ_TIMES_TAU) * unit
    found = np.empty((len(times), samples, lab.design.sizes.states))
    for k, plot in enumerate(outcome.run.plots):
        time, reading, _ = lowered.read_trajectory(plot, inputs[k])
        for i, column in enumerate(reading.T):
            found[:, k, i] = np.interp(times, time, column)
    spice, proxy = torch.as_tensor(found), torch.stack(readings_over_time(model, x))
    errors = [lab.task.score(deployment.readout.outputs(part[place]), y).value for part in (spice, proxy)]
    return float((spice - proxy).abs().max()), errors[0], errors[1]
