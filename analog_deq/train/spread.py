"""How far mismatch moves the states: the yardstick for a difference between circuit and proxy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.draws import Stream, generator
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.draws import draw_network
from analog_deq.spec import DesignSpec
from analog_deq.train.solving import settle

DIES = 32
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Spread:
    """RMS over states, samples and drawn dies of what mismatch changes in a state, and the RMS of the worst die."""

    sigma: float
    largest: float


def mismatch_spread(
    design: DesignSpec, proxy: ProxyParameters, programmed: Tensor, x_read: Tensor, dies: int = DIES
) -> Spread:
    """Spread of the states of DAC outputs ``x_read`` (samples, M) over dies of the fitted mismatch, trimmed.

    ``programmed`` is (2, rows, N). Every draw is solved, not linearised; the draws are those of the design's seed, the
    same for every batch.
    """
    nominal = TableActivation.nominal(proxy.activation)
    g_pos, g_neg = proxy.synapse.seen(programmed)

    def states(w: Tensor, u: Tensor, act: TableActivation) -> Tensor:
        return settle(w, u, act, design.certificate.weight_class, tol=TOLERANCE)

    with torch.no_grad():
        rest = linear_map(design, proxy, g_pos, g_neg)
        z = states(rest.w_state, x_read @ rest.w_input.T + rest.bias, nominal)
        rms = []
        for die in range(dies):
            rng = generator(design.seed, Stream.FINE_TUNING, die)
            draw = draw_network(proxy, design, g_pos.shape[0], rng, programmed=programmed)
            own = linear_map(design, proxy, g_pos * (1 + draw.g_pos), g_neg * (1 + draw.g_neg))
            scale = 1 + draw.r_feedback
            u = (x_read @ own.w_input.T + own.bias) * scale + draw.bias
            moved = states(own.w_state * scale[:, None], u, draw.activation(nominal))
            rms.append(float((moved - z).square().mean().sqrt()))
    every = torch.as_tensor(rms)
    return Spread(float(every.square().mean().sqrt()), float(every.max()))
