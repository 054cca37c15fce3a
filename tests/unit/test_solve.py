"""Forward solve: known fixed points, honest bounds, masks that mean something, errors that say what to do."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.solve import Tanh, equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)


@dataclass(frozen=True)
class Linear:
    """``z = g h`` with a gain per node; with gain 1 it returns its argument, the aliasing trap."""

    gain: Tensor | float = 1.0

    @property
    def max_slope(self) -> Tensor | float:
        return self.gain

    def value(self, h: Tensor) -> Tensor:
        return h if isinstance(self.gain, float) and self.gain == 1.0 else h * self.gain

    def slope(self, h: Tensor) -> Tensor:
        return torch.ones_like(h) * self.gain


def cell(n: int = 12, batch: int = 5, gamma: float = 0.9, seed: int = 0, spread: float = 0.5):
    gen = torch.Generator().manual_seed(seed)
    log_eta = spread * torch.randn(n, generator=gen, dtype=torch.float64)
    w = class_a(torch.randn(n, n, generator=gen, dtype=torch.float64), log_eta, gamma)
    return w, torch.randn(batch, n, generator=gen, dtype=torch.float64), log_eta.exp()


@pytest.mark.parametrize("damping", [1.0, 0.6])
@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("started", [False, True])
def test_linear_cell_gives_the_solution_of_the_linear_system(damping, every, started):
    w, u, _ = cell()
    z0 = torch.ones_like(u) if started else None
    z, report = equilibrium(w, u, Linear(), tol=1e-12, damping=damping, check_every=every, z0=z0)
    assert torch.allclose(z, torch.linalg.solve(torch.eye(12) - w, u.T).T, atol=1e-10, rtol=0)
    assert report.converged.all()
    assert report.gradient == "none"
    assert report.adjoint.runs == 0


def test_the_caller_keeps_his_tensors():
    w, u, _ = cell()
    z0 = torch.zeros_like(u)
    kept = u.clone()
    z, _ = equilibrium(torch.zeros_like(w), u, Linear(), check_every=1, z0=u)
    z.add_(1.0)
    equilibrium(w, u, Linear(), z0=z0)
    assert torch.equal(u, kept)
    assert not z0.any()


def test_slopes_per_node_belong_to_the_right_node():
    w, u, _ = cell(n=3)
    gain = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    z, _ = equilibrium(w, u, Linear(gain), tol=1e-12)
    assert torch.allclose(z, torch.linalg.solve(torch.eye(3) - gain[:, None] * w, (u * gain).T).T, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_error_bound_holds_and_the_residual_alone_would_not(seed, tol):
    w, u, eta = cell(seed=seed, gamma=0.95)
    exact, _ = equilibrium(w, u, Tanh(), tol=1e-14, max_iterations=5000)
    z, report = equilibrium(w, u, Tanh(), tol=tol, gamma=0.95, eta=eta, check_every=1)
    error = (z - exact).abs().amax(-1)
    assert (error <= report.error_bound).all()
    assert (report.residual <= tol).all()
    assert torch.allclose(report.error_bound, report.residual / 0.05)


def test_residual_alone_understates_the_error():
    w = torch.tensor([[0.95]], dtype=torch.float64)
    u = torch.tensor([[0.01]], dtype=torch.float64)
    z, report = equilibrium(w, u, Linear(), tol=1e-3, gamma=0.95, check_every=1)
    error = (z - 0.2).abs().item()
    assert error > 10 * report.residual.item()
    assert error <= report.error_bound.item() * (1 + 1e-9)
    assert equilibrium(w, u, Linear(), tol=1e-3)[1].error_bound is None


def test_report_is_of_the_state_returned():
    w, u, _ = cell()
    z, report = equilibrium(w, u, Tanh(), tol=1e-3)
    assert torch.allclose((torch.tanh(z @ w.T + u) - z).abs().amax(-1), report.residual, rtol=1e-9)
    assert report.iterations % 4 == 0


def test_draws_match_one_solve_per_draw():
    ws, us = zip(*[cell(seed=s)[:2] for s in range(3)], strict=True)
    z, report = equilibrium(torch.stack(ws), torch.stack(us), Tanh(), tol=1e-12)
    for k in range(3):
        assert torch.allclose(z[k], equilibrium(ws[k], us[k], Tanh(), tol=1e-12)[0], atol=1e-11)
    assert report.converged.shape == (3, 5)


def test_warm_start_costs_one_check():
    w, u, _ = cell()
    z, cold = equilibrium(w, u, Tanh(), tol=1e-10)
    again, warm = equilibrium(w, u, Tanh(), tol=1e-8, z0=z)
    assert warm.iterations == 4 < cold.iterations
    assert torch.allclose(z, again, atol=1e-9)


def bad_batch():
    """Sample 1 oscillates for ever (gain -3 around 0), the others sit in saturation and converge."""
    w = torch.tensor([[-3.0]], dtype=torch.float64)
    return w, torch.tensor([[50.0], [0.3], [-50.0]], dtype=torch.float64)


def test_failure_names_sample_residual_iterations_and_mend():
    w, u = bad_batch()
    with pytest.raises(EquilibriumError, match=r"sample \[1\] has residual .* after 40 iterations.*1 of 3.*damping"):
        equilibrium(w, u, Tanh(), max_iterations=40)


def test_damping_mends_the_oscillation():
    w, u = bad_batch()
    _, report = equilibrium(w, u, Tanh(), damping=0.4)
    assert report.converged.all()


def test_mask_flags_the_sample_that_failed():
    w, u = bad_batch()
    z, report = equilibrium(w, u, Tanh(), max_iterations=40, on_fail="mask")
    assert report.converged.tolist() == [True, False, True]
    assert z[report.converged].abs().min() > 0.99


def test_an_input_that_is_not_finite_fails_alone_and_soon():
    w, u, _ = cell()
    u[2, 0] = float("nan")
    z, report = equilibrium(w, u, Tanh(), on_fail="mask")
    assert report.converged.tolist() == [True, True, False, True, True]
    assert report.iterations < 500
    assert torch.isfinite(z[report.converged]).all()
    with pytest.raises(EquilibriumError, match=r"sample \[2\] has residual nan"):
        equilibrium(w, u, Tanh())


def test_a_certificate_that_does_not_hold_is_refused():
    w, u, eta = cell(gamma=0.9)
    equilibrium(w, u, Tanh(), gamma=0.9, eta=7.0 * eta)
    with pytest.raises(EquilibriumError, match=r"gamma 0.8 does not hold.*largest row gives 0.9"):
        equilibrium(w, u, Tanh(), gamma=0.8, eta=eta)
    with pytest.raises(EquilibriumError, match="0 <= gamma < 1"):
        equilibrium(w, u, Tanh(), gamma=1.0)


def test_float32_reaches_its_tolerance():
    w, u, eta = cell(n=128, batch=32, gamma=0.95, spread=0.1)
    _, report = equilibrium(w.float(), u.float(), Tanh(), gamma=0.95, eta=eta)
    assert report.converged.all()
    assert report.residual.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": torch.zeros(3, 4)}, r"got w \(2, 2\) and u \(3, 4\)"),
        ({"u": torch.zeros(0, 2)}, "none empty"),
        ({"u": torch.zeros(3, 2, dtype=torch.float64)}, "convert one of them"),
        ({"tol": 1e-9}, "use float64"),
        ({"tol": float("nan")}, "use float64"),
        ({"damping": 0.0}, "damping 0.0"),
        ({"max_iterations": 0}, "max_iterations 0"),
        ({"z0": torch.zeros(1, 2)}, "z0 has shape"),
        ({"eta": torch.zeros(2)}, "eta must be"),
        ({"on_fail": "ignore"}, "'raise' or 'mask'"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    arguments = {"w": torch.zeros(2, 2), "u": torch.zeros(3, 2), "act": Tanh()} | change
    with pytest.raises(EquilibriumError, match=words):
        equilibrium(**arguments)
