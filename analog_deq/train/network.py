"""The trainable network: certified feedback weights, input weights, bias and digital readout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.weights import class_a
from analog_deq.spec import DesignSpec


class Network(nn.Module):
    """Parameters of one DEQ in float64. ``weights()`` stacks them in the crossbar's row order."""

    def __init__(
        self, design: DesignSpec, generator: torch.Generator, *, feedback: bool = True, max_slope: float = 1.0
    ):
        super().__init__()
        n, m, classes = design.sizes.states, design.sizes.inputs, design.sizes.classes

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.gamma, self.max_slope, self.feedback = design.certificate.gamma, max_slope, feedback
        self.t = normal(n, n, scale=0.5 / n**0.5)
        self.log_eta = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.w_input = normal(n, m, scale=0.7 / m**0.5)
        self.bias = normal(n, scale=0.05)
        self.readout = normal(classes, n, scale=1 / n**0.5)
        self.readout_bias = nn.Parameter(torch.zeros(classes, dtype=torch.float64))

    def w_state(self) -> Tensor:
        """Class-A feedback matrix (N, N), or zeros for the ablation without feedback."""
        if not self.feedback:
            return torch.zeros_like(self.t)
        return class_a(self.t, self.log_eta, self.gamma, self.max_slope)

    def weights(self) -> Tensor:
        """(inputs + 1 + N, N): logical rows x, bias, z by columns."""
        return torch.cat([self.w_input.T, self.bias[None], self.w_state().T])

    def logits(self, z: Tensor) -> Tensor:
        """Class scores (..., classes) of read states (..., N)."""
        return z @ self.readout.T + self.readout_bias
