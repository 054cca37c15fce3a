"""Forward solve: known fixed points, honest bounds, masks that mean something, errors that say what to do."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.arguments import SOLVERS, EquilibriumWarning
from analog_deq.equilibrium.cell import FunctionSystem, HardClip, System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.iterate import Settings, picard
from analog_deq.equilibrium.problems import State
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.warm import WarmStart
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


def claim(gamma: float, eta: Tensor | None = None) -> Claim:
    return Claim("A", gamma, torch.ones(1, dtype=torch.float64) if eta is None else eta)


@pytest.mark.parametrize("damping", [1.0, 0.6])
@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("started", [False, True])
def test_linear_cell_gives_the_solution_of_the_linear_system(damping, every, started):
    w, u, _ = cell()
    z0 = torch.ones_like(u) if started else None
    z, report = equilibrium(System(w, u, Linear()), tol=1e-12, damping=damping, check_every=every, z0=z0)
    assert torch.allclose(z, torch.linalg.solve(torch.eye(12) - w, u.T).T, atol=1e-10, rtol=0)
    assert report.converged.all()
    assert report.gradient == "none"
    assert report.adjoint.runs == 0


def test_the_caller_keeps_his_tensors():
    w, u, _ = cell()
    z0 = torch.zeros_like(u)
    kept = u.clone()
    z, _ = equilibrium(System(torch.zeros_like(w), u, Linear()), check_every=1, z0=u)
    z.add_(1.0)
    equilibrium(System(w, u, Linear()), z0=z0)
    assert torch.equal(u, kept)
    assert not z0.any()


def test_slopes_per_node_belong_to_the_right_node():
    w, u, _ = cell(n=3)
    gain = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    z, _ = equilibrium(System(w, u, Linear(gain)), tol=1e-12)
    assert torch.allclose(z, torch.linalg.solve(torch.eye(3) - gain[:, None] * w, (u * gain).T).T, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_error_bound_holds_and_the_residual_alone_would_not(seed, tol):
    w, u, eta = cell(seed=seed, gamma=0.95)
    exact, _ = equilibrium(System(w, u, Tanh()), tol=1e-14, max_iterations=5000)
    z, report = equilibrium(System(w, u, Tanh(), claim(0.95, eta)), tol=tol, check_every=1)
    error = (z - exact).abs().amax(-1)
    assert (error <= report.error_bound).all()
    assert (report.residual <= tol).all()
    assert (report.error_bound <= report.residual / 0.05 * (1 + 1e-9)).all()


def test_residual_alone_understates_the_error():
    w = torch.tensor([[0.95]], dtype=torch.float64)
    u = torch.tensor([[0.01]], dtype=torch.float64)
    z, report = equilibrium(System(w, u, Linear(), claim(0.95)), tol=9e-3, check_every=1)
    error = (z - 0.2).abs().item()
    assert error > 10 * report.residual.item()
    assert report.certified
    assert error <= report.error_bound.item() * (1 + 1e-9)
    assert equilibrium(System(w, u, Linear()), tol=1e-3)[1].error_bound is None


def residual_of(z, w, u, eta):
    return ((torch.tanh(z @ w.T + u) - z).abs() / (eta / eta.max())).amax(-1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_residual_reported_bounds_that_of_the_state_returned(solver):
    w, u, eta = cell()
    z, report = equilibrium(System(w, u, Tanh(), claim(0.9, eta)), tol=1e-3, solver=solver)
    own = residual_of(z, w, u, eta)
    if solver == "picard":  # the step that was measured has been taken: gamma smaller
        assert (own <= 0.9 * report.residual * (1 + 1e-9)).all()
    else:
        assert torch.allclose(own, report.residual, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_reaches_the_same_state(solver):
    w, u, eta = cell(gamma=0.95, n=20, batch=30)
    exact, _ = equilibrium(System(w, u, Tanh()), tol=1e-14, max_iterations=5000)
    z, report = equilibrium(System(w, u, Tanh(), claim(0.95, eta)), tol=1e-12, solver=solver)
    assert torch.allclose(z, exact, atol=1e-11, rtol=0)
    assert report.solver == solver
    assert (report.steps <= report.iterations).all()


def test_samples_that_are_done_are_frozen():
    w, u, _eta = cell(gamma=0.98, spread=0.0, n=6, batch=40)
    w = w.abs()
    u[:-1] = 30.0 * u[:-1].sign()  # saturated: done at once; the last one creeps
    u[-1] = 0.01
    z, report = equilibrium(System(w, u, Tanh()), tol=1e-10, max_iterations=3000)
    assert int(report.steps[:-1].max()) < int(report.steps[-1]) == report.iterations
    assert (residual_of(z, w, u, torch.ones(6)) <= 1e-10).all()


def test_looks_at_the_residual_are_few():
    """The host must not wait for the device at every step: looks grow as the square root or slower."""
    w, u, _ = cell(gamma=0.99, spread=0.0, n=16, batch=8)
    looks = []

    class Counting(State):
        def residual(self, after, before):
            looks.append(1)
            return super().residual(after, before)

    result = picard(Counting(System(w.abs(), 0.01 * u, Tanh()), None), torch.zeros_like(u), Settings(1e-12, 5000))
    assert result.iterations > 100
    assert len(looks) < result.iterations / 6


def test_draws_match_one_solve_per_draw():
    ws, us = zip(*[cell(seed=s)[:2] for s in range(3)], strict=True)
    z, report = equilibrium(System(torch.stack(ws), torch.stack(us), Tanh()), tol=1e-12)
    for k in range(3):
        assert torch.allclose(z[k], equilibrium(System(ws[k], us[k], Tanh()), tol=1e-12)[0], atol=1e-11)
    assert report.converged.shape == (3, 5)


def test_warm_start_costs_one_check():
    w, u, _ = cell()
    z, cold = equilibrium(System(w, u, Tanh()), tol=1e-10)
    again, warm = equilibrium(System(w, u, Tanh()), tol=1e-8, z0=z)
    assert warm.iterations == 4 < cold.iterations
    assert torch.allclose(z, again, atol=1e-9)


def bad_batch():
    """Sample 1 oscillates for ever (gain -3 around 0), the others sit in saturation and converge."""
    w = torch.tensor([[-3.0]], dtype=torch.float64)
    return w, torch.tensor([[50.0], [0.3], [-50.0]], dtype=torch.float64)


def test_failure_names_sample_residual_iterations_and_mend():
    w, u = bad_batch()
    with pytest.raises(EquilibriumError, match=r"sample \[1\] has residual .* after 40 iterations.*1 of 3.*damping"):
        equilibrium(System(w, u, Tanh()), max_iterations=40)


def test_damping_mends_the_oscillation():
    w, u = bad_batch()
    _, report = equilibrium(System(w, u, Tanh()), damping=0.4)
    assert report.converged.all()


def test_mask_flags_the_sample_that_failed():
    w, u = bad_batch()
    z, report = equilibrium(System(w, u, Tanh()), max_iterations=40, on_fail="mask")
    assert report.converged.tolist() == [True, False, True]
    assert z[report.converged].abs().min() > 0.99


def test_an_input_that_is_not_finite_fails_alone_and_soon():
    w, u, _ = cell()
    u[2, 0] = float("nan")
    z, report = equilibrium(System(w, u, Tanh()), on_fail="mask")
    assert report.converged.tolist() == [True, True, False, True, True]
    assert report.iterations < 500
    assert torch.isfinite(z[report.converged]).all()
    with pytest.raises(EquilibriumError, match=r"sample \[2\] has residual nan"):
        equilibrium(System(w, u, Tanh()))


def test_on_fail_warn_warns_and_masks():
    w, u = bad_batch()
    with pytest.warns(EquilibriumWarning, match=r"sample \[1\] has residual"):
        _, report = equilibrium(System(w, u, Tanh()), max_iterations=40, on_fail="warn")
    assert report.converged.tolist() == [True, False, True]


def test_a_certificate_that_does_not_hold_is_refused():
    w, u, eta = cell(gamma=0.9)
    equilibrium(System(w, u, Tanh(), claim(0.9, 7.0 * eta)))
    with pytest.raises(EquilibriumError, match=r"gamma 0\.8.*0\.9"):
        equilibrium(System(w, u, Tanh(), claim(0.8, eta)))


def test_an_uncertified_cell_says_so():
    w, u, eta = cell()
    _, bare = equilibrium(System(w, u, Tanh()))
    assert not bare.certified
    assert bare.error_bound is None
    _, kept = equilibrium(System(w, u, Tanh(), claim(0.9, eta)))
    assert kept.certified
    assert kept.certificate.weight_class == "A"


def test_float32_reaches_its_tolerance():
    w, u, eta = cell(n=128, batch=32, gamma=0.95, spread=0.1)
    _, report = equilibrium(System(w.float(), u.float(), Tanh(), claim(0.95, eta)))
    assert report.converged.all()
    assert report.residual.dtype == torch.float32


def test_tanh_in_float32_is_tanh():
    h = torch.linspace(-20, 20, 400001)
    assert (Tanh().value(h) - torch.tanh(h)).abs().max() < 3e-7
    assert (Tanh().slope(h) - (1 - torch.tanh(h).double() ** 2)).abs().max() < 6e-7


def test_a_class_c_cell_with_a_hard_clip_solves_a_box_qp():
    """min x'Qx/2 + q'x, |x_i| <= 1 is z = clip(z - a (Q z + q)): the KKT conditions hold at the equilibrium."""
    gen = torch.Generator().manual_seed(3)
    v = torch.randn(8, 8, generator=gen, dtype=torch.float64)
    q_matrix, q = v @ v.T / 8 + 0.1 * torch.eye(8), torch.randn(20, 8, generator=gen, dtype=torch.float64)
    cell_c = System(torch.eye(8, dtype=torch.float64) - 0.2 * q_matrix, -0.2 * q, HardClip())
    for solver in ("peaceman_rachford", "newton"):
        x, _ = equilibrium(cell_c, tol=1e-12, solver=solver, max_iterations=3000)
        slope = x @ q_matrix + q
        inside = x.abs() < 1 - 1e-9
        assert slope[inside].abs().max() < 1e-9
        assert (slope[~inside] * x[~inside] <= 1e-9).all()
        assert 0.1 < inside.double().mean() < 0.9


def test_warm_starts_are_kept_by_sample():
    w, u, _eta = cell(batch=10)
    warm = WarmStart(10, 12, dtype=torch.float64)
    one, two = torch.arange(6), torch.arange(6, 10)
    for index in (one, two):
        _, cold = equilibrium(System(w, u[index], Tanh()), tol=1e-10, warm=warm.at(index))
    mixed = torch.tensor([7, 2, 5])
    z, again = equilibrium(System(w, u[mixed], Tanh()), tol=1e-9, warm=warm.at(mixed))
    assert again.iterations <= 4 < cold.iterations
    assert torch.allclose(z, equilibrium(System(w, u[mixed], Tanh()), tol=1e-13)[0], atol=1e-8)
    with pytest.raises(EquilibriumError, match="3 indices"):
        equilibrium(System(w, u, Tanh()), warm=warm.at(mixed))


def test_warm_adjoints_save_steps_and_change_no_gradient():
    w, u, _ = cell(batch=10)
    warm = WarmStart(10, 12, dtype=torch.float64)
    index, grads, steps = torch.arange(10), [], []
    for _ in range(2):
        leaf = w.clone().requires_grad_()
        z, report = equilibrium(System(leaf, u, Tanh()), tol=1e-11, warm=warm.at(index))
        z.square().sum().backward()
        grads.append(leaf.grad)
        steps.append(report.adjoint.iterations)
    assert steps[1] < steps[0] / 2
    assert torch.allclose(*grads, atol=1e-9, rtol=0)


def test_a_function_is_a_cell_too():
    w, u, _ = cell()
    exact, _ = equilibrium(System(w, u, Tanh()), tol=1e-13)
    for solver in ("picard", "anderson", "newton"):
        z, report = equilibrium(FunctionSystem(lambda z: torch.tanh(z @ w.T + u), u), tol=1e-12, solver=solver)
        assert torch.allclose(z, exact, atol=1e-11)
        assert not report.certified
        assert report.certificate is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": torch.zeros(3, 4)}, r"got w \(2, 2\) and u \(3, 4\)"),
        ({"u": torch.zeros(0, 2)}, "none empty"),
        ({"u": torch.zeros(3, 2, dtype=torch.float64)}, "convert one explicitly"),
        ({"tol": 1e-9}, "use float64"),
        ({"tol": float("nan")}, "use float64"),
        ({"damping": 0.0}, "damping 0.0"),
        ({"max_iterations": 0}, "max_iterations 0"),
        ({"z0": torch.zeros(1, 2)}, "z0 has shape"),
        ({"on_fail": "ignore"}, "raise, warn, mask"),
        ({"solver": "broyden"}, "picard, anderson, newton, peaceman_rachford"),
        ({"adjoint": "phantom"}, r"neumann\(k\)"),
        ({"adjoint": "neumann"}, r"neumann\(k\)"),
        ({"adjoint": "neumann(0)"}, "numbers positive"),
        ({"adjoint": "dense(3)"}, "choose one of"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    arguments = {"w": torch.zeros(2, 2), "u": torch.zeros(3, 2)} | change
    with pytest.raises(EquilibriumError, match=words):
        equilibrium(System(arguments.pop("w"), arguments.pop("u"), Tanh()), **arguments)
