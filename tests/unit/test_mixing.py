"""Mixes within Picard: what they save, and that they cannot keep an iteration from converging."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from analog_deq.equilibrium import iterate
from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.iterate import Result, Settings, picard
from analog_deq.equilibrium.problems import State
from analog_deq.equilibrium.solve import equilibrium

RUN = Settings(1e-10, 5000)


class Affine:
    """``z = A z + b``, whose error is known."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def step(self, z: Tensor) -> Tensor:
        return z @ self.a.mT + self.b

    def residual(self, after: Tensor, before: Tensor) -> Tensor:
        return (after - before).abs().amax(-1)

    def narrow(self, index: Tensor) -> Affine:
        return Affine(self.a, self.b[index])


def solve(a: Tensor, run: Settings = RUN, batch: int = 8) -> tuple[Result, Tensor]:
    b = torch.randn(batch, len(a), generator=torch.Generator().manual_seed(3), dtype=a.dtype)
    exact = torch.linalg.solve(torch.eye(len(a), dtype=a.dtype) - a, b.mT).mT
    return picard(Affine(a, b), torch.zeros_like(b), run), exact


def plain_steps(rate: float, tol: float = 1e-10) -> float:
    return math.log(tol) / math.log(rate)


def orthogonal(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]


def test_one_slow_mode_costs_few_steps() -> None:
    q = orthogonal(12)
    a = q @ torch.diag(torch.tensor([0.98] + [0.2] * 11, dtype=torch.float64)) @ q.mT
    result, exact = solve(a)
    assert result.iterations < plain_steps(0.98) / 20
    assert torch.allclose(result.z, exact, atol=1e-8)


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_several_slow_modes_cost_no_more_than_plain_steps(damping: float) -> None:
    q = orthogonal(12)
    modes = torch.linspace(-0.9, 0.95, 12, dtype=torch.float64)
    result, exact = solve(q @ torch.diag(modes) @ q.mT, Settings(1e-10, 5000, damping))
    assert result.iterations < 1.2 * plain_steps(1 - damping * 0.05)
    assert torch.allclose(result.z, exact, atol=1e-7)


def test_a_rotation_which_no_mix_helps_converges_like_plain_steps() -> None:
    angle = torch.tensor(1.2, dtype=torch.float64)
    turn = 0.95 * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    result, exact = solve(torch.block_diag(turn, turn.mT))
    assert result.iterations < 1.1 * plain_steps(0.95) + 20
    assert torch.allclose(result.z, exact, atol=1e-8)


def test_a_map_far_from_normal_converges() -> None:
    """Its residual grows at first, in the norm that the mixes make small: they must give way to plain steps."""
    a = torch.diag(torch.full((9,), 4.0, dtype=torch.float64), 1) + 0.5 * torch.eye(10, dtype=torch.float64)
    result, exact = solve(a, batch=3)
    assert (result.residual <= 1e-10).all()
    assert torch.allclose(result.z, exact, rtol=1e-6)


def test_a_diverging_iteration_is_not_mended() -> None:
    """A mix would find the equilibrium of a gain of -3, which a circuit never settles at."""
    u = torch.tensor([[0.3]], dtype=torch.float64)
    system = System(torch.tensor([[-3.0]], dtype=torch.float64), u, Tanh())
    _, report = equilibrium(system, max_iterations=200, on_fail="mask")
    assert not report.converged.any()


def test_nothing_is_mixed_when_few_steps_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterate, "_mix", None)
    result, _ = solve(0.1 * torch.eye(3, dtype=torch.float64), Settings(1e-5, 50))
    assert result.iterations <= 8


def test_looks_stay_few_where_mixes_help() -> None:
    looks = []

    class Counting(State):
        def residual(self, after: Tensor, before: Tensor) -> Tensor:
            looks.append(1)
            return super().residual(after, before)

    generator = torch.Generator().manual_seed(0)
    w = torch.rand(16, 16, generator=generator, dtype=torch.float64) + 0.2
    w = 0.97 * w / w.sum(1, keepdim=True)
    u = 0.01 * torch.randn(8, 16, generator=generator, dtype=torch.float64)
    result = picard(Counting(System(w, u, Tanh()), None), torch.zeros_like(u), Settings(1e-12, 5000))
    assert len(looks) <= 2 + result.iterations / 3
    assert result.iterations < 80


class HostReads(TorchDispatchMode):
    """Counts what a host would wait for a device for."""

    WAITING: ClassVar = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.waits = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.waits += func.name().split(".")[0] in self.WAITING
        return func(*args, **(kwargs or {}))


def test_a_training_step_waits_for_the_device_at_looks_only() -> None:
    """Far fewer waits than steps, and a dozen a call; on a GPU each costs what a small step does."""
    generator = torch.Generator().manual_seed(0)
    ring = torch.roll(torch.eye(32, dtype=torch.float64), 1, 1)  # one large entry a row: slow, and no mix helps
    w = (0.93 * ring).requires_grad_()
    u = 0.01 * torch.randn(64, 32, generator=generator, dtype=torch.float64)
    reads = HostReads()
    with reads:
        z, report = equilibrium(System(w, u, Tanh()), tol=1e-10)
        z.square().sum().backward()
    steps = report.iterations + report.adjoint.iterations
    assert steps > 300
    assert reads.waits < steps / 8 + 12
