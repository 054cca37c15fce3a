"""What proxy training is read against: ideal weights deployed as they are, refitted, noise injection, no feedback."""

from __future__ import annotations

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.loop import new_network, train_network
from analog_deq.train.models import IdealModel, ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import deployed_score, ideal_score, refitted_score
from analog_deq.train.tasks import Score, Task

WEIGHT_NOISE, READ_NOISE = 0.05, 0.05
FEED_FORWARD_PRETRAINING = 3
"""Ideal steps of a regression's feed-forward net per step of fine-tuning, when the design itself starts elsewhere."""


def baseline_scores(
    design: DesignSpec, proxy: ProxyParameters, task: Task, start: Network | None, progress: Progress
) -> dict[str, Score]:
    """Score of every baseline by name, all with the design's steps from the same ``start``."""
    scores: dict[str, Score] = {}
    ideal = IdealModel(design)
    if design.training.init == "analytic":
        built = new_network(design, ideal)
        scores |= {
            "analytic (ideal tanh)": ideal_score(task, ideal, built),
            "analytic, deployed": deployed_score(design, proxy, task, built),
            "analytic + refitted readout": refitted_score(design, proxy, task, built),
        }
    digital, _ = train_network(design, task, ideal, start=start, label="digital", progress=progress)
    noise = IdealModel(design, WEIGHT_NOISE, READ_NOISE)
    noisy, _ = train_network(design, task, noise, start=start, label="noise injection", progress=progress)
    scores |= {
        "digital (ideal tanh)": ideal_score(task, ideal, digital),
        "naive deployment": deployed_score(design, proxy, task, digital),
        "naive + refitted readout": refitted_score(design, proxy, task, digital),
        "noise-injection training": deployed_score(design, proxy, task, noisy),
    }
    return scores | _without_feedback(design, proxy, task, progress)


def _without_feedback(design: DesignSpec, proxy: ProxyParameters, task: Task, progress: Progress) -> dict[str, Score]:
    """The circuit with W_fb = 0; of a regression, with so many more states that it has as many parameters."""
    if not task.regression:
        network, _ = train_network(
            design, task, ProxyModel(design, proxy), feedback=False, label="W_fb = 0", progress=progress
        )
        return {"W_fb = 0, proxy training": deployed_score(design, proxy, task, network)}
    wide = feed_forward_design(design)
    label = f"feed-forward, {wide.sizes.states} states"
    steps = design.training.pretrain_steps or FEED_FORWARD_PRETRAINING * design.training.steps
    start, _ = train_network(
        wide,
        task,
        IdealModel(wide),
        feedback=False,
        ideal_steps=steps,
        label=f"{label}, ideal start",
        progress=progress,
    )
    network, _ = train_network(
        wide, task, ProxyModel(wide, proxy), feedback=False, start=start, label=label, progress=progress
    )
    return {
        f"{label}, proxy training": deployed_score(wide, proxy, task, network),
        f"{label}, refitted readout": refitted_score(wide, proxy, task, network),
    }


def feed_forward_design(design: DesignSpec) -> DesignSpec:
    """``design`` without feedback and with as many parameters: inputs, bias and outputs of ``h`` states instead.

    N (N + M + 1 + P) = h (M + 1 + P) for N states, M inputs, P outputs. Its start is random, its readout trained.
    """
    sizes = design.sizes
    own = sizes.inputs + 1 + sizes.outputs
    states = round(sizes.states * (sizes.states + own) / own)
    return design.model_copy(
        update={
            "sizes": sizes.model_copy(update={"states": states}),
            "training": design.training.model_copy(update={"init": "random", "readout": "trained"}),
        }
    )
