"""Claims: refused when they do not hold, and their error bounds and step sizes against what really happens."""

import math

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.weights import WEIGHT_CLASSES, class_b, class_c
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64
N = 8
BOUND = {"A": 0.9, "B": 0.9, "C": 0.1}
ACTIVATIONS = {
    "tanh": torch.tanh,
    "clip": lambda h: h.clamp(-1, 1),
    "rectifier": lambda h: h.clamp(min=0),
    "dead zone": lambda h: (h - 0.5).clamp(0, 1) - (-h - 0.5).clamp(0, 1),
}
"""Slopes in [0, 1]; to be scaled by the node's own bound."""


def cells(name: str, seed: int, count: int, slope: Tensor, spread: float = 1.0) -> tuple[Tensor, list[Claim]]:
    gen = torch.Generator().manual_seed(seed)
    matrices, claims = [], []
    for _ in range(count):
        module = WEIGHT_CLASSES[name](N, BOUND[name], slope, generator=gen)
        with torch.no_grad():
            for p in module.parameters():
                scale = spread * 10 ** (torch.rand(1, generator=gen, dtype=F64) - 0.5) if p.ndim == 2 else 0.5
                p.add_(scale / (N**0.5 if p.ndim == 2 else 1.0) * torch.randn(p.shape, generator=gen, dtype=F64))
        matrices.append(module().detach())
        claims.append(module.claim())
    return torch.stack(matrices), claims


def iterate(w: Tensor, u: Tensor, act, step: Tensor, tol: float, limit: int) -> tuple[Tensor, Tensor]:
    """Damped Picard on all cells at once: state, and the residual reached."""
    z = torch.zeros_like(u)
    for k in range(limit):
        r = act(z @ w.mT + u) - z
        if k % 50 == 0 and float(r.abs().max()) < tol:
            break
        z = z + step * r
    return z, r.abs().amax((-1, -2))


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_damping_converges_from_rest_and_the_error_bound_holds(name, kind):
    """100 cells of every class and activation: the bound holds away from and near the equilibrium, and is of use."""
    slope = torch.logspace(-0.3, 0.3, N, dtype=F64)
    w, claims = cells(name, 1, 100, slope)
    gen = torch.Generator().manual_seed(2)
    u = torch.randn(100, 3, N, generator=gen, dtype=F64)

    def act(h: Tensor) -> Tensor:
        return ACTIVATIONS[kind](slope * h)

    step = torch.tensor([c.damping(m, slope) for c, m in zip(claims, w, strict=True)], dtype=F64)[:, None, None]
    exact, residual = iterate(w, u, act, step, 1e-11, 100_000)
    assert residual.max() < 1e-11
    slack = []
    for size in (1e-4, 0.1, 3.0):
        z = exact + size * torch.randn(u.shape, generator=gen, dtype=F64)
        error = (z - exact).abs().amax(-1)
        bound = torch.stack(
            [c.error_bound(r, m, slope) for c, r, m in zip(claims, act(z @ w.mT + u) - z, w, strict=True)]
        )
        assert (error <= bound + 1e-9).all()
        slack.append(float((bound / error).median()))
    assert max(slack) < 100  # 10 of it is 1 / (1 - gamma) or 1 / m; self-inhibition adds to B


def test_class_b_contracts_at_its_rate():
    gen = torch.Generator().manual_seed(3)
    for _ in range(300):
        t = 10 ** (2 * torch.rand(1, generator=gen, dtype=F64) - 1) * torch.randn(N, N, generator=gen, dtype=F64)
        log_eta = torch.randn(N, generator=gen, dtype=F64)
        w = class_b(t, log_eta, 0.9)
        claim = Claim("B", 0.9, log_eta.exp())
        step = claim.damping(w, 1.0)
        assert step == pytest.approx(1 / (1 + max(0.0, float(-w.diagonal().min()))))
        a, b = (3 * torch.randn(20, N, generator=gen, dtype=F64) for _ in range(2))
        u = torch.randn(N, generator=gen, dtype=F64)
        after = [(1 - step) * z + step * torch.tanh(z @ w.T + u) for z in (a, b)]
        before = ((a - b) / claim.weights).abs().amax(-1)
        assert (((after[0] - after[1]) / claim.weights).abs().amax(-1) <= (1 - 0.1 * step) * before * (1 + 1e-12)).all()


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
def test_the_damping_of_class_c_converges_on_300_cells_where_a_norm_rule_fails(kind):
    gen = torch.Generator().manual_seed(4)
    v = torch.randn(300, N, N, generator=gen, dtype=F64) * 10 ** (torch.rand(300, 1, 1, generator=gen) - 1)
    skew = torch.randn(300, N, N, generator=gen, dtype=F64) * 10 ** (0.6 * torch.rand(300, 1, 1, generator=gen) - 1.2)
    log_psi = 0.3 * torch.randn(300, N, generator=gen, dtype=F64)
    w = torch.stack([class_c(*p, 0.1) for p in zip(v / N**0.5, skew, log_psi, strict=True)])
    step = torch.tensor(
        [Claim("C", math.nan, torch.exp(-p), 0.1).damping(m, 1.0) for p, m in zip(log_psi, w, strict=True)], dtype=F64
    )[:, None, None]
    u = torch.randn(300, 2, N, generator=gen, dtype=F64)
    _, residual = iterate(w, u, ACTIVATIONS[kind], step, 1e-9, 20_000)
    assert residual.max() < 1e-9
    norm = torch.linalg.matrix_norm(torch.eye(N, dtype=F64) - w, 2)[:, None, None]
    _, residual = iterate(w, u, ACTIVATIONS[kind], (1.2 / norm).clamp(max=1.0), 1e-9, 2_000)
    assert (residual > 1e-3).sum() > 5


def test_class_c_is_the_only_class_of_a_strong_rotation_and_its_margin_is_exact():
    w = torch.tensor([[0.8, 5.0], [-5.0, 0.8]], dtype=F64)
    Claim("C", math.nan, torch.ones(2), 0.2).check(w, 1.0)
    with pytest.raises(EquilibriumError, match=r"margin 0\.21 does not hold.*gives 0\.2;"):
        Claim("C", math.nan, torch.ones(2), 0.21).check(w, 1.0)
    with pytest.raises(EquilibriumError, match=r"gives 5\.8"):
        Claim("B", 0.9, torch.ones(2)).check(w, 1.0)
    with pytest.raises(EquilibriumError, match="certificate of class C"):
        Claim("C", math.nan, torch.ones(2), 0.2).check(w, 1.5)


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_draws_are_checked_one_by_one_in_any_precision(name, dtype):
    slope = torch.ones(N, dtype=dtype)
    w, claims = cells(name, 5, 1, slope.double())
    w, claim = w[0].to(dtype), claims[0]
    claim.check(w, slope)
    claim.check(w.expand(3, N, N), slope)
    spoiled = w.expand(3, N, N).clone()
    spoiled[1, 0, 0] += 1.5
    with pytest.raises(EquilibriumError, match="does not hold"):
        claim.check(spoiled, slope)
    residual = torch.full((3, 2, N), 1e-3, dtype=dtype)
    bound = claim.error_bound(residual, w.expand(3, N, N), slope)
    assert bound.shape == (3, 2)
    assert bound.dtype == dtype
    assert torch.allclose(bound[0], claim.error_bound(residual[0], w, slope))
    assert claim.damping(w.expand(3, N, N), slope) == pytest.approx(claim.damping(w, slope))


def test_claims_need_no_gradient_and_leave_none():
    module = WEIGHT_CLASSES["C"](N, 0.1, generator=torch.Generator().manual_seed(0))
    claim = module.claim()
    claim.check(module(), 1.0)
    assert not claim.weights.requires_grad
    assert claim.damping(module(), 1.0) > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("D", 0.5, torch.ones(2)), "A, B or C"),
        (("A", 1.0, torch.ones(2)), "gamma below 1"),
        (("A", -0.1, torch.ones(2)), "gamma below 1"),
        (("B", math.nan, torch.ones(2)), "gamma below 1"),
        (("A", 0.5, torch.tensor([1.0, 0.0])), "positive"),
        (("C", math.nan, torch.ones(2)), "margin above 0"),
    ],
)
def test_malformed_claims_are_refused(arguments, words):
    with pytest.raises(EquilibriumError, match=words):
        Claim(*arguments)
    with pytest.raises(EquilibriumError, match=r"\(D, 2, 2\)"):
        Claim("A", 0.5, torch.ones(2)).check(torch.zeros(3, 3), 1.0)
