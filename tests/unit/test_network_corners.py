"""Corners of the whole network, and the figures of its checks that need no simulator."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import conductances, design, proxy

from analog_deq.characterise.corners import Corner
from analog_deq.characterise.statistics import tidy
from analog_deq.errors import SpecError
from analog_deq.fit.parameters import Form, Goodness
from analog_deq.netlists.contract_schema import Condition, ProcessCorner
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.records import OK
from analog_deq.spec import Cells
from analog_deq.statistics import sd_interval
from analog_deq.verify.cell_campaign import worst_value
from analog_deq.verify.cell_rows import CELL_ROWS, SYNAPSE_ROWS
from analog_deq.verify.cell_spread import magnitude_bound, spreads
from analog_deq.verify.checks.corner_network import over_corners
from analog_deq.verify.checks.coverage import integrator_output
from analog_deq.verify.checks.noise_flips import flip_interval
from analog_deq.verify.checks.reproducible import compared
from analog_deq.verify.corner_campaign import CornerResult
from analog_deq.verify.corners import at_corner, cell_at, cell_corner, full_grid, network_corners, typical_corner
from analog_deq.verify.limits import Campaign
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.noise_reads import ReadNoise, scaled_covariance
from analog_deq.verify.sweeps import SweepResult

COLD_SLOW = Corner("ss", -40.0, 0.81, -0.81)


def cells() -> NeuronCells:
    return load_cells(Cells())


def with_corner(cells: NeuronCells, slot: str, process: str, **params: float) -> NeuronCells:
    """The cells with one more process corner of one of them."""
    cell = getattr(cells, slot)
    corners = {"tt": ProcessCorner(), process: ProcessCorner(params=params)}
    return replace(cells, **{slot: replace(cell, contract=cell.contract.model_copy(update={"corners": corners}))})


def test_the_grid_is_every_process_temperature_and_supply_the_contracts_allow() -> None:
    grid = full_grid(design(), cells())
    assert len(grid) == 5 * 3 * 3
    assert grid[0].name == "tt_27C_1p8V"
    assert "ss_m40C_1p62V" in {corner.name for corner in grid}
    assert {c.temperature_celsius for c in grid} == {-40.0, 27.0, 125.0}


def test_the_narrowest_contract_bounds_the_grid() -> None:
    own = cells()
    narrow = {**own.driver.contract.conditions, "temp": Condition(typ=27, min=0, max=85, unit="C")}
    driver = replace(own.driver, contract=own.driver.contract.model_copy(update={"conditions": narrow}))
    assert {c.temperature_celsius for c in full_grid(design(), replace(own, driver=driver))} == {0.0, 27.0, 85.0}


def test_the_typical_corner_is_simulated_whether_named_or_not() -> None:
    asked = network_corners(design(), cells(), Campaign(corners=("ss_m40C_1p62V",)))
    assert [corner.name for corner in asked] == ["tt_27C_1p8V", "ss_m40C_1p62V"]
    quick = network_corners(design(), cells(), Campaign(corners="quick"))
    assert quick[0].name == "tt_27C_1p8V"
    assert {(c.process, c.temperature_celsius) for c in quick[1:]} == {
        ("ss", -40.0), ("ss", 125.0), ("ff", -40.0), ("ff", 125.0),
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"\[campaign\] corners.*no corner 'ss_200C'.*tt_27C_1p8V"):
        network_corners(design(), cells(), Campaign(corners=("ss_200C",)))


def test_a_cell_without_a_process_or_a_supply_stays_what_it_is() -> None:
    own = cells()
    assert cell_at(own.opamp, COLD_SLOW) is own.opamp
    assert cell_at(own.activation, COLD_SLOW).corner.params["dvtn"] == 0.05
    assert cell_corner(own.opamp, COLD_SLOW).name == "tt_m40C_1p62V"
    assert cell_corner(own.synapse, COLD_SLOW).name == "tt_m40C"


def test_the_network_at_the_typical_corner_is_the_network() -> None:
    spec, own = design(), cells()
    g_pos, g_neg = conductances(8, 4)
    network = LoweredNetwork.nominal(spec, own, g_pos, g_neg, True, proxy())
    x = np.zeros((2, 3))
    same = at_corner(network, typical_corner(spec, own)).equilibria(x)
    assert (same.text, same.files) == (network.equilibria(x).text, network.equilibria(x).files)
    cold = at_corner(network, COLD_SLOW).equilibria(x).text
    assert ".temp -40" in cold.lower()
    assert "dvtn=0.05" in cold
    assert "vdd vdd 0 0.81" in cold.lower()


# --- values of cells ------------------------------------------------------------------------------------------------


def quantity_rows(*values: tuple[float, str, str]) -> pd.DataFrame:
    """Rows of one quantity: (value, at, status)."""
    return tidy(
        pd.DataFrame(
            [
                {
                    "quantity": "q",
                    "value": v,
                    "at": at,
                    "status": status,
                    "corner": "tt",
                    "variant": "nominal",
                    "die": -1,
                }
                for v, at, status in values
            ]
        )
    )


def test_the_worst_value_is_at_the_bad_end_and_a_failure_leaves_none() -> None:
    rows = quantity_rows((3.0, "a", OK), (-5.0, "b", OK), (np.nan, "c", "not modelled: no"))
    assert worst_value(rows, "low").value == -5.0
    assert worst_value(rows, "high").value == 3.0
    assert worst_value(rows, "magnitude").where == "b"
    failed = worst_value(quantity_rows((3.0, "a", OK), (np.nan, "b", "convergence: no")), "low")
    assert (failed.value, failed.missing) == (None, "failed")
    assert worst_value(quantity_rows((np.nan, "a", "not modelled: no pins")), "low").missing == "not modelled"
    assert worst_value(rows.iloc[:0], "low").value is None


def test_every_row_names_a_quantity_that_its_measurement_declares() -> None:
    roles = {"opamp": "opamp", "driver": "driver", "activation": "activation", "synapse": "synapse"}
    for row in (*CELL_ROWS, *SYNAPSE_ROWS):
        assert row.declared(roles[row.slot]).id == row.quantities[0]


def die_rows(values: np.ndarray, at: str = "") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "quantity": "offset", "at": at, "value": values, "unit": "V", "corner": "tt", "variant": "die",
            "die": np.arange(len(values)), "status": OK,
        }
    )  # fmt: skip


def test_a_bound_over_dies_holds_for_the_share_it_names() -> None:
    rng = np.random.default_rng(0)
    held = [magnitude_bound(rng.normal(0.0, 1.0, 100))[0] > 3.0 for _ in range(300)]
    assert np.mean(held) > 0.93  # 99.865 % of a standard normal lie below 3
    outlier = np.r_[rng.normal(0.0, 1.0, 99), 40.0]
    bound, basis = magnitude_bound(outlier)
    assert bound == 40.0
    assert "cannot be stated" in basis


def test_a_spread_counts_the_dies_that_gave_no_value_and_keeps_to_the_levels_in_use() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.0, 1e-3, 100)
    rows = die_rows(values)
    (spread,) = spreads(rows)
    assert spread.sd_interval == pytest.approx(sd_interval(values))
    rows.loc[3, ["value", "status"]] = [np.nan, "convergence: no"]
    (spread,) = spreads(rows)
    assert (spread.n, spread.status) == (99, "1 of 100 dies gave no value")
    levels = pd.concat([die_rows(rng.normal(0, 1, 50), "g=50uS"), die_rows(rng.normal(0, 9, 50), "g=200uS")])
    assert [s.at for s in spreads(levels, 100e-6)] == ["g=50uS"]


# --- the network ----------------------------------------------------------------------------------------------------


def result(corner: str, status: list[str], z: float = 0.1) -> CornerResult:
    n = len(status)
    ok = np.array(status) == OK
    value = np.where(ok, z, np.nan)
    states = SimpleNamespace(z=np.tile(value[:, None], 2), v=np.tile(value[:, None], 2), supply_w=value)
    sweep = SweepResult(states, np.array(status, dtype=object))  # type: ignore[arg-type]
    return CornerResult(Corner(corner, 27.0), -1, np.arange(n) + 10, sweep)


def test_a_failed_image_at_any_corner_is_a_failed_sample_and_a_lost_corner_has_no_value() -> None:
    results = [result("tt", [OK, OK]), result("ss", [OK, "timeout: killed"]), result("ff", ["convergence: no"] * 2)]
    found = over_corners(
        "net.corner_err", "%FS", results, lambda r: float(np.nanmean(r.sweep.states.z)), "high", lambda r: "told",
        lambda r: int(r.images[0]),
    )  # fmt: skip
    assert found.by_corner == {"tt_27C": pytest.approx(0.1), "ss_27C": pytest.approx(0.1), "ff_27C": None}
    assert (found.n, found.failed_samples) == (6, 3)
    assert found.worst is not None
    assert found.worst.corner == "ff_27C"


def test_numbers_that_differ_in_the_last_digit_are_counted() -> None:
    def settled(change: float) -> SweepResult:
        z = np.array([[0.1, 0.2], [0.3, 0.4 + change]])
        states = SimpleNamespace(z=z, ports_v=z, v=z, supply_w=z[:, 0])
        return SweepResult(states, np.array([OK, OK], dtype=object))  # type: ignore[arg-type]

    same = compared("nominal", [4, 9], settled(0.0), settled(0.0))
    assert [row["differing"] for row in same] == [0, 0]
    last_digit = float(np.spacing(0.4))
    other = compared("nominal", [4, 9], settled(0.0), settled(last_digit))
    assert [row["differing"] for row in other] == [0, 3]
    assert other[1]["largest_difference"] == last_digit


def test_the_covariance_of_reads_has_the_simulated_rms_and_keeps_its_correlation() -> None:
    predicted = np.tile(np.array([[4.0, 1.0], [1.0, 9.0]]), (3, 1, 1))
    noises = [ReadNoise(1, np.array([0, 1]), OK, np.array([4.0, 3.0]), 1.0)]
    scaled = scaled_covariance(predicted, noises)
    assert np.sqrt(np.diagonal(scaled[1])) == pytest.approx([4.0, 3.0])
    assert scaled[1, 0, 1] == pytest.approx(1.0 * 2.0)
    assert scaled[0] == pytest.approx(scaled[1])  # the others have the mean of those simulated
    lost = ReadNoise(0, np.array([0, 1]), "timeout: killed", np.array([np.nan, np.nan]), float("nan"))
    with pytest.raises(ValueError, match="no image"):
        scaled_covariance(predicted, [lost])


def test_the_flip_rate_cannot_be_known_better_than_the_images_allow() -> None:
    rng = np.random.default_rng(0)
    low, high = flip_interval(np.zeros(500), rng)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 500))  # no image of 500 flips: Clopper and Pearson
    shares = np.zeros(500)
    shares[:2] = 0.5
    low, high = flip_interval(shares, rng)
    assert low < shares.mean() < high


def test_the_stated_deviation_of_the_integrator_is_what_its_covariance_makes() -> None:
    truth = np.array([20e-6, 1.2e-4])
    covariance = np.array([[4e-12, 1e-13], [1e-13, 1e-14]])
    goodness = Goodness(unit="h", train=0.0, held_out=0.0, n_train=1, n_held_out=1, tolerance=1.0)
    names = ("s0_v", "inverse_a0")

    def form(values: np.ndarray) -> Form:
        return Form(
            form="", values=dict(zip(names, values, strict=True)), covariance=covariance.tolist(), domain={},
            goodness=goodness,
        )  # fmt: skip

    load, drive = np.array([1e-3, 2e-3]), np.array([0.3, -0.2])
    v, sd = integrator_output(form(truth), load, drive, 10e3)
    assert v == pytest.approx((truth[0] * (1 + 10e3 * load) - drive) / (1 + (1 + 10e3 * load) * truth[1]))
    rng = np.random.default_rng(0)
    drawn = [integrator_output(form(p), load, drive, 10e3)[0] for p in rng.multivariate_normal(truth, covariance, 4000)]
    assert np.std(drawn, axis=0) == pytest.approx(sd, rel=0.05)
