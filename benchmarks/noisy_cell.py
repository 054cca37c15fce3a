"""A noisy cell whose true gradient is known, and the gradient estimators that are compared on it.

``dz = (-z + tanh(W z + u)) dt + s dB``, ``u = U x + b``, time in units of the time constant; the loss is the cross-
entropy of one read of ``z``. The true gradient of its mean is that of backpropagation through many noisy trajectories.
All estimators but that one and the differentiated covariance are calls of :func:`.equilibrium`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.noise import linearise, stationary_covariance
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import NormBounded

NODES, BATCH, INPUTS, CLASSES = 32, 64, 16, 10
STEP, STEPS = 0.05, 400
"""Euler-Maruyama step in time constants, and steps from the noise-free equilibrium to the read."""
CHUNK, COVARIANCE_CHUNK = 16, 4
"""Draws in memory at a time: 400 steps of 16 are 100 MB; each covariance needs a graph of 9 doublings."""
TOL = 1e-5
ALIGNED = 2.0
READOUT = 8.0
"""Confident scores: the steeper the loss, the more noise matters. With 2 the bias of ignoring it is a quarter."""
READS = 8
ACT = Tanh()

Measure = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class NoisyCell:
    """Weights ``w`` (N, N), ``w_input`` (N, M), ``bias`` (N,), one batch, a linear readout and the noise ``s``."""

    w: Tensor
    w_input: Tensor
    bias: Tensor
    readout: Tensor
    x: Tensor
    labels: Tensor
    intensity: float
    claim: Claim | None = None

    @property
    def u(self) -> Tensor:
        """Drive (B, N)."""
        return self.x @ self.w_input.mT + self.bias

    def rest(self) -> Tensor:
        """The noise-free equilibrium (B, N)."""
        with torch.no_grad():
            return equilibrium(System(self.w, self.u, ACT, self.claim), tol=TOL)[0]

    def loss(self, z: Tensor) -> Tensor:
        """Mean cross-entropy of each draw (D,) of reads ``z`` (D, B, N)."""
        logits = z @ self.readout.mT
        spread = torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.labels.repeat(len(z)), reduction="none")
        return spread.unflatten(0, (len(z), -1)).mean(1)

    def slope(self, z: Tensor) -> Tensor:
        """Activation slopes at ``z``."""
        return ACT.slope(z @ self.w.mT + self.u)

    def with_noise(self, deviation: float) -> NoisyCell:
        """The same cell with noise that moves its states by ``deviation`` rms, by the Lyapunov equation."""
        unit = replace(self, intensity=1.0)
        return replace(self, intensity=deviation / float(deviations(unit).square().mean().sqrt()))


def make_cell(kind: str, *, seed: int = 0, nodes: int = NODES, batch: int = BATCH) -> NoisyCell:
    """A cell without noise yet. ``free``: Gaussian W scaled to 2-norm 1.5; ``A``, ``symmetric``: class A, gamma 0.9.

    The certified ones are ``T = 2 signs signs^T + Gauss`` at the bound: the aligned part gives them a slow mode.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    claim = None
    if kind == "free":
        w = normal(nodes, nodes)
        w *= 1.5 / torch.linalg.matrix_norm(w, 2)
    else:
        symmetric = kind == "symmetric"
        weight = NormBounded(nodes, 0.9, generator=generator, symmetric=symmetric, dtype=torch.float32)
        signs = torch.randint(0, 2, (nodes,), generator=generator) * 2.0 - 1.0
        with torch.no_grad():
            weight.t.copy_(ALIGNED * torch.outer(signs, signs) + normal(nodes, nodes))
            w, claim = weight().clone(), weight.claim()
    return NoisyCell(
        w, normal(nodes, INPUTS) / INPUTS**0.5, 0.1 * normal(nodes), READOUT * normal(CLASSES, nodes) / nodes**0.5,
        normal(batch, INPUTS), torch.randint(0, CLASSES, (batch,), generator=generator), 0.0, claim,
    )  # fmt: skip


def covariance(w: Tensor, slope: Tensor, intensity: float) -> Tensor:
    """Stationary covariance (..., N, N) of the states, float64: ``A C + C A^T + s^2 I = 0``, ``A = -I + D W``.

    The noise is that of the state equation, so the slope sits on the rows; of the circuit's, on the columns.
    """
    n = w.shape[-1]
    one = torch.ones(n, dtype=torch.float64)
    a = linearise(w.double().mT, slope.double(), one).mT
    return stationary_covariance(a, intensity**2 * torch.eye(n, dtype=torch.float64))


def deviations(cell: NoisyCell) -> Tensor:
    """Predicted standard deviation (B, N) of every state."""
    return covariance(cell.w, cell.slope(cell.rest()), cell.intensity).diagonal(dim1=-2, dim2=-1).sqrt()


# --- the noisy trajectory, and its gradient -------------------------------------------------------------------------


def read(
    cell: NoisyCell, draws: int, generator: torch.Generator, *, nudge: Tensor | None = None, window: int = 1
) -> Tensor:
    """Reads (D, B, N) of as many noisy trajectories, each the mean of its last ``window`` steps."""
    rest, u = cell.rest(), cell.u
    kick = cell.intensity * STEP**0.5
    out = []
    for start in range(0, draws, 4 * CHUNK):
        count = min(4 * CHUNK, draws - start)
        drive = u.expand(count, *u.shape) if nudge is None else u + nudge[start : start + count]
        z = rest.repeat(count, 1, 1)
        total = torch.zeros_like(z)
        for step in range(STEPS + window - 1):
            f = torch.matmul(z, cell.w.mT).add_(drive).tanh_()
            z.lerp_(f, STEP).add_(torch.randn(z.shape, generator=generator), alpha=kick)
            if step >= STEPS - 1:
                total += z
        out.append(total / window)
    return torch.cat(out)


def through_time(
    cell: NoisyCell, draws: int, generator: torch.Generator, *, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Gradients (D, P) by backpropagation through noisy trajectories that start at rest, and their reads (D, B, N)."""
    rest, u, wt = cell.rest(), cell.u, cell.w.mT
    kick = cell.intensity * STEP**0.5
    gradients, reads = [], []
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        z = rest.repeat(count, 1, 1)
        path, fed = [], []
        for _ in range(steps):
            f = torch.matmul(z, wt).add_(u).tanh_()
            path.append(z)
            fed.append(f)
            z = torch.lerp(z, f, STEP).add_(torch.randn(z.shape, generator=generator), alpha=kick)
        leaf = z.clone().requires_grad_()
        (v,) = torch.autograd.grad(cell.loss(leaf).sum(), leaf)
        grad_w, q_sum = torch.zeros(count, *cell.w.shape), torch.zeros_like(z)
        for before, f in zip(reversed(path), reversed(fed), strict=True):
            q = f.square_().neg_().add_(1.0).mul_(v).mul_(STEP)
            grad_w.baddbmm_(q.mT, before)
            q_sum += q
            v = torch.matmul(q, cell.w).add_(v, alpha=1.0 - STEP)
        gradients.append(flat(grad_w, q_sum.mT @ cell.x, q_sum.sum(1)))
        reads.append(z)
    return torch.cat(gradients), torch.cat(reads)


def flat(*parts: Tensor) -> Tensor:
    """Gradients (D, ...) side by side, (D, P)."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


# --- estimators -----------------------------------------------------------------------------------------------------


def estimate(
    cell: NoisyCell,
    draws: int = 1,
    *,
    measured: Tensor | Measure | None = None,
    noise_at_read: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Gradients (D, P) in W, U and b of one call of ``equilibrium``, one for each draw.

    ``measured`` (D, B, N), or a callable with ``nudge``, is the forward pass; ``noise_at_read`` (D, B, N) is added
    where the state is read. The other options are those of ``equilibrium``.
    """
    leaves = [p.repeat(draws, *([1] * p.ndim)).requires_grad_() for p in (cell.w, cell.w_input, cell.bias)]
    w, w_input, bias = leaves
    u = cell.x @ w_input.mT + bias.unsqueeze(1)
    if measured is not None:
        options["forward"] = measured if callable(measured) else lambda _x, _draw, *, nudge=None: measured
    if noise_at_read is not None:
        options["read_noise"] = lambda _system, _z, _slope: noise_at_read
    z, _ = equilibrium(System(w, u, ACT, cell.claim), tol=TOL, **options)
    return flat(*torch.autograd.grad(cell.loss(z).sum(), leaves))


def lyapunov_noise(cell: NoisyCell, draws: int, generator: torch.Generator) -> Tensor:
    """Stationary noise (D, B, N) of the linearised cell at its noise-free equilibrium."""
    factor = torch.linalg.cholesky(covariance(cell.w, cell.slope(cell.rest()), cell.intensity)).float()
    normal = torch.randn(draws, *cell.u.shape, generator=generator)
    return (factor @ normal.unsqueeze(-1)).squeeze(-1)


def through_covariance(cell: NoisyCell, draws: int, generator: torch.Generator) -> Tensor:
    """Gradients (D, P) when the covariance of the added noise is differentiated too."""
    out = []
    for start in range(0, draws, COVARIANCE_CHUNK):
        count = min(COVARIANCE_CHUNK, draws - start)
        leaves = [p.repeat(count, *([1] * p.ndim)).requires_grad_() for p in (cell.w, cell.w_input, cell.bias)]
        w, w_input, bias = leaves
        u = cell.x @ w_input.mT + bias.unsqueeze(1)
        z, _ = equilibrium(System(w, u, ACT, cell.claim), tol=TOL)
        c = covariance(w.unsqueeze(1), ACT.slope(z @ w.mT + u), cell.intensity)
        normal = torch.randn(z.shape, generator=generator)
        noisy = z + (torch.linalg.cholesky(c).float() @ normal.unsqueeze(-1)).squeeze(-1)
        out.append(flat(*torch.autograd.grad(cell.loss(noisy).sum(), leaves)))
    return torch.cat(out)


def fresh_noise_states(
    cell: NoisyCell, draws: int, generator: torch.Generator, *, matched: bool, steps: int = 60
) -> Tensor:
    """The last of ``steps`` Picard steps (D, B, N) with fresh noise in each.

    The noise of a step is that of the states, which the loop then amplifies; ``matched`` makes it smaller, so that the
    last step's states move as much as the cell's.
    """
    size = float(deviations(cell).square().mean().sqrt())
    if matched:
        f = cell.slope(cell.rest()).unsqueeze(-1) * cell.w
        amplified = eye = torch.eye(cell.w.shape[0])
        for _ in range(200):
            amplified = eye + f @ amplified @ f.mT
        size /= float(amplified.diagonal(dim1=-2, dim2=-1).mean().sqrt())
    z = cell.rest().repeat(draws, 1, 1)
    for _ in range(steps):
        z = torch.tanh(z @ cell.w.mT + cell.u) + size * torch.randn(z.shape, generator=generator)
    return z


def unrolled_loss(cell: NoisyCell, measured: Tensor, k: int) -> Tensor:
    """Gradients (D, P) with the loss at the state that ``k`` recorded steps from the measured one lead to."""
    leaves = [p.repeat(len(measured), *([1] * p.ndim)).requires_grad_() for p in (cell.w, cell.w_input, cell.bias)]
    w, w_input, bias = leaves
    z, u = measured, cell.x @ w_input.mT + bias.unsqueeze(1)
    for _ in range(k):
        z = torch.tanh(z @ w.mT + u)
    return flat(*torch.autograd.grad(cell.loss(z).sum(), leaves))


def nudged_reads(cell: NoisyCell, free: Tensor, generator: torch.Generator, *, noisy: bool, window: int = 1) -> Measure:
    """A forward pass for equilibrium propagation: ``free`` reads, then nudged phases, noisy or settled and averaged."""

    def measure(_x: Any, _draw: Any, *, nudge: Tensor | None = None) -> Tensor:
        if nudge is None:
            return free
        if noisy:
            return read(cell, len(nudge), generator, nudge=nudge, window=window)
        w = cell.w.expand(len(nudge), *cell.w.shape)
        return equilibrium(System(w, cell.u + nudge, ACT, cell.claim), tol=TOL)[0]

    return measure


def averaged(reads: Tensor, count: int = READS) -> Tensor:
    """Means of ``count`` reads each, (D // count, B, N)."""
    whole = len(reads) // count * count
    return reads[:whole].unflatten(0, (-1, count)).mean(1)
