"""Dies of a network on the proxy, many at once, with any of their mismatch parameters left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.causes import FINE_TRIM_BITS, SYNAPSE
from analog_deq.attribution.setting import Loop, Setting
from analog_deq.draws import Stream, generator
from analog_deq.fit.variation import NEURON_PARAMETERS
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.autozero import residual_offset
from analog_deq.proxy.draws import draw_network
from analog_deq.proxy.terms import ArrayTerms
from analog_deq.train.trim import TrimLaw

Array = np.ndarray
DIE_TOLERANCE = 1e-6
"""Residual of a die's equilibrium, units of z: 1e-4 %FS, a thousandth of what mismatch does."""


@dataclass(frozen=True, slots=True)
class DieDraws:
    """D dies as sums of what each mismatch parameter does to the neurons' fitted parameters.

    ``own`` maps a parameter to its shift (D, N, 7) of the fitted parameters in the order of ``NEURON_PARAMETERS``
    about ``base`` (7,); ``conductance`` (D, 2, logical rows, N) are relative errors of the conductances seen.
    ``numbers`` (D,) are the dies' own.
    """

    numbers: tuple[int, ...]
    base: Array
    own: Mapping[str, Array]
    conductance: Array

    @property
    def names(self) -> tuple[str, ...]:
        """Mismatch parameters, the synapses' last."""
        return (*self.own, *((SYNAPSE,) if np.any(self.conductance) else ()))

    def first(self, dies: int) -> DieDraws:
        """The first ``dies`` of them."""
        own = {name: shift[:dies] for name, shift in self.own.items()}
        return DieDraws(self.numbers[:dies], self.base, own, self.conductance[:dies])

    def parameters(self, on: frozenset[str]) -> dict[str, Array]:
        """Fitted parameters (D, N) of the dies with only ``on`` deviating."""
        total = np.broadcast_to(self.base, (*self.conductance.shape[:1], self.conductance.shape[-1], len(self.base)))
        total = total + sum((self.own[name] for name in self.own if name in on), np.zeros(()))
        return {name: total[..., k] for k, name in enumerate(NEURON_PARAMETERS)}


def fitted_draws(setting: Setting, dies: int, seed: int) -> DieDraws:
    """Dies drawn from the proxy's own fitted distributions: their parameters are the fitted ones.

    Offsets are as the design's auto-zero leaves them.
    Correlated draws stay correlated: leaving one out sets it to its mean, whatever it was drawn with.
    """
    design, proxy = setting.design, setting.proxy
    programmed = torch.as_tensor(np.stack([setting.g_pos, setting.g_neg]))
    fitted = proxy.mismatch
    mean = np.array([fitted.mean[fitted.names.index(name)] for name in NEURON_PARAMETERS])
    values, errors = [], []
    for die in range(dies):
        rng = generator(seed, Stream.ATTRIBUTION, die)
        drawn = rng.multivariate_normal(
            fitted.mean, fitted.covariance, size=design.sizes.states, method="eigh", check_valid="ignore"
        )
        ordered = np.stack([drawn[:, fitted.names.index(name)] for name in NEURON_PARAMETERS], axis=-1) - mean
        if design.autozero is not None:
            celsius = design.operating.temperature_celsius
            ordered[:, 0] = residual_offset(ordered[:, 0], design.autozero, celsius, rng)
        values.append(ordered)
        spread = draw_network(proxy, design, len(setting.g_pos), rng, programmed=programmed)
        errors.append(np.stack([spread.g_pos.numpy(), spread.g_neg.numpy()]))
    about = np.stack(values)
    own = {name: about * (np.arange(len(mean)) == k) for k, name in enumerate(NEURON_PARAMETERS)}
    base = _plain()
    return DieDraws(tuple(range(dies)), base, {n: o for n, o in own.items() if np.any(o)}, np.stack(errors))


def _plain() -> Array:
    """The nominal neuron's fitted parameters."""
    return np.array([1.0 if name in ("sat", "in_scale") else 0.0 for name in NEURON_PARAMETERS])


@dataclass(slots=True)
class DieNetwork:
    """The dies of ``draws`` on the proxy, trimmed as they are in use.

    ``law`` is the trim's; None leaves the dies untrimmed. Reduced arrays are kept: there are two a die.
    """

    setting: Setting
    draws: DieDraws
    law: TrimLaw | None
    x_trim: Tensor
    rounds: int
    start: Tensor
    _terms: dict[bool, list[ArrayTerms]]

    @classmethod
    def of(cls, setting: Setting, draws: DieDraws, law: TrimLaw | None, x_trim: Tensor) -> DieNetwork:
        """``x_trim`` (images, M) are the inputs the trim measures."""
        start = setting.nominal().solve(x_trim).z
        return cls(setting, draws, law, x_trim, setting.design.verify.trim_rounds, start, {})

    def readings(
        self, on: frozenset[str], x: Tensor, *, fine_trim: bool = False, trimmed: bool = True,
        start: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Row readings (D, images, N) of inputs ``x`` (D, images, M), with only the parameters ``on`` deviating.

        With ``fine_trim`` the trim currents are not rounded to the DAC's steps.
        """
        parameters = self.draws.parameters(on)
        terms = self._arrays(SYNAPSE in on)
        trim = np.zeros((len(terms), self.setting.design.sizes.states))
        law = self.law if trimmed else None
        if law is not None:
            spec = law.spec.model_copy(update={"bits": FINE_TRIM_BITS}) if fine_trim else law.spec
            law = TrimLaw(spec, law.target, law.amps)
            for _ in range(self.rounds):
                measured = (
                    self._loop(terms, parameters, trim)
                    .solve(self.x_trim, self.start, DIE_TOLERANCE)
                    .reading.mean(-2)
                    .numpy()
                )
                trim = np.clip(trim + law.change(measured)[0], -law.spec.range_a, law.spec.range_a)
        return self._loop(terms, parameters, trim).solve(x, start, DIE_TOLERANCE).reading

    def _arrays(self, deviating: bool) -> list[ArrayTerms]:
        if deviating not in self._terms:
            seen = self.setting.seen
            if deviating:
                self._terms[True] = [self.setting.terms(seen * (1 + error)) for error in self.draws.conductance]
            else:
                self._terms[False] = [self.setting.terms(seen)] * len(self.draws.numbers)
        return self._terms[deviating]

    def _loop(self, terms: list[ArrayTerms], parameters: Mapping[str, Array], trim: Array) -> Loop:
        maps = [
            self.setting.closed(
                part,
                {"vos_v": parameters["vos_v"][k], "r_feedback": parameters["r_feedback"][k], "trim_a": trim[k]},
            )
            for k, part in enumerate(terms)
        ]
        nominal = self.setting.activation
        assert isinstance(nominal, TableActivation), "dies have the measured activation"
        own = (torch.as_tensor(parameters[name])[:, None, :] for name in ("sat", "in_scale", "in_offset", "out_offset"))
        return Loop.of(self.setting, maps, nominal.varied(*own), dies=True)
