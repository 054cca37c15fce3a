"""A network of any family: trained through its proxy, programmed, certified, scored beside the naive deployment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analog_deq.mappings.mapping import Family
from analog_deq.records import Progress
from analog_deq.train.loop import train_network
from analog_deq.train.models import IdealModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import ideal_score, network_readout
from analog_deq.train.stage import DOMAIN_SHARE, OURS, TrainedNetwork, pretrained, require_class
from analog_deq.train.tasks.task import Score, Task


def train_family(family: Family, proxy: Any, task: Task, *, baselines: bool, progress: Progress) -> TrainedNetwork:
    """The network trained through the family's proxy, its certificate, and scores on the held-out samples.

    With ``baselines`` also the same network trained on ideal mathematics, scored there and deployed as it is.
    EquilibriumError when the mapped matrix does not hold the design's class; OutOfDomainError when more than
    ``DOMAIN_SHARE`` of the training states leave the calibrated range.
    """
    design = family.design
    start = pretrained(design, task, progress)
    scores: dict[str, Score] = {}
    if baselines:
        ideal = IdealModel(design)
        digital, _ = train_network(design, task, ideal, start=start, label="digital", progress=progress)
        scores["digital (ideal tanh)"] = ideal_score(task, ideal, digital)
        scores["naive deployment"] = family_score(family, proxy, task, digital)
    network, _ = train_network(design, task, family.model(proxy), start=start, label="proxy", progress=progress)
    programmed = program_network(family, proxy, network)
    deployed = family.deploy(proxy, programmed.numpy())
    deployed.solve(task.x_train, domain_share=DOMAIN_SHARE)
    certificate = deployed.certificate()
    require_class(design, certificate)
    scores[OURS] = family_score(family, proxy, task, network)
    return TrainedNetwork(programmed[0], programmed[1], network_readout(design, network), certificate, scores)


def program_network(family: Family, proxy: Any, network: Network) -> Tensor:
    """What the array is programmed to (2, rows, N) for a network's weights."""
    with torch.no_grad():
        return family.program(proxy, network.weights())


def family_score(family: Family, proxy: Any, task: Task, network: Network) -> Score:
    """Score of a network on the family's nominal proxy, with its own readout."""
    deployed = family.deploy(proxy, program_network(family, proxy, network).numpy())
    reading = deployed.solve(task.x_test, domain_share=None).reading
    return task.score(network_readout(family.design, network).outputs(reading), task.y_test)
