"""What TorchDEQ 0.1.0 gets wrong, shown on it, and right here. A test fails when the peer is mended: then drop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.cell import FunctionSystem, System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import EquilibriumError

torchdeq = pytest.importorskip("torchdeq")
BOTH = {"f_stop_mode": "rel", "b_stop_mode": "rel", "f_max_iter": 200, "b_max_iter": 200}


def problem(n: int = 8, batch: int = 6, gamma: float = 0.8) -> tuple[Tensor, Tensor]:
    """A class-A matrix with a slow mode, and inputs."""
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(n, n, generator=generator, dtype=torch.float64) + 0.3
    u = 0.1 * torch.randn(batch, n, generator=generator, dtype=torch.float64)
    return (gamma * w / w.sum(1, keepdim=True)).requires_grad_(), u


def peer(w: Tensor, u: Tensor, **options: Any) -> tuple[Tensor, Any]:
    """Last state and statistics of TorchDEQ, implicit gradients asked for."""
    deq = torchdeq.get_deq(**{"core": "sliced", "ift": True, **BOTH, **options})
    z, info = deq(lambda z: torch.tanh(z @ w.mT + u), torch.zeros_like(u))
    return z[-1], info


def gradient(w: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(z.square().sum(), w)[0]


def exact(w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Equilibrium and gradient in plain torch: many steps, then linear solves."""
    with torch.no_grad():
        z = torch.zeros_like(u)
        for _ in range(1000):
            z = torch.tanh(z @ w.mT + u)
        slope = 1 - z * z
        eye = torch.eye(len(w), dtype=w.dtype)
        v = torch.linalg.solve((eye - slope.unsqueeze(-1) * w).mT, (2 * z).unsqueeze(-1)).squeeze(-1)
        return z, (v * slope).mT @ z


def relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def test_implicit_gradient_is_silently_replaced() -> None:
    """With more than one state, early convergence cuts the list that the implicit gradient is at the end of."""
    w, u = problem()
    true = exact(w, u)[1]
    tight = {"f_tol": 1e-10, "b_tol": 1e-10, "core": "indexing"}
    assert relative(gradient(w, peer(w, u, **tight)[0]), true) < 1e-6
    assert relative(gradient(w, peer(w, u, n_states=2, **tight)[0]), true) > 0.2
    z, report = equilibrium(System(w, u, Tanh()), tol=1e-10)
    assert report.gradient == "implicit(same)"
    assert relative(gradient(w, z), true) < 1e-8


def test_a_solver_of_its_own_list_fails_backward() -> None:
    w, u = problem()
    with pytest.raises(TypeError, match="tau"):
        gradient(w, peer(w, u, b_solver="simple_fixed_point_iter")[0])
    true = exact(w, u)[1]
    for adjoint in ("same", "dense", "gmres"):  # every name that is accepted runs; any other is refused at once
        assert relative(gradient(w, equilibrium(System(w, u, Tanh()), tol=1e-10, adjoint=adjoint)[0]), true) < 1e-7
    with pytest.raises(EquilibriumError, match="choose one of"):
        equilibrium(System(w, u, Tanh()), adjoint="simple_fixed_point_iter")


def test_second_order_is_wrong_without_a_word() -> None:
    w, u = problem(n=4, batch=3, gamma=0.7)
    direction = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def product(solve: Callable[[Tensor], Tensor]) -> Tensor:
        z = solve(w)
        (first,) = torch.autograd.grad(z.square().sum(), w, create_graph=True)
        return torch.autograd.grad((first * direction).sum(), w)[0]

    step = 1e-5
    true = (exact(w + step * direction, u)[1] - exact(w - step * direction, u)[1]) / (2 * step)
    wrong = product(lambda w: peer(w, u, f_tol=1e-12, b_tol=1e-12)[0])
    assert relative(wrong, true) > 0.05
    right = product(lambda w: equilibrium(System(w, u, Tanh()), tol=1e-12, adjoint="dense")[0])
    assert relative(right, true) < 1e-6
    with pytest.raises(EquilibriumError, match="second-order"):
        product(lambda w: equilibrium(System(w, u, Tanh()), tol=1e-12)[0])


def test_evaluation_mode_drops_the_gradient() -> None:
    """Here grad mode alone decides; there is no other switch, and ``report.gradient`` says what was attached."""
    w, u = problem()
    deq = torchdeq.get_deq(core="sliced", ift=True, **BOTH).eval()
    z, _ = deq(lambda z: torch.tanh(z @ w.mT + u), torch.zeros_like(u))
    assert not z[-1].requires_grad
    z, report = equilibrium(System(w, u, Tanh()), tol=1e-10)
    assert (z.requires_grad, report.gradient) == (True, "implicit(same)")
    with torch.no_grad():
        z, report = equilibrium(System(w, u, Tanh()), tol=1e-10)
    assert (z.requires_grad, report.gradient) == (False, "none")


def test_the_residual_is_not_the_error() -> None:
    """TorchDEQ stops, as any solver, at a residual; a slow mode makes the error many times that. Here it is bounded."""
    w, u = problem(gamma=0.97)
    state, _ = exact(w, u)
    z, info = peer(w, u, f_tol=1e-3)
    error = (z.detach() - state).norm(dim=1) / state.norm(dim=1)
    assert float(info["rel_lowest"].max()) <= 1e-3
    assert float(error.max()) > 5e-3
    z, report = equilibrium(System(w, u, Tanh(), Claim("A", 0.97, torch.ones(8))), tol=1e-3)
    assert report.error_bound is not None
    assert ((z.detach() - state).abs().amax(1) <= report.error_bound * (1 + 1e-9)).all()


def test_the_worst_sample_keeps_the_batch_busy() -> None:
    w, u = problem(batch=40, gamma=0.97)
    u[1:] = 30.0 * u[1:].sign()  # saturated: there after a step
    rows: list[int] = []

    def f(z: Tensor) -> Tensor:
        rows.append(len(z))
        return torch.tanh(z @ w.mT + u)

    deq = torchdeq.get_deq(core="sliced", ift=True, f_tol=1e-10, **BOTH)
    with torch.no_grad():
        deq(f, torch.zeros_like(u))
    assert len(rows) > 20
    assert set(rows) == {40}
    _, report = equilibrium(System(w, u, Tanh()), tol=1e-10)
    assert report.converged.all()
    assert int(report.steps[1:].max()) < int(report.steps[0])


def test_backward_steps_depend_on_the_scale_of_the_loss() -> None:
    """The regulariser of its Anderson is absolute, 1e-4; the adjoint is as small as the loss."""
    w, u = problem(gamma=0.9)
    counts, here = [], []
    for scale in (1e-2, 1e4):
        steps: list[int] = []
        deq = torchdeq.get_deq(
            core="sliced", ift=True, f_solver="anderson", b_solver="anderson", f_tol=1e-6, b_tol=1e-6, **BOTH
        )
        z, _ = deq(
            lambda z: torch.tanh(z @ w.mT + u), torch.zeros_like(u),
            backward_writer=lambda stats, steps=steps: steps.append(int(stats["nstep"].max())),
        )  # fmt: skip
        gradient(w, scale**0.5 * z[-1])
        counts += steps
        z, report = equilibrium(System(w, u, Tanh()), tol=1e-6, solver="anderson")
        gradient(w, scale**0.5 * z)
        here.append(report.adjoint.iterations)
    assert counts[0] > 1.2 * counts[-1]
    assert len(set(here)) == 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gradients_here_do_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    w, u = problem()
    true = exact(w, u)[1]
    z, _ = equilibrium(FunctionSystem(lambda z: torch.tanh(z @ w.mT + u), u), tol=1e-10)
    (found,) = torch.autograd.grad(z.square().sum() * scale, w)
    assert relative(found / scale, true) < 1e-8
