"""The training stage: the network trained through the proxy, and the baselines it must be read against."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate
from analog_deq.errors import EquilibriumError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.baselines import baseline_scores
from analog_deq.train.deployed import Readout
from analog_deq.train.loop import train_network
from analog_deq.train.models import IdealModel, ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import (
    before_rounding,
    deploy,
    deployed_score,
    feedback_share,
    network_readout,
    programmed,
    refitted_score,
)
from analog_deq.train.tasks import Score, Task

OURS = "proxy training (ours)"
DOMAIN_SHARE = 1e-3
"""Largest share of pre-activations of the training images that may leave the calibrated range."""

CLASSES = ("A", "B", "C")
"""From the strongest to the weakest: every A is a B, every B is a C."""


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """The programmed array, its readout, its certificate, and the score of every method on the held-out samples."""

    g_pos: Tensor
    g_neg: Tensor
    readout: Readout
    certificate: Certificate
    scores: dict[str, Score]
    r_feedback_share: Tensor | None = None
    analogue: Tensor | None = None


def train_stage(
    design: DesignSpec, proxy: ProxyParameters, task: Task, *, baselines: bool, progress: Progress
) -> TrainedNetwork:
    """Train through the proxy, certify the mapped matrix, and measure the baselines on the nominal proxy.

    EquilibriumError when the effective matrix does not hold its certificate, OutOfDomainError when the network
    uses more than ``DOMAIN_SHARE`` of its states outside the calibrated range.
    """
    start = pretrained(design, task, progress)
    scores = baseline_scores(design, proxy, task, start, progress) if baselines else {}
    network, _ = train_network(design, task, ProxyModel(design, proxy), start=start, label="proxy", progress=progress)
    g_pos, g_neg = programmed(design, proxy, network)
    certificate = certify_deployed(design, proxy, task, network)
    scores[OURS] = deployed_score(design, proxy, task, network)
    scores["proxy training + refitted readout"] = refitted_score(design, proxy, task, network)
    share = feedback_share(design, proxy, network)
    analogue = before_rounding(design, proxy, network)
    return TrainedNetwork(g_pos, g_neg, network_readout(design, network), certificate, scores, share, analogue)


def pretrained(design: DesignSpec, task: Task, progress: Progress) -> Network | None:
    """The network after the design's steps on ideal mathematics, from which every method goes on; None without any."""
    steps = design.training.pretrain_steps
    if not steps:
        return None
    return train_network(design, task, IdealModel(design), ideal_steps=steps, label="ideal start", progress=progress)[0]


def certify_deployed(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> Certificate:
    """Certificate of the mapped, quantised matrix; EquilibriumError when it is not of the design's class."""
    deployed = deploy(design, proxy, network)
    deployed.solve(task.x_train, domain_share=DOMAIN_SHARE)
    certificate = deployed.certificate()
    require_class(design, certificate)
    return certificate


def require_class(design: DesignSpec, certificate: Certificate) -> None:
    """EquilibriumError unless a certificate is of the design's class, or of one that implies it. Free asks nothing."""
    wanted = design.certificate.weight_class
    if wanted == "free" or certificate.weight_class in CLASSES[: CLASSES.index(wanted) + 1]:
        return
    mend = "raise certificate.margin" if wanted == "C" else "lower certificate.gamma"
    raise EquilibriumError(
        f"the mapped matrix is not class {wanted}: {certificate.statement()}; {mend} in the design, or use more "
        "conductance levels"
    )
