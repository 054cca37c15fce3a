"""The trainable cell: its draws are frozen and shared, its certificate is of the matrix that was solved."""

from __future__ import annotations

import pytest
import torch

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.leaky import LeakyCell, Mismatch
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import WEIGHT_CLASSES
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, **options) -> LeakyCell:
    bound = {"A": (0.9,), "B": (0.9,), "C": (0.1,), "free": ()}[name]
    return LeakyCell(3, WEIGHT_CLASSES[name](6, *bound, generator=seeded()), seeded(1), **options)


def inputs() -> torch.Tensor:
    return torch.randn(5, 3, generator=seeded(2), dtype=torch.float64)


@pytest.mark.parametrize("name", WEIGHT_CLASSES)
def test_every_class_trains_through_the_one_call(name):
    cell = made(name)
    z, report = equilibrium(cell, inputs(), tol=1e-10, max_iterations=5000)
    assert report.certified == (name != "free")
    assert (report.error_bound is None) == (name == "free")
    z.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in cell.parameters())


def test_gradients_reach_parameters_and_are_right():
    cell = made("A", mismatch=Mismatch(0.05, 0.02))
    draw = cell.sample(seeded(3), dies=2)
    names = [n for n, _ in cell.named_parameters()]

    def state(*values):
        swapped = dict(zip(names, values, strict=True))

        class Cell:
            def system(self, x, draw=None):
                return torch.func.functional_call(_Call(cell), {f"cell.{k}": v for k, v in swapped.items()}, (x, draw))

        return equilibrium(Cell(), inputs(), draw=draw, tol=1e-13, max_iterations=3000)[0]

    class _Call(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.cell = inner

        def forward(self, x, draw):
            system = self.cell.system(x, draw)
            return System(system.w, system.u, system.act)  # finite differences leave the class by their step

    assert torch.autograd.gradcheck(state, tuple(p.detach().clone().requires_grad_() for p in cell.parameters()))


def test_a_draw_is_frozen_shared_and_repeatable():
    cell = made("A", mismatch=Mismatch(weight=0.1, offset=0.05))
    draw = cell.sample(seeded(5), dies=3)
    one, _ = equilibrium(cell, inputs(), draw=draw, tol=1e-12)
    two, _ = equilibrium(cell, inputs(), draw=cell.sample(seeded(5), dies=3), tol=1e-12)
    assert torch.equal(one, two)
    assert one.shape == (3, 5, 6)
    assert (one[0] - one[1]).abs().max() > 1e-3
    relative = cell.system(inputs(), draw).w / cell.weight() - 1
    assert abs(float(relative.detach().std()) - 0.1) < 0.02  # 108 values: the sd of an sd is 0.007


def test_the_certificate_is_of_the_matrix_that_was_solved():
    cell = made("A", mismatch=Mismatch(weight=0.05))
    _, ideal = equilibrium(cell, inputs())
    _, drawn = equilibrium(cell, inputs(), draw=cell.sample(seeded(1), dies=4))
    assert drawn.system.claim.gamma > ideal.system.claim.gamma
    assert drawn.certified
    _, lost = equilibrium(made("A", mismatch=Mismatch(weight=1.0)), inputs(), draw=made(
        "A", mismatch=Mismatch(weight=1.0)).sample(seeded(1), dies=4), on_fail="mask")  # fmt: skip
    assert not lost.certified
    assert lost.error_bound is None


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_renewed_claims_hold_and_are_tight(name):
    cell = made(name)
    w = cell.weight().detach()
    for factor in (0.9, 1.02):
        renewed = cell.weight.claim().renew(factor * w, 1.0)
        renewed.check(factor * w, 1.0)
        if name == "A":
            assert renewed.gamma == pytest.approx(0.9 * factor)
    assert cell.weight.claim().renew(30.0 * w + 3.0 * torch.eye(6), 1.0) is None


def test_levels_round_straight_through():
    cell = made("A", levels=5)
    system = cell.system(inputs())
    assert len(system.w.detach().unique()) <= 5
    system.w.sum().backward()
    assert cell.weight.t.grad.abs().sum() > 0
    with pytest.raises(EquilibriumError, match="levels is 1"):
        made("A", levels=1)


def test_without_errors_it_is_the_plain_system():
    cell = made("A")
    z, _ = equilibrium(cell, inputs(), tol=1e-13)
    plain = System(cell.weight(), inputs() @ cell.w_input.T + cell.bias, Tanh())
    assert torch.allclose(z, equilibrium(plain, tol=1e-13)[0], atol=1e-12)
