"""The trainable network: feedback weights of the design's class, input weights, bias and digital readout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.weights import WEIGHT_CLASSES, Free, Monotone, Weight
from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.quadratic_program import analytic_weights


class Network(nn.Module):
    """Parameters of one DEQ in float64. ``weights()`` stacks them in the crossbar's row order.

    ``feedback = False`` is the ablation without feedback: its weights stay zero.
    """

    def __init__(
        self, design: DesignSpec, generator: torch.Generator, *, feedback: bool = True, max_slope: float = 1.0
    ):
        super().__init__()
        n, m, outputs = design.sizes.states, design.sizes.inputs, design.sizes.outputs

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.feedback = feedback
        self.weight = make_weight(design, generator, max_slope)
        self.w_input = normal(n, m, scale=0.7 / m**0.5)
        self.bias = normal(n, scale=0.05)
        self.readout = normal(outputs, n, scale=1 / n**0.5)
        self.readout_bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float64))
        if design.training.init == "analytic":
            self._build_analytic(design, max_slope)
        if design.training.readout == "identity":
            self.readout = nn.Parameter(torch.eye(n, dtype=torch.float64), requires_grad=False)
            self.readout_bias.requires_grad_(False)

    def _build_analytic(self, design: DesignSpec, max_slope: float) -> None:
        training = design.training
        feedback, inputs = (
            torch.as_tensor(part) for part in analytic_weights(design.task_options.instance, training.analytic_gain)
        )
        if isinstance(self.weight, Free):
            with torch.no_grad():
                self.weight.w.copy_(feedback * max_slope)
        else:
            self.weight = Monotone.from_matrix(feedback, design.certificate.margin, max_slope)
        with torch.no_grad():
            self.w_input.copy_(inputs)
            self.bias.zero_()

    def w_state(self) -> Tensor:
        """Feedback matrix (N, N) of the design's class, or zeros for the ablation without feedback."""
        if not self.feedback:
            n = len(self.bias)
            return torch.zeros(n, n, dtype=self.bias.dtype)
        matrix: Tensor = self.weight()
        return matrix

    def claim(self) -> Claim | None:
        """What the class promises of :meth:`w_state`; None of free weights."""
        return self.weight.claim()

    def weights(self) -> Tensor:
        """(inputs + 1 + N, N): logical rows x, bias, z by columns."""
        return torch.cat([self.w_input.T, self.bias[None], self.w_state().T])

    def outputs(self, z: Tensor) -> Tensor:
        """Class scores or predicted values (..., outputs) of read states (..., N)."""
        return z @ self.readout.T + self.readout_bias


def make_weight(design: DesignSpec, generator: torch.Generator, max_slope: float) -> Weight:
    """The weight module of a design's class and bound, at random start values."""
    certificate, n = design.certificate, design.sizes.states
    kind = WEIGHT_CLASSES[certificate.weight_class]
    if certificate.weight_class == "free":
        return kind(n, max_slope=max_slope, generator=generator)
    bound = certificate.margin if certificate.weight_class == "C" else certificate.gamma
    return kind(n, bound, max_slope, generator=generator)
