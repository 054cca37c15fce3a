"""The measured forward pass: ngspice's states in the proxy's coordinates, nudged states, gradients, and its folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import design
from torch import Tensor

from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import load_cells
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import Cells, DesignSpec, Tolerances
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.tables import PROXY_TABLES, read_table
from analog_deq.verify.dies import draw_die
from analog_deq.verify.in_the_loop import SpiceForward
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

pytestmark = pytest.mark.spice

STATES, INPUTS, IMAGES = 8, 4, 6
TIGHT = 1e-8
"""ngspice's relative tolerance where states are subtracted from each other."""


@pytest.fixture(scope="module")
def proxy() -> ProxyParameters:
    """The proxy of the shipped reference tables; the helpers' design is of the same hardware."""
    folder = shipped("calibration/reference") / "digits"
    tables = {name: read_table(folder / f"{name}.parquet") for name in PROXY_TABLES}
    return fit_proxy(tables, design(), Tolerances(), {}, {})


def weights(*, symmetric: bool = False) -> Tensor:
    """Random weights (logical rows, N) of class A with gamma 0.8 that drive every state well into its curve."""
    rng = np.random.default_rng(4)
    w = rng.standard_normal((STATES, STATES))
    w = (w + w.T) / 2 if symmetric else w
    w *= 0.8 / np.abs(w).sum(1).max()
    w_input, bias = 0.8 * rng.standard_normal((STATES, INPUTS)), 0.3 * rng.standard_normal(STATES)
    return torch.as_tensor(np.concatenate([w_input.T, bias[None], w.T]))


def analogue(**crossbar: Any) -> DesignSpec:
    return design(STATES, INPUTS, crossbar={"levels": 0, **crossbar})


def images(count: int = IMAGES) -> Tensor:
    """Inputs on the codes of an 8-bit converter."""
    return torch.round(torch.as_tensor(np.random.default_rng(8).uniform(0, 1, (count, INPUTS))) * 127) / 127


def nudges(size: float = 0.1) -> Tensor:
    return size * torch.as_tensor(np.random.default_rng(9).standard_normal((IMAGES, STATES)))


def loop(
    d: DesignSpec, proxy: ProxyParameters, folder: Path, *, w: Tensor | None = None, jobs: int = 2, **options: Any
) -> SpiceForward:
    """A measured forward pass of the test's network, already programmed."""
    forward = SpiceForward(d, load_cells(Cells()), proxy, Bed(find_simulator(), folder, jobs), **options)
    mapping = ConductanceMapping.of(d.neuron, d.crossbar, proxy.r_feedback_ohm)
    forward.program(*mapping.program(weights() if w is None else w))
    return forward


# --- states -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True], ids=["reduced", "flat"])
@pytest.mark.parametrize("r_line", [0.0, 2.0])
def test_measured_states_are_the_proxys(tmp_path, proxy, r_line, flat):
    """Where the circuit settles and how a nudge of each state moves it; the proxy knows it to 4e-5 % of full scale."""
    forward = loop(analogue(r_line_ohm=r_line), proxy, tmp_path, flat=flat)
    z, rest = forward(images()), forward.model.solve(images())
    assert (z - rest.z).square().mean().sqrt() < 2e-6
    assert (z - rest.z).abs().max() < 1e-5
    assert rest.z.abs().max() > 0.5
    nudged, predicted = forward(images(), nudge=nudges()), forward.model.solve(images(), nudge=nudges())
    moved = predicted.z - rest.z
    assert ((nudged - z) - moved).abs().max() < 1e-4 * moved.abs().max()
    assert moved.abs().max() > 0.05
    assert np.abs(forward.last.reading - predicted.reading.numpy()).max() < 1e-5


def test_flat_and_reduced_decks_are_nudged_alike(tmp_path, proxy):
    states = [
        loop(analogue(), proxy, tmp_path, flat=flat, reltol=TIGHT)(images(), nudge=nudges()) for flat in (False, True)
    ]
    assert (states[0] - states[1]).abs().max() < 1e-6


def test_the_reading_comes_back_from_the_state(tmp_path, proxy):
    """z is the driver's internal level: a little off the row's voltage, and the map between them is exact."""
    forward = loop(analogue(), proxy, tmp_path)
    forward(images())
    again = forward.model.map.readout(forward.last.z, images().numpy())
    assert np.abs(again - forward.last.reading).max() < 1e-12
    assert np.abs(forward.last.z - forward.last.reading).max() > 2e-4


def test_an_image_does_not_depend_on_its_batch_or_the_number_of_processes(tmp_path, proxy):
    d = analogue()
    together = loop(d, proxy, tmp_path / "a", reltol=TIGHT)(images())
    alone = loop(d, proxy, tmp_path / "a", reltol=TIGHT)(images()[3:4])
    assert (alone[0] - together[3]).abs().max() < 1e-7
    parts = [loop(d, proxy, tmp_path / str(jobs), jobs=jobs, images_per_deck=2)(images()) for jobs in (1, 3)]
    assert torch.equal(*parts)


# --- dies -------------------------------------------------------------------------------------------------------------


def test_a_die_is_the_one_that_verification_draws(simulator: Simulator, tmp_path, proxy):
    d = analogue()
    forward = loop(d, proxy, tmp_path, die=2)
    nominal, z = loop(d, proxy, tmp_path)(images()), forward(images())
    pair = ConductanceMapping.of(d.neuron, d.crossbar, proxy.r_feedback_ohm).program(weights())
    g_pos, g_neg = (g.numpy() for g in pair)
    die = draw_die(LoweredNetwork.nominal(d, forward.cells, g_pos, g_neg, simulator.klu, proxy), 2)
    sweep = Sweep(die, images().numpy(), forward.model.solve(images()).h.numpy())
    (own,) = run_sweeps([sweep], forward.bed, Progress())
    assert np.array_equal(own.states.z, forward.last.reading)
    untrimmed = (z - nominal).square().mean().sqrt()
    assert untrimmed > 5e-3
    assert forward.trim(images()) == 0
    trimmed = (forward(images()) - nominal).square().mean().sqrt()
    assert trimmed < 0.5 * untrimmed


def test_a_die_keeps_its_errors_when_its_weights_change(tmp_path, proxy):
    """Physics-aware training of one die: what is programmed moves, the die's own errors stay."""
    forward = loop(analogue(), proxy, tmp_path, die=2)
    first = forward(images())
    mapping = ConductanceMapping.of(forward.design.neuron, forward.design.crossbar, proxy.r_feedback_ohm)
    forward.program(*mapping.program(1.1 * weights()))
    assert (forward(images()) - first).abs().max() > 0.05
    forward.program(*mapping.program(weights()))
    assert torch.equal(forward(images()), first)
    assert forward.last.reused


def test_a_draw_of_the_proxy_cannot_be_imposed(tmp_path, proxy):
    forward = loop(analogue(), proxy, tmp_path)
    with pytest.raises(ValueError, match="its own die"):
        forward(images(), object())
    with pytest.raises(RuntimeError, match="call program"):
        SpiceForward(forward.design, forward.cells, proxy, forward.bed)(images())


# --- gradients --------------------------------------------------------------------------------------------------------


def test_the_gradient_at_the_measured_state_is_that_of_ngspice(tmp_path, proxy):
    """d loss / d (conductance of a weight, of the bias, an input): implicit, against differences of ngspice runs."""
    d = analogue(g_min_siemens=2e-6, g_max_siemens=99e-6)  # room for a step to either side
    forward = loop(d, proxy, tmp_path, reltol=TIGHT)
    mapping = ConductanceMapping.of(d.neuron, d.crossbar, proxy.r_feedback_ohm)
    pair = [g.clone().requires_grad_() for g in mapping.program(weights())]
    x = images().requires_grad_()
    target = torch.as_tensor(np.random.default_rng(1).standard_normal((IMAGES, STATES)))
    measured = forward(x)

    effective = linear_map(d, proxy, *pair)
    z = implicit_states(effective.w_state, x @ effective.w_input.T + effective.bias, proxy, measured)
    (0.5 * (z - target).square().sum() / IMAGES).backward()

    def loss(change: tuple[int, int, int, float] | None = None, moved: Tensor | None = None) -> float:
        g = [part.detach().clone() for part in pair]
        if change is not None:
            side, row, column, by = change
            g[side][row, column] += by
        inputs = images() if moved is None else moved
        # a converter of 24 bits, so that an input may be moved
        fine = d.model_copy(update={"converters": d.converters.model_copy(update={"dac_bits": 24})})
        run = SpiceForward(fine, forward.cells, proxy, forward.bed, reltol=TIGHT)
        run.program(*g)
        return float(0.5 * (run(inputs) - target).square().sum() / IMAGES)

    step = 1e-6
    chosen = [(0, 1, 2), (1, INPUTS, 3), (0, INPUTS, 0), (0, INPUTS + 1 + 4, 5), (1, INPUTS + 1 + 7, 1)]
    for side, row, column in chosen:
        ends = [loss((side, row, column, sign * step)) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * step)
        assert float(pair[side].grad[row, column]) == pytest.approx(difference, rel=1e-3), (side, row, column)
        assert abs(difference) > 1e2  # per siemens: the loss does depend on it
    for image, column in ((0, 0), (4, 3)):
        ends = []
        for sign in (1, -1):
            moved = images()
            moved[image, column] += sign * 1e-3
            ends.append(loss(moved=moved))
        assert float(x.grad[image, column]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3)


def implicit_states(w: Tensor, u: Tensor, proxy: ProxyParameters, measured: Tensor) -> Tensor:
    """The measured states with the proxy's implicit gradient attached."""
    from analog_deq.equilibrium.cell import System
    from analog_deq.equilibrium.solve import equilibrium

    z, _ = equilibrium(System(w, u, TableActivation.nominal(proxy.activation)), tol=1e-12)
    return z + (measured - z).detach()


@pytest.mark.parametrize(("r_line", "error"), [(0.0, 3e-4), (2.0, 2e-3)])
def test_two_nudged_equilibria_are_the_adjoint_of_a_symmetric_network(tmp_path, proxy, r_line, error):
    """Equilibrium propagation in ngspice: (z(u + b g) - z(u - b g)) / 2b against dL/du of the implicit adjoint.

    Wires and loads make the effective matrix unsymmetric by 1e-4 (no wires) to 1e-2 (2 ohm a segment), which is what
    the method cannot know. The size of the nudge was scanned: beyond 0.03 its curvature shows, below nothing changes.
    """
    forward = loop(analogue(r_line_ohm=r_line), proxy, tmp_path, w=weights(symmetric=True), reltol=TIGHT)
    gradient = nudges(1.0)
    effective = forward.model.map
    u = (images() @ torch.as_tensor(effective.w_input).T + torch.as_tensor(effective.bias)).requires_grad_()
    z = implicit_states(torch.as_tensor(effective.w_state), u, proxy, forward(images()))
    (z * gradient).sum().backward()
    adjoint = u.grad
    errors = {}
    for beta in (0.3, 0.01, 0.001):
        ends = [forward(images(), nudge=sign * beta * gradient) for sign in (1, -1)]
        found = (ends[0] - ends[1]) / (2 * beta)
        errors[beta] = float((found - adjoint).norm() / adjoint.norm())
        cosine = torch.nn.functional.cosine_similarity(found, adjoint).min()
        assert cosine > (0.99 if beta == 0.3 else 0.9999)
    assert errors[0.01] < error
    assert errors[0.001] < error
    assert errors[0.3] > 5 * errors[0.01]  # a large nudge leaves the linear range
    asymmetry = np.linalg.norm(effective.w_state - effective.w_state.T) / np.linalg.norm(effective.w_state)
    assert asymmetry < (1e-3 if r_line == 0 else 0.02)


def test_nudged_phases_of_an_unsymmetric_network_are_no_adjoint(tmp_path, proxy):
    """What makes the test above mean something: without symmetry the same two runs miss the gradient."""
    forward = loop(analogue(), proxy, tmp_path, reltol=TIGHT)
    gradient, effective = nudges(1.0), forward.model.map
    u = (images() @ torch.as_tensor(effective.w_input).T + torch.as_tensor(effective.bias)).requires_grad_()
    (implicit_states(torch.as_tensor(effective.w_state), u, proxy, forward(images())) * gradient).sum().backward()
    ends = [forward(images(), nudge=sign * 0.01 * gradient) for sign in (1, -1)]
    assert ((ends[0] - ends[1]) / 0.02 - u.grad).norm() > 0.05 * u.grad.norm()


# --- folders and failures ---------------------------------------------------------------------------------------------


def test_a_measured_batch_is_kept_without_its_decks_and_read_again(tmp_path, proxy):
    forward = loop(analogue(), proxy, tmp_path)
    first = forward(images())
    assert (forward.last.decks, forward.last.reused, forward.last.failed) == (1, False, 0)
    (folder,) = (tmp_path / "states").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["inputs.json", "outputs.json", "readings.npz"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000
    assert not (tmp_path / "spice").exists()
    again = loop(analogue(), proxy, tmp_path)
    assert torch.equal(again(images()), first)
    assert again.last.reused
    for other in (
        loop(analogue(), proxy, tmp_path, die=0),
        loop(analogue(), proxy, tmp_path, trim_a=np.full(STATES, 1e-9)),
        loop(analogue(), proxy, tmp_path, reltol=1e-7),
        loop(analogue(), proxy, tmp_path, w=weights() * (1 + 1e-12)),
    ):
        other(images())
        assert not other.last.reused
    (folder / "readings.npz").write_bytes((folder / "readings.npz").read_bytes()[:-1])
    damaged = loop(analogue(), proxy, tmp_path)
    assert torch.equal(damaged(images()), first)
    assert not damaged.last.reused


def test_an_image_that_fails_is_a_row_of_nan_and_is_tried_again(tmp_path, proxy, monkeypatch):
    plain = loop(analogue(), proxy, tmp_path / "plain", images_per_deck=3)
    expected = plain(images())
    lowered = LoweredNetwork.nominal(
        plain.design, plain.cells, *plain._programmed, find_simulator().klu, proxy
    )  # the current into the first summing node tells this image from the others
    current = f"{float(lowered.deck_amps(images().numpy())[0][2, 0])!r}"[:12]
    script = tmp_path / "ngspice"
    script.write_text(
        f"#!/bin/sh\nif [ -f deck.cir ] && grep -q -F -e '{current}' deck.cir; then echo 'Error: made to fail'; exit 1;"
        f' fi\nexec {shutil.which("ngspice")} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", str(script))
    forward = loop(analogue(), proxy, tmp_path / "broken", images_per_deck=3)
    z = forward(images())
    assert forward.last.failed == 1
    assert forward.last.status[2].startswith("simulation: ")
    assert torch.isnan(z[2]).all()
    keep = torch.arange(IMAGES) != 2
    assert (z[keep] - expected[keep]).abs().max() < 1e-6
    kept = list((tmp_path / "broken" / "states").glob("*/spice/*"))
    assert kept
    assert all(path.name.endswith(".failed") for path in kept)
    forward(images())
    assert not forward.last.reused
