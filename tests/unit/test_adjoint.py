"""Backward solve: equal to the dense solve, independent of the loss scale, never silently wrong."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)


def cell(n: int = 6, batch: int = 4, draws: int = 0, gamma: float = 0.9, seed: int = 0):
    gen = torch.Generator().manual_seed(seed)
    t = torch.randn(max(draws, 1), n, n, generator=gen, dtype=torch.float64)
    w = torch.stack([class_a(x, 0.3 * torch.randn(n, generator=gen, dtype=torch.float64), gamma) for x in t])
    u = torch.randn(max(draws, 1), batch, n, generator=gen, dtype=torch.float64)
    return (w, u) if draws else (w[0], u[0])


@dataclass(frozen=True)
class Scaled:
    """``z = s tanh(h / s)`` with a full scale per node."""

    scale: Tensor
    max_slope: float = 1.0

    def value(self, h: Tensor) -> Tensor:
        return self.scale * torch.tanh(h / self.scale)

    def slope(self, h: Tensor) -> Tensor:
        return 1.0 - torch.tanh(h / self.scale) ** 2


@pytest.mark.parametrize("draws", [0, 3])
@pytest.mark.parametrize("damping", [1.0, 0.7])
@pytest.mark.parametrize("per_node", [False, True])
def test_gradcheck(draws, damping, per_node):
    w, u = cell(n=4, batch=2, draws=draws)
    act = Scaled(torch.linspace(0.5, 2.0, 4, dtype=torch.float64)) if per_node else Tanh()
    inputs = (w.requires_grad_(), u.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda a, b: equilibrium(System(a, b, act), tol=1e-13, max_iterations=3000, damping=damping)[0], inputs
    )


@pytest.mark.parametrize("draws", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_equals_the_dense_solve(draws, seed):
    w, u = cell(n=16, batch=5, draws=draws, seed=seed, gamma=0.95)
    w.requires_grad_()
    u.requires_grad_()
    target = torch.randn(u.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    z, report = equilibrium(System(w, u, Tanh()), tol=1e-13, max_iterations=5000)
    (z * target).sum().backward()
    with torch.no_grad():
        d = 1 - z**2
        wide = w[..., None, :, :]
        system = torch.eye(16) - wide.mT * d[..., None, :]
        v = torch.linalg.solve(system, target[..., None])[..., 0]
        du = d * v
        dw = torch.einsum("...bi,...bj->...ij", du, z)
    assert (u.grad - du).abs().max() < 1e-10
    assert (w.grad - dw).abs().max() < 1e-10
    assert report.gradient == "implicit(same)"
    assert report.adjoint.runs == 1
    assert report.adjoint.residual <= 1e-13


@pytest.mark.parametrize("scale", [1e-200, 1 / 65536, 256.0, 1e200])
def test_adjoint_does_not_depend_on_the_scale_of_the_loss(scale):
    w, u = cell(n=16, batch=8)
    runs = []
    for factor in (1.0, scale):
        w_ = w.clone().requires_grad_()
        z, report = equilibrium(System(w_, u, Tanh()), tol=1e-6)
        (z.square().sum() * factor).backward()
        runs.append((report.adjoint.iterations, w_.grad / factor))
    assert runs[0][0] == runs[1][0]
    assert (runs[0][1] - runs[1][1]).norm() <= 1e-14 * runs[0][1].norm()


def test_a_solver_that_stops_at_once_keeps_the_full_gradient():
    # TorchDEQ swaps in the one-step gradient when the solver converges early: 30 % error.
    w, u = cell(n=16)
    exact, _ = equilibrium(System(w, u, Tanh()), tol=1e-13, max_iterations=3000)
    grads = []
    for z0 in (None, exact):
        w_ = w.clone().requires_grad_()
        z, report = equilibrium(System(w_, u, Tanh()), tol=1e-12, z0=z0, max_iterations=3000)
        z.square().sum().backward()
        grads.append(w_.grad)
    assert report.iterations == 4
    assert torch.allclose(*grads, atol=1e-10, rtol=0)


def test_eval_mode_does_not_touch_the_gradient_and_no_grad_says_none():
    # TorchDEQ: in eval() the output never carries a gradient.
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(cell()[0])

        def forward(self, u):
            return equilibrium(System(self.w, u, Tanh()))

    net, u = Net().eval(), cell()[1]
    z, report = net(u)
    assert z.requires_grad
    assert report.gradient == "implicit(same)"
    with torch.no_grad():
        z, report = net(u)
    assert not z.requires_grad
    assert report.gradient == "none"


def test_only_what_asks_for_a_gradient_gets_one():
    w, u = cell()
    u.requires_grad_()
    z0 = torch.zeros_like(u).detach().requires_grad_()
    z, _ = equilibrium(System(w, u, Tanh()), z0=z0)
    z.sum().backward()
    assert w.grad is None
    assert z0.grad is None
    assert u.grad.abs().sum() > 0


def test_second_order_is_refused():
    # TorchDEQ's double backward returns wrong values without an error.
    w, u = cell(n=3, batch=2)
    w.requires_grad_()
    z, _ = equilibrium(System(w, u, Tanh()))
    with pytest.raises(EquilibriumError, match="second-order"):
        torch.autograd.grad(z.sum(), w, create_graph=True)
    with pytest.raises(EquilibriumError, match="second-order"):
        torch.autograd.gradgradcheck(lambda a: equilibrium(System(a, u, Tanh()), tol=1e-12)[0], (w,))


def test_backward_twice_with_retain_graph_is_counted():
    w, u = cell()
    w.requires_grad_()
    z, report = equilibrium(System(w, u, Tanh()))
    first = torch.autograd.grad(z.sum(), w, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(z.sum(), w)[0])
    assert report.adjoint.runs == 2


def test_adjoint_that_does_not_converge_raises():
    # The forward solve starts at the equilibrium 0 of gains beyond 1; the adjoint there diverges undamped.
    w = torch.diag(torch.tensor([-1.5, -2.5, 3.5], dtype=torch.float64)).requires_grad_()
    z, _ = equilibrium(System(w, torch.zeros(1, 3, dtype=torch.float64), Tanh()))
    with pytest.raises(EquilibriumError, match=r"adjoint did not converge: sample \[0\].*no gradient was returned"):
        z.sum().backward()
    assert w.grad is None


def test_a_loss_that_is_not_finite_is_named():
    w, u = cell()
    w.requires_grad_()
    z, _ = equilibrium(System(w, u, Tanh()))
    with pytest.raises(EquilibriumError, match=r"dL/dz of sample \[2\] is not finite"):
        (z * torch.tensor([1.0, 1.0, float("inf"), 1.0])[:, None]).sum().backward()


def test_masked_samples_may_not_enter_the_loss_and_leave_no_trace():
    w = torch.tensor([[-3.0]], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([[50.0], [0.3], [float("nan")], [-5.0]], dtype=torch.float64)
    z, report = equilibrium(System(w, u, Tanh()), max_iterations=40, on_fail="mask")
    with pytest.raises(EquilibriumError, match=r"2 samples did not converge.*report.converged"):
        z.nan_to_num().sum().backward()
    z, report = equilibrium(System(w, u, Tanh()), max_iterations=40, tol=1e-13, on_fail="mask")
    z[report.converged].sum().backward()
    alone = w.detach().clone().requires_grad_()
    equilibrium(System(alone, u[[0, 3]], Tanh()), tol=1e-13)[0].sum().backward()
    assert torch.allclose(w.grad, alone.grad, rtol=1e-9)


def test_activation_parameters_get_their_gradient():
    w, u = cell(n=4)
    scale = torch.linspace(0.5, 2.0, 4, dtype=torch.float64, requires_grad=True)
    w.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, s: equilibrium(System(a, u, Scaled(s)), tol=1e-13, max_iterations=3000)[0], (w, scale)
    )


def test_samples_without_gradient_are_exactly_zero():
    w, u = cell()
    u.requires_grad_()
    z, report = equilibrium(System(w, u, Tanh()), tol=1e-8)
    (z[1] * 1e-3).sum().backward()
    assert not u.grad[[0, 2, 3]].any()
    assert u.grad[1].any()
    assert report.adjoint.residual <= 1e-8


def test_changing_the_result_in_place_changes_no_gradient():
    w, u = cell()
    grads = []
    for shift in (0.0, 1.0):
        leaf = w.clone().requires_grad_()
        z, _ = equilibrium(System(leaf, u, Tanh()))
        (z + 0).add_(shift).sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_float32_meets_its_tolerance_near_the_limit():
    w, u = cell(n=64, batch=16, gamma=0.98)
    w32 = w.float().requires_grad_()
    z, report = equilibrium(System(w32, u.float(), Tanh()))
    z.square().sum().backward()
    w.requires_grad_()
    equilibrium(System(w, u, Tanh()), tol=1e-13, max_iterations=5000)[0].square().sum().backward()
    assert report.adjoint.residual <= 1e-6
    assert (w32.grad - w.grad).norm() / w.grad.norm() < 1e-4
