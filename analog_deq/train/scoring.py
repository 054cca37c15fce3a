"""A trained network programmed into the nominal proxy, and its score on the held-out samples."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import DeployedNetwork, Readout, refit_readout
from analog_deq.train.models import Model
from analog_deq.train.network import Network
from analog_deq.train.tasks import Score, Task

REFIT_SAMPLES = 400
"""Samples a regression's readout is refitted on, as many as one would measure."""
RIDGE = {"classification": 1e-2, "regression": 1e-4}
"""Relative to the mean power of a reading; labels are told apart well before they are fitted well."""


def network_readout(design: DesignSpec, network: Network) -> Readout:
    """The network's own readout behind the design's ADCs."""
    return Readout(network.readout.detach(), network.readout_bias.detach(), design.converters.adc_bits)


def programmed(design: DesignSpec, proxy: ProxyParameters, network: Network) -> tuple[Tensor, Tensor]:
    """Conductances (logical rows, N) in siemens that hold the network's weights."""
    mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)
    with torch.no_grad():
        return mapping.scaled(feedback_share(design, proxy, network)).program(network.weights())


def before_rounding(design: DesignSpec, proxy: ProxyParameters, network: Network) -> Tensor | None:
    """Conductances (2, logical rows, N) in siemens of the weights with no levels; None in a design without levels."""
    if design.crossbar.levels == 0:
        return None
    analogue = design.model_copy(update={"crossbar": design.crossbar.model_copy(update={"levels": 0})})
    return torch.stack(programmed(analogue, proxy, network))


def feedback_share(design: DesignSpec, proxy: ProxyParameters, network: Network) -> Tensor | None:
    """Share (N,) of R_F of each neuron by the design's scaling; None where all have R_F."""
    mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)
    with torch.no_grad():
        return mapping.feedback_share(network.weights(), design.scaling)


def deploy(design: DesignSpec, proxy: ProxyParameters, network: Network) -> DeployedNetwork:
    """The network's weights programmed into the nominal circuit."""
    g_pos, g_neg = programmed(design, proxy, network)
    share = feedback_share(design, proxy, network)
    return DeployedNetwork.nominal(
        design, proxy, g_pos.numpy(), g_neg.numpy(), None if share is None else share.numpy()
    )


def ideal_score(task: Task, model: Model, network: Network) -> Score:
    """Score on the mathematics ``model`` stands for, without a circuit."""
    with torch.no_grad():
        return task.score(network.outputs(model(network, task.x_test, 0).z), task.y_test)


def deployed_score(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> Score:
    """Score of the network on the nominal proxy, with its own readout."""
    reading = deploy(design, proxy, network).solve(task.x_test, domain_share=None).reading
    return task.score(network_readout(design, network).outputs(reading), task.y_test)


def refitted_score(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> Score:
    """Score with the readout refitted by ridge regression on the nominal circuit's readings of training samples."""
    deployed = deploy(design, proxy, network)
    few = slice(REFIT_SAMPLES) if task.regression else slice(None)
    readings = deployed.solve(task.x_train[few], domain_share=None).reading
    answers = task.answers(task.y_train[few], design.sizes.outputs)
    readout = refit_readout(readings, answers, design.converters.adc_bits, RIDGE[task.kind])
    return task.score(readout.outputs(deployed.solve(task.x_test, domain_share=None).reading), task.y_test)
