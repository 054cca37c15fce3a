"""The training stage: the network trained through the proxy, and the baselines it must be read against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.errors import EquilibriumError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import DeployedNetwork, Readout, refit_readout
from analog_deq.train.loop import train_network
from analog_deq.train.models import IdealModel, ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.tasks.digits import Task

OURS = "proxy training (ours)"
DOMAIN_SHARE = 1e-3
"""Largest share of pre-activations of the training images that may leave the calibrated range."""

WEIGHT_NOISE, READ_NOISE = 0.05, 0.05


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """The programmed array, its readout, its certificate, and the test accuracy of every method as (correct, n)."""

    g_pos: Tensor
    g_neg: Tensor
    readout: Readout
    certificate: Certificate
    accuracy: dict[str, tuple[int, int]]


def train_stage(
    design: DesignSpec, proxy: ProxyParameters, task: Task, *, baselines: bool, progress: Progress
) -> TrainedNetwork:
    """Train through the proxy, certify the mapped matrix, and measure the baselines on the nominal proxy.

    EquilibriumError when the effective matrix does not hold its certificate, OutOfDomainError when the network
    uses more than ``DOMAIN_SHARE`` of its states outside the calibrated range.
    """
    accuracy: dict[str, tuple[int, int]] = {}
    if baselines:
        accuracy |= _ideal_baselines(design, proxy, task, progress)
        without, _ = train_network(
            design, task, ProxyModel(design, proxy), feedback=False, label="W_fb = 0", progress=progress
        )
        accuracy["W_fb = 0, proxy training"] = _deployed_accuracy(design, proxy, task, without)
    network, _ = train_network(design, task, ProxyModel(design, proxy), label="proxy", progress=progress)
    with torch.no_grad():
        g_pos, g_neg = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm).program(
            network.weights()
        )
    deployed = DeployedNetwork.nominal(design, proxy, g_pos.numpy(), g_neg.numpy())
    deployed.solve(task.x_train, domain_share=DOMAIN_SHARE)
    certificate = certify(deployed.w_state, deployed.act.max_slope, deployed.tau_s)
    if certificate.weight_class != design.certificate.weight_class:
        raise EquilibriumError(
            f"the mapped matrix is not class {design.certificate.weight_class}: its gamma is {certificate.gamma:.4f}, "
            "it must be below 1; lower certificate.gamma in the design or use more conductance levels"
        )
    accuracy[OURS] = _deployed_accuracy(design, proxy, task, network)
    accuracy["proxy training + refitted readout"] = _refitted_accuracy(design, proxy, task, network)
    return TrainedNetwork(g_pos, g_neg, _readout(design, network), certificate, accuracy)


def _ideal_baselines(
    design: DesignSpec, proxy: ProxyParameters, task: Task, progress: Progress
) -> dict[str, tuple[int, int]]:
    digital_model = IdealModel(design.seed)
    digital, _ = train_network(design, task, digital_model, label="digital", progress=progress)
    with torch.no_grad():
        z = digital_model(digital, task.x_test, 0).z
        correct = int((digital.logits(z).argmax(-1) == task.y_test).sum())
    noisy_model = IdealModel(design.seed, WEIGHT_NOISE, READ_NOISE)
    noisy, _ = train_network(design, task, noisy_model, label="noise injection", progress=progress)
    return {
        "digital (ideal tanh)": (correct, len(task.y_test)),
        "naive deployment": _deployed_accuracy(design, proxy, task, digital),
        "naive + refitted readout": _refitted_accuracy(design, proxy, task, digital),
        "noise-injection training": _deployed_accuracy(design, proxy, task, noisy),
    }


def _readout(design: DesignSpec, network: Network) -> Readout:
    return Readout(network.readout.detach(), network.readout_bias.detach(), design.converters.adc_bits)


def _deploy(design: DesignSpec, proxy: ProxyParameters, network: Network) -> DeployedNetwork:
    with torch.no_grad():
        g_pos, g_neg = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm).program(
            network.weights()
        )
    return DeployedNetwork.nominal(design, proxy, g_pos.numpy(), g_neg.numpy())


def _deployed_accuracy(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> tuple[int, int]:
    reading = _deploy(design, proxy, network).solve(task.x_test, domain_share=None).reading
    return int((_readout(design, network).predict(reading) == task.y_test).sum()), len(task.y_test)


def _refitted_accuracy(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> tuple[int, int]:
    """Accuracy with the readout refitted by ridge regression on the nominal circuit's readings of training images."""
    deployed = _deploy(design, proxy, network)
    readings = deployed.solve(task.x_train, domain_share=None).reading
    readout = refit_readout(readings, task.y_train, design.sizes.classes, design.converters.adc_bits)
    labels = readout.predict(deployed.solve(task.x_test, domain_share=None).reading)
    return int((labels == task.y_test).sum()), len(task.y_test)
