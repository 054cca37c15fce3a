"""One call from a trained network to what each cause costs, on the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.causes import (
    DESIGN_CAUSES,
    READ_CAUSES,
    SYNAPSE,
    TRIM_STEP,
    Cause,
    Group,
    mismatch_cause,
)
from analog_deq.attribution.costs import Attribution, GroupCosts, group_costs
from analog_deq.attribution.dies import DieDraws, DieNetwork, fitted_draws
from analog_deq.attribution.games import Judge, ReadNetwork, design_value, die_value, read_value
from analog_deq.attribution.setting import Setting
from analog_deq.attribution.shapley import EXACT_UP_TO, PAIRS, Value, shapley
from analog_deq.draws import Stream, generator
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.fit.variation import NEURON_PARAMETERS
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.tasks.task import Task
from analog_deq.train.trim import TrimLaw

Array = np.ndarray
DIES, IMAGES = 16, 50
NOMINAL = 4
"""Test images of the nominal games that cost one solve, over those of a die."""
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
    setting = setting or Setting.of(design, proxy, checkpoint)
    scope = scope or Scope()
    draws = draws if draws is not None else fitted_draws(setting, scope.dies, design.seed)
    judge = Judge(task, torch.as_tensor(checkpoint.readout_weight), torch.as_tensor(checkpoint.readout_bias))
    work = _Work(setting, task, judge, scope, generator(design.seed, Stream.ATTRIBUTION, 10**6 + 2))
    groups = [work.design(present(setting, design_causes))]
    of_dies, untrimmed = work.dies(draws)
    timed = [cause for cause in map(mismatch_cause, draws.own) if cause.group == "read"]
    groups += [of_dies, work.read([*present(setting, read_causes), *timed], draws)]
    return Attribution(tuple(group for group in groups if group.costs), untrimmed)


@dataclass(frozen=True, slots=True)
class _Work:
    """The three games of one network. ``orders`` draws orders of causes where there are too many for all subsets."""

    setting: Setting
    task: Task
    judge: Judge
    scope: Scope
    orders: np.random.Generator

    def design(self, causes: Sequence[Cause]) -> GroupCosts:
        against = "ideal mathematics: the weights before rounding, tanh units"
        if not causes:
            return _nothing("design", against)
        x, y = self._nominal(self.scope.images * NOMINAL)
        return self._costs("design", against, causes, design_value(self.setting, causes, self.judge, x, y), 1)

    def dies(self, draws: DieDraws) -> tuple[GroupCosts, float]:
        """Their costs, and the RMS error of untrimmed dies, %FS."""
        setting, task, causes = self.setting, self.task, die_causes(draws)
        law = TrimLaw.of(setting.deployed(), trim_inputs(setting.design, task))
        network = DieNetwork.of(setting, draws, law, trim_inputs(setting.design, task))
        chosen = [die_images(setting.design, task, die, self.scope.images) for die in draws.numbers]
        x, y = (torch.stack([part[i] for i in chosen]) for part in (task.x_test, task.y_test))
        reference = setting.nominal().solve(x.flatten(0, 1)).reading.reshape(*x.shape[:2], -1)
        against = "the nominal network, dies trimmed as in use"
        value = die_value(network, causes, self.judge, x, y, reference)
        found = self._costs("die", against, causes, value, x.shape[1])
        bare = die_value(network, causes, self.judge, x, y, reference, trimmed=False)
        return found, float(np.sqrt(bare(frozenset(cause.name for cause in causes)).mean(axis=0)[0]))

    def read(self, causes: Sequence[Cause], draws: DieDraws) -> GroupCosts:
        against = "the nominal equilibrium"
        if not causes:
            return _nothing("read", against)
        x, y = self._nominal(self.scope.images * NOMINAL)
        spread = _tau_errors(self.setting, draws, [cause.name for cause in causes if cause.name in draws.own], len(x))
        network = ReadNetwork(self.setting, x, spread, self.setting.design.seed)
        return self._costs("read", against, causes, read_value(network, causes, self.judge, y), 1)

    def _nominal(self, images: int) -> tuple[Tensor, Tensor]:
        chosen = spread_images(len(self.task.x_test), images)
        return self.task.x_test[chosen], self.task.y_test[chosen]

    def _costs(self, group: Group, against: str, causes: Sequence[Cause], value: Value, images: int) -> GroupCosts:
        names, scope = [cause.name for cause in causes], self.scope
        shares = shapley(names, value, exact_up_to=scope.exact_up_to, pairs=scope.pairs, rng=self.orders)
        return group_costs(group, against, causes, shares, labels=0 if self.task.regression else images)


def _nothing(group: Group, against: str) -> GroupCosts:
    return GroupCosts(group, against, (), 0.0, 0.0, True, 0)


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
