"""Classes A, B and C: what they promise holds for a thousand random draws, and what they do not promise fails."""

import math

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.weights import (
    WEIGHT_CLASSES,
    Monotone,
    NonEuclidean,
    NormBounded,
    class_b,
    class_c,
)
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64
N, DRAWS, GAMMA, MARGIN = 8, 1000, 0.9, 0.1
BOUND = {"A": GAMMA, "B": GAMMA, "C": MARGIN}


def draw(name: str, seed: int, slope: Tensor | float = 1.0, symmetric: bool = False, n: int = N) -> torch.nn.Module:
    """A module whose parameters are spread over two decades."""
    gen = torch.Generator().manual_seed(seed)
    module = WEIGHT_CLASSES[name](n, BOUND[name], slope, generator=gen, symmetric=symmetric)
    with torch.no_grad():
        for p in module.parameters():
            scale = 10 ** (2 * torch.rand(1, generator=gen, dtype=F64) - 1)
            p.add_((scale if p.ndim == 2 else 1.0) * torch.randn(p.shape, generator=gen, dtype=F64))
    return module


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_class_holds_for_a_thousand_random_parameters(name, symmetric):
    slope = torch.logspace(-0.5, 0.5, N, dtype=F64)
    for seed in range(DRAWS):
        module = draw(name, seed, slope, symmetric)
        w, claim = module().detach(), module.claim()
        m = slope[:, None] * w
        if name == "C":
            root = claim.weights.sqrt()
            scaled = root[:, None] * (torch.eye(N, dtype=F64) - m) / root
            least = torch.linalg.eigvalsh(0.5 * (scaled + scaled.T))[0]
            assert least >= MARGIN - 1e-12 * scaled.abs().sum()
        else:
            size = m.abs()
            if name == "B":
                size.diagonal().copy_(m.diagonal())
            rows = (size @ claim.weights) / claim.weights
            assert rows.max() <= GAMMA + 1e-13 * (m.abs() @ claim.weights / claim.weights).max()
        claim.check(w, slope)
        if symmetric:
            assert (w - w.T).abs().max() <= 1e-14 * w.abs().max()


@pytest.fixture(scope="module")
def population() -> dict[str, Tensor]:
    """150 matrices (150, 8, 8) of each class; those of C with a large skew part."""
    gen = torch.Generator().manual_seed(5)
    skew = 3.0 * torch.randn(150, N, N, generator=gen, dtype=F64)
    v = torch.randn(150, N, N, generator=gen, dtype=F64) / math.sqrt(N)
    zero = torch.zeros(N, dtype=F64)
    t = 4.0 * torch.randn(150, N, N, generator=gen, dtype=F64)
    return {
        "A": torch.stack([draw("A", s)().detach() for s in range(150)]),
        "B": torch.stack([class_b(a, zero, GAMMA) for a in t]),
        "C": torch.stack([class_c(a, b, zero, MARGIN) for a, b in zip(v, skew, strict=True)]),
    }


def decades(gen: torch.Generator, *shape: int) -> Tensor:
    return 10 ** (3 * torch.rand(shape, generator=gen, dtype=F64))


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_stable_for_any_time_constants_over_three_decades(population, name):
    w, gen = population[name], torch.Generator().manual_seed(6)
    for _ in range(6):
        slope = torch.rand(150, N, generator=gen, dtype=F64)
        a = (w * slope[:, None, :] - torch.eye(N, dtype=F64)) / decades(gen, 150, N)[..., None]
        assert torch.linalg.eigvals(a).real.max() < 0


def unstable_with_path_lags(w: Tensor, gen: torch.Generator) -> float:
    """Share of draws unstable with one pole on every path: tau_i h_i' = -h_i + sum_j W_ij y_ij, lag_ij y_ij' = -y_ij +
    D_j h_j."""
    count = len(w)
    tau, lag = decades(gen, count, N), decades(gen, count, N, N)
    slope = torch.rand(count, N, generator=gen, dtype=F64)
    a = torch.zeros(count, N + N * N, N + N * N, dtype=F64)
    for i in range(N):
        a[:, i, i] = -1 / tau[:, i]
        for j in range(N):
            k = N + N * i + j
            a[:, i, k] = w[:, i, j] / tau[:, i]
            a[:, k, k] = -1 / lag[:, i, j]
            a[:, k, j] = slope[:, j] / lag[:, i, j]
    return float((torch.linalg.eigvals(a).real.amax(-1) > 0).double().mean())


def test_only_class_a_survives_a_random_lag_on_every_path(population):
    """The reason why A is the default and B and C need a second-pole check."""
    share = {name: unstable_with_path_lags(w, torch.Generator().manual_seed(7)) for name, w in population.items()}
    assert share["A"] == 0
    assert share["B"] > 0.1
    assert share["C"] > 0.5


@pytest.mark.parametrize(("make", "n_args"), [(class_b, 2), (class_c, 3)])
def test_gradients_are_right(make, n_args):
    gen = torch.Generator().manual_seed(0)
    shapes = [(4, 4)] * (n_args - 1) + [(4,)]
    arguments = [torch.randn(s, generator=gen, dtype=F64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(lambda *a: make(*a, 0.5, 2.0), arguments)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_every_parameter_is_trained(name, symmetric):
    module = draw(name, 3, 1.0, symmetric)
    module().square().sum().backward()
    for key, p in module.named_parameters():
        assert p.grad is not None, key
        assert float(p.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", ["A", "B", "C", "free"])
def test_a_start_depends_on_its_generator_only_and_classes_start_alike(name):
    def made(seed: int) -> Tensor:
        return WEIGHT_CLASSES[name](64, generator=torch.Generator().manual_seed(seed))().detach()

    torch.manual_seed(1)
    first = made(0)
    torch.manual_seed(2)
    assert torch.equal(first, made(0))
    assert not torch.equal(first, made(1))
    assert first.dtype == F64
    # A and B scale their rows down to gamma; nobody starts with dominant self-feedback
    assert 0.1 / 8 < float(first.std()) < 0.7 / 8
    assert float(first.diagonal().abs().max()) < 0.6


def qp(n: int = 16, condition: float = 28.0, seed: int = 0) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    v = torch.linalg.qr(torch.randn(n, n, generator=gen, dtype=F64))[0]
    return v * torch.logspace(-math.log10(condition), 0, n, dtype=F64) @ v.T


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_quadratic_programme_is_where_class_c_starts(symmetric):
    w = torch.eye(16, dtype=F64) - 16.0 * qp()
    module = Monotone.from_matrix(w, 0.05, symmetric=symmetric)
    assert (module() - w).abs().max() < 1e-12
    module.claim().check(w, 1.0)
    assert isinstance(module.v, torch.nn.Parameter)


@pytest.mark.parametrize("seed", range(5))
def test_any_class_c_matrix_can_be_started_from(seed):
    slope = torch.logspace(-0.5, 0.5, N, dtype=F64)
    one = draw("C", seed, slope)
    again = Monotone.from_matrix(one(), 0.99 * MARGIN, slope, weights=one.claim().weights)
    assert torch.allclose(again(), one(), rtol=1e-9, atol=1e-9)
    twin = draw("C", seed, slope, symmetric=True)
    again = Monotone.from_matrix(twin(), 0.99 * MARGIN, slope, symmetric=True)
    assert torch.allclose(again(), twin(), rtol=1e-9, atol=1e-9)


def test_a_matrix_outside_class_c_is_refused_with_the_margin_it_has():
    w = torch.eye(16, dtype=F64) - qp()
    with pytest.raises(EquilibriumError, match=r"its margin is 0\.0357"):  # 1 / 28
        Monotone.from_matrix(w, 0.05)
    Monotone.from_matrix(w, 1 / 28)
    with pytest.raises(EquilibriumError, match="not symmetric"):
        Monotone.from_matrix(torch.triu(w), 0.01, symmetric=True)
    with pytest.raises(EquilibriumError, match=r"\(2, 3\)"):
        Monotone.from_matrix(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda g: NormBounded(4, 1.0, generator=g)(), "0 < gamma < 1"),
        (lambda g: NonEuclidean(4, 1.0, generator=g)(), "finite gamma < 1"),
        (lambda g: Monotone(4, 0.0, generator=g)(), "0 < margin <= 1"),
        (lambda g: Monotone(0, 0.1, generator=g), "at least one node"),
        (lambda g: Monotone(4, 0.1, torch.tensor([1.0, 0.0, 1.0, 1.0]), generator=g), "max_slope must be positive"),
        (lambda g: class_c(torch.zeros(2, 2), torch.zeros(3, 3), torch.zeros(2), 0.1), "shape of v"),
        (lambda g: class_b(torch.zeros(2, 2), torch.zeros(3), 0.1), "one log weight per row"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(EquilibriumError, match=words):
        make(torch.Generator().manual_seed(0))
