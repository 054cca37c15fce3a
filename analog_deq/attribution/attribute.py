"""One call from a trained network to what each cause costs, on the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.causes import DESIGN_CAUSES, READ_CAUSES, SYNAPSE, TRIM_STEP, Cause, mismatch_cause
from analog_deq.attribution.costs import Attribution, GroupCosts, group_costs
from analog_deq.attribution.dies import DieDraws, DieNetwork, fitted_draws
from analog_deq.attribution.games import Judge, ReadNetwork, design_value, die_value, read_value
from analog_deq.attribution.setting import Setting
from analog_deq.attribution.shapley import EXACT_UP_TO, PAIRS, shapley
from analog_deq.draws import Stream, generator
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.fit.variation import NEURON_PARAMETERS
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.tasks.task import Task
from analog_deq.train.trim import TrimLaw

Array = np.ndarray
DIES, IMAGES = 16, 50
TRIM_CHOICE = 10**6 + 1
"""Index of the stream that chooses the trim's images, that of the sign-off."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is worked out: dies, test images of each die (and of the nominal games), orders when sampled."""

    dies: int = DIES
    images: int = IMAGES
    exact_up_to: int = EXACT_UP_TO
    pairs: int = PAIRS


def attribute(
    design: DesignSpec,
    proxy: ProxyParameters,
    checkpoint: Checkpoint,
    task: Task,
    *,
    setting: Setting | None = None,
    draws: DieDraws | None = None,
    scope: Scope | None = None,
    design_causes: Sequence[Cause] = DESIGN_CAUSES,
    read_causes: Sequence[Cause] = READ_CAUSES,
) -> Attribution:
    """What each cause costs the trained network, in %FS of its states and points of its accuracy. No simulator.

    Shapley shares of the mean squared state error within three groups, in the order of the signal: ``design`` (nominal
    imperfections, against ideal mathematics of the analogue weights with tanh units), ``die`` (mismatch after trim,
    against the nominal network), ``read`` (time, noise and ADC, against the equilibrium). Independent errors add in the
    square; what groups do to each other is left out.

    Args:
        design: the design.
        proxy: its fitted proxy.
        checkpoint: the trained network.
        task: what it answers; errors are those of its test inputs.
        setting: what is on; everything by default. It is where a read time or a slew rate is put in.
        draws: dies whose parameters are known; by default drawn from the proxy's fitted distributions, whose parameters
            are then the causes.
        scope: how many dies and images.
        design_causes: nominal causes; those absent from the network are left out.
        read_causes: causes of one read, likewise.

    Raises:
        EquilibriumError: a network with some causes off has no equilibrium.
        OutOfDomainError: the network's conductances were never calibrated.
    """
    scope = scope or Scope()
    setting = setting or Setting.of(design, proxy, checkpoint)
    draws = draws if draws is not None else fitted_draws(setting, scope.dies, design.seed)
    judge = Judge(task, torch.as_tensor(checkpoint.readout_weight), torch.as_tensor(checkpoint.readout_bias))
    model = DeployedNetwork.nominal(design, proxy, checkpoint.g_pos, checkpoint.g_neg, checkpoint.r_feedback_share)
    orders = generator(design.seed, Stream.ATTRIBUTION, 10**6 + 2)

    def costs(group, against, causes, value) -> GroupCosts:  # type: ignore[no-untyped-def]
        names = [cause.name for cause in causes]
        shares = shapley(names, value, exact_up_to=scope.exact_up_to, pairs=scope.pairs, rng=orders)
        return group_costs(group, against, causes, shares)

    nominal = spread_images(len(task.x_test), scope.images * 4)
    x, y = task.x_test[nominal], task.y_test[nominal]
    groups = []
    known = present(setting, design_causes)
    if known:
        value = design_value(setting, known, judge, x, y)
        groups.append(costs("design", "ideal mathematics: the weights before rounding, tanh units", known, value))
    untrimmed = None
    own = die_causes(draws)
    if own:
        dies = DieNetwork.of(setting, draws, TrimLaw.of(model, trim_inputs(design, task)), trim_inputs(design, task))
        chosen = [die_images(design, task, die, scope.images) for die in draws.numbers]
        xs, ys = torch.stack([task.x_test[i] for i in chosen]), torch.stack([task.y_test[i] for i in chosen])
        reference = setting.nominal().solve(xs.flatten(0, 1)).reading.reshape(*xs.shape[:2], -1)
        value = die_value(dies, own, judge, xs, ys, reference)
        groups.append(costs("die", "the nominal network, dies trimmed as in use", own, value))
        bare = die_value(dies, own, judge, xs, ys, reference, trimmed=False)
        untrimmed = float(np.sqrt(bare(frozenset(cause.name for cause in own)).mean(axis=0)[0]))
    timed = [mismatch_cause(name) for name in draws.own if mismatch_cause(name).group == "read"]
    read = [*present(setting, read_causes), *timed]
    if read:
        few = nominal[:: max(1, len(nominal) // scope.images)][: scope.images]
        share = _tau_errors(setting, draws, [cause.name for cause in timed], len(few))
        network = ReadNetwork(setting, task.x_test[few], share, design.seed)
        value = read_value(network, read, judge, task.y_test[few])
        groups.append(costs("read", "the nominal equilibrium", read, value))
    return Attribution(tuple(groups), untrimmed)


def present(setting: Setting, causes: Sequence[Cause]) -> list[Cause]:
    """Those of ``causes`` the network has."""
    return [cause for cause in causes if cause.present(setting)]


def die_causes(draws: DieDraws) -> list[Cause]:
    """Causes of ``draws`` that move an equilibrium, and the rounding of the trim."""
    return [
        *(cause for cause in map(mismatch_cause, draws.own) if cause.group == "die"),
        *([mismatch_cause(SYNAPSE)] if SYNAPSE in draws.names else []),
        TRIM_STEP,
    ]


def spread_images(available: int, wanted: int) -> Array:
    """Places (images,) of up to ``wanted`` test images, evenly over those there are."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(int))


def die_images(design: DesignSpec, task: Task, die: int, images: int) -> Array:
    """Test images of one die: the first ``images`` of those the sign-off gives it, drawn on where it gives fewer."""
    rng = generator(design.seed, Stream.VERIFY_CHOICE, die)
    return np.asarray(rng.choice(len(task.x_test), min(images, len(task.x_test)), replace=False))


def trim_inputs(design: DesignSpec, task: Task) -> Tensor:
    """The training images (images, M) that the sign-off trims its dies on."""
    rng = generator(design.seed, Stream.VERIFY_CHOICE, TRIM_CHOICE)
    return task.x_train[rng.choice(len(task.x_train), design.verify.trim_images, replace=False)]


def _tau_errors(setting: Setting, draws: DieDraws, names: Sequence[str], images: int) -> Array:
    """Relative errors (images, N) of time constants by ``names``, the dies in turn."""
    place = NEURON_PARAMETERS.index("tau")
    total = np.zeros((len(draws.numbers), setting.design.sizes.states))
    for name in names:
        total = total + draws.own[name][..., place]
    return total[np.arange(images) % len(total)] if len(total) else np.zeros((images, total.shape[1]))
