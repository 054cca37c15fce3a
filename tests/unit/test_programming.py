"""Programming and time: write and verify against closed forms, drift, reads, and draws that stay apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import design, proxy
from pydantic import ValidationError

from analog_deq.errors import OutOfDomainError, SpecError
from analog_deq.netlists.contract import read_contract
from analog_deq.netlists.device import device_statistics, require_programming
from analog_deq.netlists.library import load_cell
from analog_deq.programming import TemperatureLaw, acceptance, program, remaining_sigma, write_verify
from analog_deq.programming.design import instance_errors, program_die
from analog_deq.proxy.draws import draw_network
from analog_deq.proxy.drift import PcmDrift
from analog_deq.resources import shipped
from analog_deq.spec import Programming

MANY = 200_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pcm(target: np.ndarray, **how):
    return program(device_statistics(load_cell("pcm")), target, write_rng=rng(1), drift_rng=rng(2), **how)


@pytest.mark.parametrize("read_sigma", [0.0, 0.3e-6, 1.0e-6])
def test_write_and_verify_is_its_closed_form(read_sigma: float) -> None:
    """Until accepted: a geometric number of passes, and the spread of a normal cut by a noisy look at it."""
    sigma, tolerance = 1e-6, 0.7e-6
    done = write_verify(np.full(MANY, sigma), np.full(MANY, read_sigma), tolerance, 200, rng())
    assert done.accepted.all()
    p = acceptance(sigma, read_sigma, tolerance)
    assert done.passes.mean() == pytest.approx(1 / p, rel=0.01)
    assert (done.passes == 1).mean() == pytest.approx(p, abs=0.005)
    assert done.error.std() == pytest.approx(remaining_sigma(sigma, read_sigma, tolerance), rel=0.01)
    assert done.error.mean() == pytest.approx(0.0, abs=5e-9)


def test_verify_without_noise_keeps_every_error_within_tolerance_and_a_tight_one_is_uniform() -> None:
    done = write_verify(np.full(MANY, 1e-6), np.zeros(MANY), 0.05e-6, 1000, rng())
    assert np.abs(done.error[done.accepted]).max() <= 0.05e-6
    assert done.error[done.accepted].std() == pytest.approx(0.05e-6 / np.sqrt(3), rel=0.01)
    # and the noise of the look is a limit that no tolerance passes
    assert remaining_sigma(1e-6, 1e-6, 1e-9) == pytest.approx(1e-6 / np.sqrt(2), rel=1e-3)


def test_few_passes_leave_what_was_not_accepted() -> None:
    done = write_verify(np.full(MANY, 1e-6), np.zeros(MANY), 0.5e-6, 2, rng())
    p = acceptance(1e-6, 0.0, 0.5e-6)
    assert 1 - done.accepted.mean() == pytest.approx((1 - p) ** 2, rel=0.02)
    assert done.passes.max() == 2
    once = write_verify(np.full(MANY, 1e-6), np.zeros(MANY), None, 1, rng())
    assert once.error.std() == pytest.approx(1e-6, rel=0.01)


def test_one_pass_reproduces_the_published_spread() -> None:
    """Nandakumar et al. (2019), in microsiemens and r: 0.26348 + 1.9650 r - 1.1731 r^2."""
    target = np.full(MANY, 10e-6)
    expected = 1e-6 * (0.26348 + 1.9650 * 0.4 - 1.1731 * 0.16)
    assert pcm(target).error_s.std() == pytest.approx(expected, rel=0.01)


def test_phase_change_cells_drift_as_the_drift_module_says() -> None:
    target = np.array([1e-6, 10e-6, 25e-6])
    own = pcm(np.repeat(target, MANY // 10))
    ratio = (own.at(20e4) / own.at()).reshape(3, -1)
    nu = -np.log(ratio) / np.log(1e4)
    law = PcmDrift().draw(torch.as_tensor(np.repeat(target, MANY // 10)), rng(5)).nu.numpy().reshape(3, -1)
    assert nu.mean(axis=1) == pytest.approx(law.mean(axis=1), abs=1e-3)
    assert nu.std(axis=1) == pytest.approx(law.std(axis=1), rel=0.03)


def test_analogue_cells_relax_with_the_logarithm_of_time() -> None:
    """Falcone et al. (2025): mean -0.089 uS ln t, standard deviation 0.042 ln t + 0.412 uS beside the written error."""
    target = np.full(MANY, 50e-6)
    own = program(device_statistics(load_cell("rram_cmo")), target, write_rng=rng(1), drift_rng=rng(2))
    for t in (1.0, 86400.0):
        moved = own.at(t) - target - own.error_s
        assert moved.mean() == pytest.approx(-0.08900206e-6 * np.log(t), abs=5e-9)
        assert moved.std() == pytest.approx((0.04201137 * np.log(t) + 0.41183342) * 1e-6, rel=0.01)


def test_a_read_is_the_device_and_its_own_noise() -> None:
    """1/f noise between 1/(wait + read) and 1/(2 read); the device itself is the same at every read."""
    own = pcm(np.full(MANY, 25e-6))
    first, second = own.read(3600.0, 1e-6, rng(7)), own.read(3600.0, 1e-6, rng(8))
    assert np.array_equal(first, own.read(3600.0, 1e-6, rng(7)))
    spread = (first / second - 1).std() / np.sqrt(2)
    assert spread == pytest.approx(0.0088 * np.sqrt(np.log(3600.000001 / 2e-6)), rel=0.02)
    assert (first / own.at(3600.0)).mean() == pytest.approx(1.0, abs=1e-3)


def test_writes_drift_and_reads_have_seeds_of_their_own() -> None:
    own = device_statistics(load_cell("pcm"))
    target, spec = np.full(100, 5e-6), Programming()
    verified = Programming(passes=20, tolerance_siemens=0.2e-6)
    plain, better = (program_die(own, target, s, 3, 1) for s in (spec, verified))
    assert np.array_equal(plain.deviation, better.deviation)
    assert better.error_s.std() < 0.7 * plain.error_s.std()  # down to the noise of its verify reads
    assert not np.array_equal(plain.error_s, program_die(own, target, spec, 3, 2).error_s)
    quiet = instance_errors(plain, Programming(read_noise=False), "t", rng(4))
    noisy = instance_errors(plain, spec, "t", rng(4))
    assert np.array_equal(quiet["dg"], plain.error_s)
    assert np.array_equal(noisy["dnu"], plain.deviation)
    assert 0 < (noisy["dg"] - quiet["dg"]).std() < plain.error_s.std()


def test_an_age_without_statistics_is_refused() -> None:
    with pytest.raises(OutOfDomainError, match="holds from 20"):
        pcm(np.array([1e-5])).at(5.0)
    hfox = program(device_statistics(load_cell("rram_hfox")), np.array([1e-5]), write_rng=rng(), drift_rng=rng())
    with pytest.raises(OutOfDomainError, match="no law of drift"):
        hfox.at(100.0)
    with pytest.raises(SpecError, match=r"programming\.age_s"):
        require_programming(load_cell("pcm"), Programming(age_s=1.0))
    with pytest.raises(SpecError, match="no law of drift"):
        require_programming(load_cell("rram_hfox"), Programming(age_s=100.0))
    with pytest.raises(SpecError, match="no statistics of its own"):
        require_programming(load_cell("resistor_synapse"), Programming())
    with pytest.raises(ValidationError, match="needs tolerance_siemens"):
        Programming(passes=3)


def test_training_draws_are_programmed_and_aged() -> None:
    d = design(programming={"age_s": 86400.0, "read_noise": False})
    own = proxy().model_copy(update={"device": device_statistics(load_cell("pcm"))})
    programmed = torch.full((2, 200, 4), 25e-6, dtype=torch.float64)
    draw = draw_network(own, d, 200, rng(3), programmed=programmed)
    expected = (86400.0 / 20.0) ** -0.049  # nu of the largest conductance, r = 1
    assert float(draw.g_pos.mean() + 1) == pytest.approx(expected, rel=0.02)
    plain = draw_network(own, design(), 200, rng(3), programmed=programmed)
    assert abs(float(plain.g_pos.mean())) < 0.01


# --- temperature ------------------------------------------------------------------------------------------------------


def test_the_law_of_temperature_is_the_same_curve_about_either_reference() -> None:
    """R = 1 + tc1 dT + tc2 dT^2 about 50 C, written about 27 C for ngspice."""
    law = TemperatureLaw(tc1_per_k=-3e-3, tc2_per_k2=2e-5, reference_celsius=50.0, source="of this test")
    tc1, tc2 = law.at_nominal
    for celsius in (-40.0, 27.0, 50.0, 125.0):
        dt = celsius - 27.0
        assert law.factor(celsius) == pytest.approx(1 / (1 + tc1 * dt + tc2 * dt**2), rel=1e-12)
    assert law.factor(27.0) == 1.0
    assert law.factor(50.0) == pytest.approx(1 + 3e-3 * 23 + 2e-5 * 23**2, rel=1e-12)
    assert device_statistics(load_cell("pcm")).temperature_factor(85.0) == 1.0  # nobody published one that we found


def test_training_draws_are_read_at_the_operating_temperature() -> None:
    """Beside a law of conductance that calibration measured cold: the draw's error is the warm factor."""
    law = TemperatureLaw(tc1_per_k=2e-3, source="of this test")
    own = proxy().model_copy(
        update={"device": device_statistics(load_cell("pcm")).model_copy(update={"temperature": law})}
    )
    programmed = torch.full((2, 50, 4), 25e-6, dtype=torch.float64)
    cold, warm = (
        draw_network(
            own, design(programming={"read_noise": False}, operating={"temperature_celsius": celsius}), 50, rng(3),
            programmed=programmed,
        ).g_pos
        for celsius in (27.0, 85.0)
    )  # fmt: skip
    assert torch.allclose((1 + warm) / (1 + cold), torch.full_like(warm, 1 / 1.116), rtol=1e-12)


@pytest.mark.parametrize(
    ("cell", "section", "message"),
    [
        ("resistor_synapse", "tc1_per_k = 1e-3", "declare both under"),
        ("pcm", "tc1_per_k = -0.015", "no positive resistance at 125 C"),
    ],
)
def test_a_law_of_temperature_a_cell_cannot_have_is_refused(
    tmp_path: Path, cell: str, section: str, message: str
) -> None:
    source = shipped("netlists/cells")
    (tmp_path / f"{cell}.cir").write_text((source / f"{cell}.cir").read_text())
    mine = tmp_path / "mine.toml"
    mine.write_text((source / f"{cell}.toml").read_text() + f'\n[temperature]\n{section}\nsource = "none"\n')
    with pytest.raises(SpecError, match=message):
        read_contract(mine)
