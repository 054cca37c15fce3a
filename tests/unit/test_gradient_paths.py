"""Every gradient path with every solver: right in float64, named in the report, refused where it would be wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.adjoint import Path
from analog_deq.equilibrium.arguments import SOLVERS
from analog_deq.equilibrium.cell import FunctionSystem, System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)

EXACT = ("same", "dense", "gmres")
SERIES = ("neumann(120)", "unroll(120)")


def matrices(kind: str, n: int = 4, seed: int = 0) -> tuple[Tensor, Claim | None]:
    """A matrix of a class and its claim, with room for the finite differences of gradcheck."""
    gen = torch.Generator().manual_seed(seed)
    t = torch.randn(n, n, generator=gen, dtype=torch.float64)
    if kind == "C":  # a strong skew part: far from a contraction
        v = torch.randn(n, n, generator=gen, dtype=torch.float64)
        w = torch.eye(n, dtype=torch.float64) - (0.3 * v.T @ v / n + 0.5 * torch.eye(n) + t - t.T)
        return w, Claim("C", float("nan"), torch.ones(n, dtype=torch.float64), margin=0.45)
    if kind == "symmetric":
        t = t + t.T
    w = 0.8 * t / t.abs().sum(1).max()
    return w, Claim("A", 0.85, torch.ones(n, dtype=torch.float64))


def inputs(n: int = 4, batch: int = 3) -> Tensor:
    return torch.randn(batch, n, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["A", "C"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("adjoint", EXACT)
def test_gradcheck_over_every_solver_and_exact_adjoint(kind, solver, adjoint):
    w, claim = matrices(kind)
    run = {"tol": 1e-12, "max_iterations": 20000, "solver": solver, "adjoint": adjoint}
    leaves = w.requires_grad_(), inputs().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: equilibrium(System(a, b, Tanh(), claim), **run)[0], leaves)
    z, report = equilibrium(System(*leaves, Tanh(), claim), **run)
    z.sum().backward()
    assert report.gradient == f"implicit({adjoint})"
    assert report.adjoint.runs == 1
    assert report.adjoint.residual < 1e-9


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("adjoint", SERIES)
def test_gradcheck_of_long_series_on_a_contraction(solver, adjoint):
    w, claim = matrices("A")
    leaves = w.requires_grad_(), inputs().requires_grad_()
    run = {"tol": 1e-12, "solver": solver, "adjoint": adjoint}
    assert torch.autograd.gradcheck(lambda a, b: equilibrium(System(a, b, Tanh(), claim), **run)[0], leaves)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradcheck_of_equilibrium_propagation_on_a_symmetric_cell(solver):
    w, claim = matrices("symmetric")
    leaf, u = w.requires_grad_(), inputs().requires_grad_()

    def state(a: Tensor, b: Tensor) -> Tensor:
        system = System((a + a.T) / 2, b, Tanh(), claim)
        return equilibrium(system, tol=1e-13, solver=solver, adjoint="nudge(1e-3)")[0]

    assert torch.autograd.gradcheck(state, (leaf, u), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("adjoint", [*EXACT, "neumann(120)", "unroll(120)"])
def test_gradcheck_with_draws(draws, solver, adjoint):
    w, claim = matrices("A")
    stack = torch.stack([w * (1 - 0.1 * k) for k in range(draws)]).requires_grad_()
    u = torch.stack([inputs(batch=2) + k for k in range(draws)]).requires_grad_()
    run = {"tol": 1e-12, "solver": solver, "adjoint": adjoint}
    assert torch.autograd.gradcheck(lambda a, b: equilibrium(System(a, b, Tanh(), claim), **run)[0], (stack, u))


@pytest.mark.parametrize("solver", ["picard", "anderson", "newton"])
@pytest.mark.parametrize("adjoint", [*EXACT, *SERIES])
def test_gradcheck_of_a_function(solver, adjoint):
    w, _ = matrices("A")
    u = inputs()
    run = {"tol": 1e-12, "solver": solver, "adjoint": adjoint}

    def state(a: Tensor, b: Tensor) -> Tensor:
        return equilibrium(FunctionSystem(lambda z: torch.tanh(z @ a.T + b), u), **run)[0]

    assert torch.autograd.gradcheck(state, (w.requires_grad_(), u.clone().requires_grad_()))


def distorted(w: Tensor, u: Tensor) -> Tensor:
    """What a circuit does that the proxy does not know of: less gain, an offset."""
    return equilibrium(System(0.9 * w.detach(), u.detach() + 0.05, Tanh()), tol=1e-13)[0]


@pytest.mark.parametrize("linearize", ["solved", "measured"])
@pytest.mark.parametrize("adjoint", [*EXACT, *SERIES])
def test_a_measured_forward_has_the_proxys_jacobian(linearize, adjoint):
    w, claim = matrices("A")
    leaf, u = w.clone().requires_grad_(), inputs().requires_grad_()
    measured = distorted(w, u)
    target = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z, report = equilibrium(
        System(leaf, u, Tanh(), claim), tol=1e-12, adjoint=adjoint, linearize=linearize,
        forward=lambda x, draw, *, nudge=None: measured,
    )  # fmt: skip
    assert torch.equal(z, measured)
    assert report.forward == "measured"
    exact, _ = equilibrium(System(w, u.detach(), Tanh()), tol=1e-13)
    assert torch.allclose(report.distance, (measured - exact).square().mean(-1).sqrt(), atol=1e-10)
    (z * target).sum().backward()
    at = exact if linearize == "solved" else measured
    slope = 1 - torch.tanh(at @ w.T + u.detach()) ** 2
    v = torch.linalg.solve(torch.eye(4) - w.T * slope[:, None, :], target[..., None])[..., 0]
    if adjoint == "unroll(120)":  # it forgets where it started: always the Jacobian at the proxy's own state
        slope = 1 - exact**2
        v = torch.linalg.solve(torch.eye(4) - w.T * slope[:, None, :], target[..., None])[..., 0]
        at = exact
    assert torch.allclose(u.grad, slope * v, atol=1e-9)
    assert torch.allclose(leaf.grad, (slope * v).T @ at, atol=1e-9)


def test_nudged_phases_run_on_the_measured_circuit():
    """Equilibrium propagation on the circuit itself: the gradient is the circuit's, not the proxy's."""
    w, claim = matrices("symmetric")
    u = inputs()
    circuit = System(0.9 * w, u + 0.05, Tanh())
    calls = []

    def forward(x, draw, *, nudge=None):
        calls.append(nudge)
        pushed = circuit if nudge is None else System(circuit.w, circuit.u + nudge, circuit.act)
        return equilibrium(pushed, tol=1e-14, max_iterations=3000)[0]

    leaf, target = u.clone().requires_grad_(), torch.ones_like(u)
    z, report = equilibrium(System(w, leaf, Tanh(), claim), tol=1e-12, adjoint="nudge(1e-3)", forward=forward)
    (z * target).sum().backward()
    true = u.clone().requires_grad_()
    equilibrium(System(circuit.w, true + 0.05, Tanh()), tol=1e-14, adjoint="dense")[0].sum().backward()
    assert len(calls) == 3
    assert torch.allclose(calls[1], -calls[2])
    assert torch.allclose(leaf.grad, true.grad, rtol=1e-5)
    assert report.gradient == "nudge(0.001)"


def test_a_measurement_that_failed_is_masked_never_zero():
    w, claim = matrices("A")
    leaf = w.clone().requires_grad_()
    measured = distorted(w, inputs())
    measured[1] = float("nan")
    run = {"forward": lambda x, draw, *, nudge=None: measured}
    with pytest.raises(EquilibriumError, match=r"1 of 3 samples were not measured, the first is \[1\]"):
        equilibrium(System(leaf, inputs(), Tanh(), claim), **run)
    z, report = equilibrium(System(leaf, inputs(), Tanh(), claim), on_fail="mask", **run)
    assert report.converged.tolist() == [True, False, True]
    assert torch.isnan(z[1]).all()
    z[report.converged].sum().backward()
    assert torch.isfinite(leaf.grad).all()


def test_second_order_is_right_with_the_dense_adjoint():
    w, claim = matrices("A", n=3)
    leaves = w.requires_grad_(), inputs(n=3, batch=2).requires_grad_()
    run = {"tol": 1e-13, "adjoint": "dense"}
    assert torch.autograd.gradgradcheck(lambda a, b: equilibrium(System(a, b, Tanh(), claim), **run)[0], leaves)


@pytest.mark.parametrize("adjoint", ["same", "gmres", "neumann(3)", "unroll(3)"])
@pytest.mark.parametrize("general", [False, True])
def test_second_order_is_refused_elsewhere(adjoint, general):
    w, _ = matrices("A")
    leaf, u = w.requires_grad_(), inputs()
    system = FunctionSystem(lambda z: torch.tanh(z @ leaf.T + u), u) if general else System(leaf, u, Tanh())
    z, _ = equilibrium(system, adjoint=adjoint)
    with pytest.raises(EquilibriumError, match="second-order"):
        torch.autograd.grad(z.sum(), leaf, create_graph=True)


def test_one_term_is_the_jacobian_free_gradient():
    w, claim = matrices("A")
    leaf, u = w.requires_grad_(), inputs()
    z, report = equilibrium(System(leaf, u, Tanh(), claim), tol=1e-12, adjoint="neumann(1)")
    z.sum().backward()
    z0 = z.detach()
    slope = 1 - torch.tanh(z0 @ w.detach().T + u) ** 2
    assert torch.allclose(leaf.grad, slope.T @ z0, atol=1e-11)
    assert report.adjoint.residual > 0.05  # and it says how much it left out


def test_equilibrium_propagation_is_refused_where_it_would_be_biased():
    w, _ = matrices("A")
    with pytest.raises(EquilibriumError, match=r"symmetric W only .* asymmetric by 0\.\d+"):
        equilibrium(System(w, inputs(), Tanh()), adjoint="nudge(0.1)")
    with pytest.raises(EquilibriumError, match="needs a System"):
        equilibrium(FunctionSystem(torch.tanh, inputs()), adjoint="nudge(0.1)")
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)

    class Trained(Tanh):
        def value(self, h: Tensor) -> Tensor:
            return scale * torch.tanh(h)

    symmetric, _ = matrices("symmetric")
    with pytest.raises(EquilibriumError, match="no gradient from it"):
        equilibrium(System(symmetric, inputs(), Trained()), adjoint="nudge(0.1)")


def test_read_noise_is_added_once_and_carries_no_gradient():
    w, claim = matrices("A")
    leaf, u = w.clone().requires_grad_(), inputs()
    plain, _ = equilibrium(System(leaf, u, Tanh(), claim), tol=1e-12)
    expected = torch.autograd.grad(plain.sum(), leaf)[0]
    seen = {}

    def noise(system: System, z: Tensor, slope: Tensor) -> Tensor:
        seen.update(z=z, slope=slope)
        return 0.1 * leaf.new_ones(z.shape) * leaf.sum()

    z, report = equilibrium(System(leaf, u, Tanh(), claim), tol=1e-12, read_noise=noise)
    assert torch.allclose(z, plain + 0.1 * w.sum())
    assert torch.allclose(seen["slope"], 1 - seen["z"] ** 2, atol=1e-10)
    assert torch.allclose(torch.autograd.grad(z.sum(), leaf)[0], expected, atol=1e-12)
    assert (report.residual <= 1e-12).all()


@pytest.mark.parametrize("beta", ["1e-3", "1e-2"])
def test_a_loose_tolerance_does_not_turn_propagation_into_a_phantom_gradient(beta):
    w, _ = matrices("symmetric", n=6)
    w, grads = 1.15 * w, []
    for adjoint in (f"nudge({beta})", "dense"):
        leaf = inputs(n=6).requires_grad_()
        z, _ = equilibrium(System(w, leaf, Tanh()), tol=1e-3, adjoint=adjoint, max_iterations=3000)
        z.square().sum().backward()
        grads.append(leaf.grad)
    assert (grads[0] - grads[1]).norm() < 5e-3 * grads[1].norm()  # the free state's own 1e-3 is in both
    with pytest.raises(EquilibriumError, match=r"nudge of at least 0\.00095"):
        equilibrium(System(w.float(), inputs(n=6).float(), Tanh()), adjoint="nudge(1e-4)")


@pytest.mark.parametrize("draws", [False, True])
def test_equilibrium_propagation_allows_for_the_gains_of_rows_and_columns(draws):
    """A symmetric programme seen through op-amps and drivers is A S B, and still measures its own adjoint."""
    w, _ = matrices("symmetric", n=6)
    gen = torch.Generator().manual_seed(2)
    rows, columns = (1 + 0.1 * torch.rand(6, generator=gen, dtype=torch.float64) for _ in range(2))
    w, u = rows[:, None] * w * columns, inputs(n=6)
    w, u = (torch.stack([w, 0.9 * w]), torch.stack([u, u])) if draws else (w, u)
    grads = []
    for adjoint in ("nudge(1e-3)", "dense"):
        leaves = w.clone().requires_grad_(), u.clone().requires_grad_()
        z, _ = equilibrium(System(*leaves, Tanh()), tol=1e-14, adjoint=adjoint)
        z.square().sum().backward()
        grads.append(leaves)
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-8)


def test_names_of_paths_round_trip():
    assert [Path.parse(text).name for text in ("same", "gmres", "neumann(5)", "unroll(20)", "nudge(0.1)")] == [
        "implicit(same)", "implicit(gmres)", "neumann(5)", "unroll(20)", "nudge(0.1)",
    ]  # fmt: skip
