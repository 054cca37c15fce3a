"""Summaries of a quantities table, on synthetic tables whose answer is known by construction."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analog_deq.characterise.blocks import make_copy, parameter_steps, sensitivity_variants
from analog_deq.characterise.corners import typical_corner
from analog_deq.characterise.measurement import CellBench
from analog_deq.characterise.sensitivity import cell_sensitivities, predicted_spread, sensitivities, state_of
from analog_deq.characterise.statistics import correlations, die_values, outcome, over_corners, over_dies, tidy
from analog_deq.netlists.library import load_cell

Row = tuple[str, str, float, str, str, int, str]
WORSE = {"gain": "low", "noise": "high", "offset": "magnitude"}


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """(quantity, at, value, corner, variant, die, status) rows as a campaign would write them."""
    names = ["quantity", "at", "value", "corner", "variant", "die", "status"]
    return pd.DataFrame(list(rows), columns=names).assign(unit="V", measurement="m", process="tt")


def nominal(quantity: str, value: float, corner: str, at: str = "", status: str = "ok") -> Row:
    return (quantity, at, value, corner, "nominal", -1, status)


def die(quantity: str, value: float, number: int, at: str = "", status: str = "ok") -> Row:
    return (quantity, at, value, "tt", "die", number, status)


# --- outcomes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("ok", "ok"),
        ("not modelled: no supply pins", "not modelled"),
        ("undefined: never settles", "undefined"),
        ("convergence: singular", "failed"),
        ("timeout", "failed"),
        ("okay", "failed"),
    ],
)
def test_every_status_is_one_of_four_outcomes(status: str, kind: str) -> None:
    assert outcome(status) == kind


def test_no_value_without_a_condition_is_no_refusal_where_the_conditions_have_their_own_rows() -> None:
    """A bare input and one behind a source resistor: the noise corner of the first is not modelled, of both here."""
    white = "not modelled: white"
    for status, value in (("ok", 3.0), (white, math.nan)):
        rows = [die("gain", math.nan, k, "", white) for k in range(3)]
        rows += [die("gain", value, k, "source=1k", status) for k in range(3)]
        found = tidy(table(rows))
        assert list(found["at"]) == ["", "", "", *["source=1k"] * 3]
        assert die_values(table(rows)).shape == (3, 2)


def test_a_refused_measurement_counts_at_every_condition_it_covers() -> None:
    rows = [
        nominal("gain", math.nan, "tt", "", "convergence: no solution"),
        nominal("gain", 2.0, "ss", "g=1uS"),
        nominal("gain", 3.0, "ss", "g=2uS"),
        nominal("noise", 1.0, "ss"),
    ]
    spread = tidy(table(rows))
    assert list(zip(spread["corner"], spread["at"], strict=True)) == [
        ("tt", "g=1uS"), ("tt", "g=2uS"), ("ss", "g=1uS"), ("ss", "g=2uS"), ("ss", ""),
    ]  # fmt: skip
    found = over_corners(table(rows), WORSE).set_index(["quantity", "at"])
    assert list(found["failed"]) == [1, 1, 1]
    assert list(found["missed"]) == ["tt", "tt", "tt"]
    assert found.loc[("gain", "g=2uS"), "typical_status"] == "convergence: no solution"
    assert math.isnan(found.loc[("gain", "g=2uS"), "typical"])


def test_a_quantity_without_conditions_keeps_its_empty_one() -> None:
    rows = [nominal("gain", 1.0, "tt"), nominal("gain", math.nan, "ss", "", "timeout")]
    found = over_corners(table(rows), WORSE)
    assert list(found["at"]) == [""]
    assert found["failed"].item() == 1


def test_a_failed_row_without_condition_stays_where_the_quantity_has_such_rows() -> None:
    """Noise at a spot and noise without one are two lines of the datasheet; one failing is not the other's failure."""
    rows = [nominal("noise", 1.0, "tt"), nominal("noise", 2.0, "tt", "f=1kHz"), nominal("noise", 2.0, "ss", "f=1kHz")]
    rows.append(nominal("noise", math.nan, "ss", "", "undefined: white"))
    found = over_corners(table(rows), WORSE).set_index("at")
    assert list(found["undefined"]) == [1, 0]
    assert found.loc["f=1kHz", "status"] == "ok"


# --- corners --------------------------------------------------------------------------------------------------------


def test_the_worst_corner_is_the_bad_end_of_each_quantity() -> None:
    values = {"tt": (10.0, 1.0, 0.1), "ss": (8.0, 3.0, -0.4), "ff": (12.0, 2.0, 0.3)}
    rows = [nominal(q, v, corner) for corner, each in values.items() for q, v in zip(WORSE, each, strict=True)]
    found = over_corners(table(rows), WORSE).set_index("quantity")
    assert list(found["worst_corner"]) == ["ss", "ss", "ss"]
    assert list(found["worst"]) == [8.0, 3.0, -0.4]
    assert list(found["typical"]) == [10.0, 1.0, 0.1]
    assert list(found["low_corner"]) == ["ss", "tt", "ss"]
    assert list(found["high_corner"]) == ["ff", "ss", "ff"]
    assert list(found["n"]) == [3, 3, 3]
    assert set(found["status"]) == {"ok"}


def test_every_kind_of_row_that_is_no_number_is_counted() -> None:
    rows = [
        nominal("gain", 1.0, "tt"),
        nominal("gain", math.nan, "ss", status="undefined: no falling flank"),
        nominal("gain", math.nan, "ff", status="timeout after 5 s"),
        nominal("gain", math.nan, "sf", status="not modelled: no path"),
        nominal("noise", 1.0, "fs"),
        *(nominal("noise", 2.0, c) for c in ("tt", "ss", "ff", "sf")),
    ]
    found = over_corners(table(rows), WORSE).set_index("quantity")
    gain = found.loc["gain"]
    assert (gain["corners"], gain["n"]) == (5, 1)
    assert (gain["failed"], gain["undefined"], gain["not_modelled"]) == (2, 1, 1)  # ff, and the row of fs is missing
    assert gain["missed"] == "ss, ff, fs"
    assert gain["status"] != "ok"
    assert found.loc["noise", "status"] == "ok"


def test_a_missing_row_alone_is_not_ok() -> None:
    rows = [nominal("gain", 1.0, "tt"), nominal("noise", 1.0, "tt"), nominal("noise", 1.0, "ss")]
    found = over_corners(table(rows), WORSE).set_index("quantity")
    assert found.loc["gain", "status"] == "failed: 1 rows are missing"
    assert found.loc["gain", "failed"] == 1


def test_a_quantity_no_corner_has_is_not_modelled() -> None:
    why = "not modelled: no supply pins"
    found = over_corners(table([nominal("gain", math.nan, c, status=why) for c in ("tt", "ss")]), WORSE)
    assert found["status"].item() == why
    assert found["missed"].item() == found["worst_corner"].item() == ""
    assert math.isnan(found["worst"].item())


# --- dies -----------------------------------------------------------------------------------------------------------


def test_spread_over_dies_with_student_and_chi_square_intervals() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 50)
    found = over_dies(table(die("gain", v, k) for k, v in enumerate(values))).iloc[0]
    s, n = values.std(ddof=1), len(values)
    assert (found["dies"], found["n"], found["failed"]) == (n, n, 0)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["sd"] == pytest.approx(s)
    half = stats.t.ppf(0.975, n - 1) * s / math.sqrt(n)
    assert (found["mean_low"], found["mean_high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    low, high = (s * math.sqrt((n - 1) / stats.chi2.ppf(p, n - 1)) for p in (0.975, 0.025))
    assert (found["sd_low"], found["sd_high"]) == pytest.approx((low, high))
    assert (found["low_die"], found["high_die"]) == (int(values.argmin()), int(values.argmax()))
    assert found["normal_p"] == pytest.approx(stats.shapiro(values).pvalue)
    assert found["valid_low"] == pytest.approx(0.025 ** (1 / n))
    assert found["status"] == "ok"


def test_a_skewed_spread_is_told_from_a_normal_one() -> None:
    rng = np.random.default_rng(2)
    rows = [die("gain", v, k) for k, v in enumerate(rng.exponential(1.0, 200))]
    rows += [die("noise", v, k) for k, v in enumerate(rng.normal(0.0, 1.0, 200))]
    found = over_dies(table(rows)).set_index("quantity")["normal_p"]
    assert found["gain"] < 1e-6 < 0.01 < found["noise"]


def test_failed_and_missing_dies_are_counted_and_leave_the_mean_alone() -> None:
    rows = [die("gain", float(k), k) for k in range(8)]
    rows += [die("gain", math.nan, 8, status="convergence"), die("noise", 1.0, 9), die("noise", 2.0, 8)]
    found = over_dies(table(rows)).set_index("quantity")
    assert found.loc["gain", "mean"] == pytest.approx(3.5)
    assert tuple(found.loc["gain", ["dies", "n", "failed"]]) == (10, 8, 2)
    assert tuple(found.loc["noise", ["dies", "n", "failed"]]) == (10, 2, 8)
    # exact interval of 8 in 10, from tables
    assert found.loc["gain", "valid_low"] == pytest.approx(0.4439, abs=1e-4)


def test_dies_that_are_all_alike_have_no_spread_and_never_a_zero() -> None:
    rows = [die("gain", 1.0 + 1e-6 * (k % 2), k) for k in range(10)]
    found = over_dies(table(rows)).iloc[0]
    assert found["status"] == "not modelled: the dies agree to 1e-05, no mismatch parameter moves it"
    moved = over_dies(table(die("gain", 1.0 + 1e-4 * (k % 2), k) for k in range(10))).iloc[0]
    assert (moved["status"], moved["sd"]) == ("ok", pytest.approx(5.27e-5, rel=1e-3))
    assert math.isnan(found["sd"])
    assert found["mean"] == pytest.approx(1.0)
    assert math.isnan(over_dies(table(die("gain", 0.0, k) for k in range(3))).iloc[0]["sd"])


def test_one_die_and_no_valid_die_are_said_in_words() -> None:
    alone = over_dies(table([die("gain", 1.0, 0)])).iloc[0]
    assert alone["status"] == "undefined: a spread needs two valid dies"
    why = "not modelled: no noise"
    none = over_dies(table(die("gain", math.nan, k, status=why) for k in range(4))).iloc[0]
    assert none["status"] == why
    assert math.isnan(none["valid_low"])
    broken = over_dies(table(die("gain", math.nan, k, status="timeout") for k in range(4))).iloc[0]
    assert (broken["status"], broken["failed"], broken["valid_low"]) == ("timeout", 4, 0.0)


# --- correlations ---------------------------------------------------------------------------------------------------


def correlated(n: int, r: float) -> pd.DataFrame:
    a, b = np.random.default_rng(4).normal(size=(2, n))
    rows = [die("gain", v, k, "g=1uS") for k, v in enumerate(a)]
    rows += [die("noise", v, k) for k, v in enumerate(r * a + math.sqrt(1 - r * r) * b)]
    return table(rows + [die("offset", 1.0, k) for k in range(n)])


def test_correlation_with_fishers_interval_and_without_what_does_not_vary() -> None:
    data = correlated(300, -0.8)
    found = correlations(data)
    assert len(found) == 1  # the constant offset correlates with nothing
    row = found.iloc[0]
    assert (row["quantity_a"], row["at_a"], row["quantity_b"], row["n"]) == ("gain", "g=1uS", "noise", 300)
    values = die_values(data)
    exact = stats.pearsonr(values["gain", "g=1uS"], values["noise", ""])
    assert row["r"] == pytest.approx(exact.statistic)
    assert (row["r_low"], row["r_high"]) == pytest.approx(tuple(exact.confidence_interval(0.95)))
    assert row["r_low"] < -0.8 < row["r_high"]


def test_correlation_is_pairwise_complete() -> None:
    data = correlated(40, 0.5)
    broken = (data["quantity"] == "noise") & (data["die"] < 10)
    data.loc[broken, ["value", "status"]] = [math.nan, "timeout"]
    row = correlations(data).iloc[0]
    values = die_values(data)
    assert row["n"] == 30
    assert row["r"] == pytest.approx(np.corrcoef(values.iloc[10:, 0], values.iloc[10:, 1])[0, 1])
    assert len(values) == 40


def test_quantities_that_move_as_one_have_correlation_one() -> None:
    rows = [die(q, f * k, k) for k in range(10) for q, f in (("gain", 1.0), ("noise", -3.0))]
    row = correlations(table(rows)).iloc[0]
    assert (row["r"], row["r_low"], row["r_high"]) == pytest.approx((-1.0, -1.0, -1.0))


def test_no_dies_and_no_rows_give_empty_tables_with_their_columns() -> None:
    only_nominal = table([nominal("gain", 1.0, "tt")])
    for found in (correlations(only_nominal), over_dies(only_nominal), over_corners(table([]), WORSE)):
        assert found.empty
        assert len(found.columns) >= 8


# --- sensitivities --------------------------------------------------------------------------------------------------

STEPS = {"a": 0.1, "b": 2.0, "c": 0.5}
UNITS = {"a": "V", "b": "1", "c": "F"}
SIGMA = {"a": 0.1, "b": 2.0, "c": math.nan}


def model(a: float, b: float, c: float) -> float:
    return 1.0 + 3.0 * a - 0.2 * b + 10.0 * c + 4.0 * a * a


def swept(dies: int = 0) -> pd.DataFrame:
    at_rest = dict.fromkeys(STEPS, 0.0)
    rows = [nominal("gain", model(**at_rest), "tt"), nominal("gain", 99.0, "ss")]
    for name, step in STEPS.items():
        rows += [
            ("gain", "", model(**{**at_rest, name: s * step}), "tt", f"{name}{sign}", -1, "ok")
            for sign, s in (("+", 1), ("-", -1))
        ]
    draws = np.random.default_rng(5).normal(size=(dies, 2))
    rows += [die("gain", model(0.1 * x, 2.0 * y, 0.0), k) for k, (x, y) in enumerate(draws)]
    return table(rows)


def slopes_of(data: pd.DataFrame) -> pd.DataFrame:
    return sensitivities(data, STEPS, UNITS, lambda name, _: SIGMA[name])


def test_slopes_effects_and_shares_of_a_known_model() -> None:
    found = slopes_of(swept()).set_index("parameter")
    assert list(found["slope"]) == pytest.approx([3.0, -0.2, 10.0])
    assert list(found["slope_unit"]) == ["V/V", "V", "V/F"]
    assert list(found["effect"][:2]) == pytest.approx([0.3, -0.4])
    assert list(found["bend"][:2]) == pytest.approx([0.04, 0.0])
    assert list(found["share"][:2]) == pytest.approx([0.36, 0.64])
    assert found.loc["c", ["effect", "bend", "share", "sigma"]].isna().all()  # no mismatch: a slope is all it has
    assert set(found["status"]) == {"ok"}


def test_the_sampled_spread_meets_the_prediction() -> None:
    data = swept(dies=400)
    found = predicted_spread(slopes_of(data), data).iloc[0]
    assert found["predicted_sd"] == pytest.approx(0.5)
    assert found["predicted_shift"] == pytest.approx(0.04)
    assert found["n"] == 400
    assert found["inside"]
    assert found["ratio"] == pytest.approx(1.0, abs=0.15)
    wrong = slopes_of(data).assign(effect=lambda rows: 2 * rows["effect"])
    assert not predicted_spread(wrong, data).iloc[0]["inside"]


def test_a_variant_that_failed_leaves_no_prediction_and_no_share() -> None:
    data = swept(dies=20)
    data.loc[data["variant"] == "b+", ["value", "status"]] = [math.nan, "timeout"]
    found = slopes_of(data).set_index("parameter")
    assert list(found["status"]) == ["ok", "timeout", "ok"]
    assert found["share"].isna().all()
    assert math.isnan(found.loc["b", "slope"])
    prediction = predicted_spread(found.reset_index(), data).iloc[0]
    assert prediction["status"] == "timeout"
    assert math.isnan(prediction["predicted_sd"])
    assert not prediction["inside"]
    missing = slopes_of(data[data["variant"] != "a-"]).set_index("parameter")
    assert missing.loc["a", "status"] == "failed: no row"


def test_a_quantity_that_only_mismatch_makes_still_has_its_slope() -> None:
    data = swept()
    data.loc[data["variant"] == "nominal", ["value", "status"]] = [math.nan, "not modelled: odd"]
    found = slopes_of(data).set_index("parameter")
    assert found.loc["a", "slope"] == pytest.approx(3.0)
    assert found.loc["a", "status"] == "ok"
    assert math.isnan(found.loc["a", "bend"])


def test_without_dies_or_without_mismatch_the_prediction_says_so() -> None:
    data = swept()
    alone = predicted_spread(slopes_of(data), data).iloc[0]
    assert (alone["status"], alone["n"]) == ("undefined: no dies were simulated", 0)
    plain = sensitivities(data, STEPS, UNITS, lambda *_: math.nan)
    assert predicted_spread(plain, data).iloc[0]["status"] == "not modelled: no mismatch parameter has a step"


@pytest.mark.parametrize(("at", "state"), [("g=40uS", 4e-5), ("g=300nS t=1ks", 3e-7), ("f=1 kHz", None), ("", None)])
def test_state_of_a_row(at: str, state: float | None) -> None:
    assert state_of(at) == pytest.approx(state) if state is not None else math.isnan(state_of(at))


def test_a_spread_that_follows_the_state_moves_each_level_by_its_own_sigma() -> None:
    """The variants move a level by its sigma, and the table divides by the same: slope 1 and effect sigma(g)."""
    cell = load_cell("rram_hfox")
    bench = CellBench(cell, typical_corner(cell), ())
    rows = []
    for g in (4e-6, 20e-6, 40e-6):
        at = f"g={g * 1e6:g}uS"
        rows.append(nominal("conductance", g, "tt_27C", at))
        for variant, number in sensitivity_variants(cell):
            moved = bench.params(make_copy(cell, "0", variant, number, 0), g=g)
            rows.append(("conductance", at, g + moved.get("dg", 0.0), "tt_27C", variant, -1, "ok"))
    found = cell_sensitivities(table(rows), cell)
    assert set(found["parameter"]) == set(parameter_steps(cell))
    found = found[found["parameter"] == "dg"]
    assert list(found["slope"]) == pytest.approx([1.0, 1.0, 1.0])
    r = np.array([0.1, 0.5, 1.0])
    wan = 1e-6 * (0.348 + 16.030 * r - 43.853 * r**2 + 45.393 * r**3 - 16.815 * r**4)
    assert list(found["effect"]) == pytest.approx(list(wan))
    assert list(found["share"]) == pytest.approx([1.0, 1.0, 1.0])


def test_rounding_of_a_quantity_that_may_be_zero_is_no_spread() -> None:
    """Peaking of a first-order cell: 0 dB, or what rounding leaves of it."""
    rows = [die("gain", 1e-15 * (k % 2), k) for k in range(10)]
    found = over_dies(table(rows).assign(unit="dB"))
    assert math.isnan(found["sd"][0])
    assert found["status"][0].startswith("not modelled: the dies agree")
    assert over_dies(table(rows))["status"][0] == "ok", "volts have no floor"
