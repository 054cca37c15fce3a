"""One training step through an equilibrium, for benchmarks: cases, our side, TorchDEQ's side, exact gradients.

A step is ``u = U x + b``, the equilibrium ``z = tanh(W z + u)``, the loss ``|z - target|^2 / batch``, and gradients of
``W``, ``U`` and ``b``. ``W`` is of class A: random, row sums of ``|W|`` equal to ``GAMMA``, with an aligned part that
gives it a slow mode; its share is searched until the mean spectral radius of ``D W`` over the batch is the wanted one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchdeq import get_deq

from analog_deq.equilibrium.cell import FunctionSystem, System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.report import EquilibriumReport
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import Monotone, class_a

BATCH, INPUTS = 256, 64
GAMMA = 0.95
DRIVE = 0.2
"""Standard deviation of the input: small, so that slopes stay near 1 and the spectral radius comes near ``GAMMA``."""
SAMPLES, POWER = 32, 100
"""Samples and power iterations for the mean spectral radius."""
CLOSE = 2e-3
"""How near the spectral radius is to the one asked for."""
MOST = 500
PEER_MOST = 100
"""Step limit of TorchDEQ. Its statistics cost a little for every step allowed: the default is used if it suffices."""
PEER_DEFAULT = 40


@dataclass(slots=True)
class Case:
    """Parameters and data of a step; ``rho`` is the mean spectral radius of ``D W`` at the equilibria."""

    w: Tensor
    into: Tensor
    bias: Tensor
    x: Tensor
    target: Tensor
    claim: Claim
    rho: float
    exact: list[Tensor] = field(default_factory=list)

    @property
    def leaves(self) -> list[Tensor]:
        return [self.w, self.into, self.bias]

    def begin(self) -> Tensor:
        """Gradients forgotten; ``u`` (B, N) by the outer linear layer."""
        for leaf in self.leaves:
            leaf.grad = None
        return torch.addmm(self.bias, self.x, self.into.mT)

    def end(self, z: Tensor) -> None:
        """Loss and backward pass."""
        ((z - self.target).square().sum() / len(self.x)).backward()

    def error(self) -> float:
        """Worst relative error of the gradients of ``W``, ``U`` and ``b``, against the exact ones."""
        if not self.exact:
            self.exact = exact_gradients(self)
        made = [leaf.grad.double() for leaf in self.leaves]
        return max(float((g - e).norm() / e.norm()) for g, e in zip(made, self.exact, strict=True))


def _data(n: int, generator: torch.Generator, batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    into = torch.randn(n, INPUTS, generator=generator) / INPUTS**0.5
    x = DRIVE * torch.randn(batch, INPUTS, generator=generator)
    return into, torch.zeros(n), x, torch.randn(batch, n, generator=generator)


def class_a_case(n: int, rho: float, device: str = "cpu", *, modes: int = 1, seed: int = 0) -> Case:
    """A certified case whose spectral radius is ``rho`` to ``CLOSE``; ValueError when no aligned share gives it.

    With several ``modes`` the aligned part is that many blocks, the last of 0.6 the row sum of the first.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (n,), generator=generator).float() * 2 - 1
    rough = torch.randn(n, n, generator=generator)
    into, bias, x, target = _data(n, generator)
    u = x[:SAMPLES] @ into.mT + bias
    block = torch.arange(n) * modes // n
    aligned = torch.outer(signs, signs) * (block[:, None] == block) * modes
    size = 1 - 0.4 * block.float() / max(modes - 1, 1)
    start = torch.randn(len(u), n, generator=generator)

    def made(share: float) -> tuple[Tensor, float]:
        w = class_a(share * aligned + (1 - share) * rough, torch.zeros(n), GAMMA) * size[:, None]
        return w, spectral_radius(w, u, start)

    low, high = 0.0, 1.0
    for _ in range(30):
        w, found = made(0.5 * (low + high))
        if abs(found - rho) <= CLOSE:
            break
        low, high = (0.5 * (low + high), high) if found < rho else (low, 0.5 * (low + high))
    else:
        raise ValueError(
            f"no class-A matrix of {n} nodes with gamma {GAMMA} and spectral radius {rho}; got {found:.3f}"
        )
    return _case(w, into, bias, x, target, Claim("A", GAMMA, torch.ones(n)), found, device)


def class_c_case(n: int, margin: float, skew: float, device: str = "cpu", *, seed: int = 0) -> Case:
    """A case of class C whose skew part is ``skew`` times that of a freshly made trainable matrix."""
    generator = torch.Generator().manual_seed(seed)
    module = Monotone(n, margin, generator=generator, dtype=torch.float32)
    with torch.no_grad():
        assert module.skew is not None
        module.skew.mul_(skew)
        w = module()
    into, bias, x, target = _data(n, generator)
    found = spectral_radius(w, x[:SAMPLES] @ into.mT + bias, torch.randn(SAMPLES, n, generator=generator), "newton")
    return _case(w, into, bias, x, target, module.claim(), found, device)


def _case(
    w: Tensor, into: Tensor, bias: Tensor, x: Tensor, target: Tensor, claim: Claim, rho: float, device: str
) -> Case:
    w, into, bias = (t.detach().to(device).requires_grad_() for t in (w, into, bias))
    return Case(w, into, bias, x.to(device), target.to(device), claim, rho)


def spectral_radius(w: Tensor, u: Tensor, start: Tensor, solver: str = "picard") -> float:
    """Mean over samples of the spectral radius of ``D W`` by power iteration; the geometric mean of its last half."""
    z, _ = equilibrium(System(w, u, Tanh()), tol=1e-5, solver=solver, max_iterations=MOST)  # type: ignore[arg-type]
    slope, v, growth = 1 - z * z, start, []
    for _ in range(POWER):
        v = (v @ w.mT) * slope
        size = v.norm(dim=1, keepdim=True)
        v = v / size
        growth.append(size.squeeze(1).log())
    return float(torch.stack(growth[POWER // 2 :]).mean(0).exp().mean())


def exact_gradients(case: Case) -> list[Tensor]:
    """Gradients of ``W``, ``U`` and ``b`` in float64, in plain torch: by LU up to 256 nodes, by iteration beyond."""
    w, into, bias = (leaf.detach().double() for leaf in case.leaves)
    x = case.x.double()
    u = torch.addmm(bias, x, into.mT)
    z = torch.zeros_like(u)
    while True:
        after = torch.tanh(torch.addmm(u, z, w.mT))
        moved, z = (after - z).abs().max(), after
        if moved < 1e-13:
            break
    slope = 1 - z * z
    g = 2 * (z - case.target.double()) / len(x)
    if w.shape[0] <= 256:
        eye = torch.eye(w.shape[0], dtype=w.dtype, device=w.device)
        parts = zip(slope.split(64), g.split(64), strict=True)
        v = torch.cat([torch.linalg.solve((eye - s.unsqueeze(-1) * w).mT, part) for s, part in parts])
    else:
        v = g
        while True:
            after = torch.addmm(g, v * slope, w)
            moved, v = (after - v).abs().max() / after.abs().max(), after
            if moved < 1e-13:
                break
    q = v * slope
    return [q.mT @ z, q.mT @ x, q.sum(0)]


def ours(case: Case, tol: float, solver: str = "picard", adjoint: str = "same") -> EquilibriumReport:
    """One step through our core, as a certified dense system."""
    system = System(case.w, case.begin(), Tanh(), case.claim)
    z, report = equilibrium(system, tol=tol, max_iterations=MOST, solver=solver, adjoint=adjoint)  # type: ignore[arg-type]
    case.end(z)
    return report


def ours_generic(case: Case, tol: float) -> EquilibriumReport:
    """One step through our core with a function of the user's own in the place of the dense system."""
    u, w = case.begin(), case.w
    z, report = equilibrium(
        FunctionSystem(lambda z: torch.tanh(torch.addmm(u, z, w.mT)), u), tol=tol, max_iterations=MOST
    )
    case.end(z)
    return report


class Peer:
    """TorchDEQ with implicit gradients, the same solver and tolerance both ways, stopped on the relative residual."""

    def __init__(self, case: Case, tol: float, solver: str, act: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        self.case, self.act, self.iterations = case, act, (0, 0)
        for most in (PEER_DEFAULT, PEER_MOST):
            self.deq = get_deq(
                core="sliced", ift=True, f_solver=solver, b_solver=solver, f_tol=tol, b_tol=tol,
                f_stop_mode="rel", b_stop_mode="rel", f_max_iter=most, b_max_iter=most,
            )  # fmt: skip
            self._count()
            if max(self.iterations) < most:
                break

    def step(self) -> None:
        """One step, untouched by counting."""
        u, w, act = self.case.begin(), self.case.w, self.act
        z, _ = self.deq(lambda z: act(torch.addmm(u, z, w.mT)), torch.zeros_like(u))
        self.case.end(z[-1])

    def _count(self) -> None:
        calls, back = [0], [0]
        u, w = self.case.begin(), self.case.w

        def f(z: Tensor) -> Tensor:
            calls[0] += 1
            return self.act(torch.addmm(u, z, w.mT))

        def note(stats: dict[str, Tensor]) -> None:
            back[0] = int(stats["nstep"].max())

        z, _ = self.deq(f, torch.zeros_like(u), backward_writer=note)
        forward = calls[0] - 1  # one evaluation carries the gradient
        self.case.end(z[-1])
        self.iterations = forward, back[0]


def matched_tolerance(step: Callable[[float], object], case: Case, tol: float, error: float) -> float:
    """The largest of tol, 0.8 tol, 0.64 tol, ... at which ``step`` has a gradient error of at most ``error``."""
    while True:
        step(tol)
        if case.error() <= error:
            return tol
        tol *= 0.8


def floor(case: Case, products: int) -> None:
    """So many products (B, N) x (N, N), and nothing else."""
    z, w = case.target, case.w.detach().mT
    out = torch.empty_like(z)
    for _ in range(products):
        torch.mm(z, w, out=out)
