"""Two sign-offs held beside each other: which way is worse, what decides, and what the samples they share say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analog_deq.errors import SpecError
from analog_deq.statistics import paired_drop
from analog_deq.verify.delta import compare_checks, compare_corners, differing_inputs
from analog_deq.verify.pairs import pair_samples
from analog_deq.verify.verdict import Check, VerifyReport

BASE = Check(
    "net.err", "error", "%FS", 0.5, None, 1.0, 100, (0.4, 0.6), "pass", 0.5, "", "error", "each"
)  # fmt: skip
SEED = {"seed": 3, "inputs": {"hardware": "h"}}


def report(*checks: Check) -> VerifyReport:
    return VerifyReport(checks, SEED, "t", "d")


def only(a: Check, b: Check):
    (row,) = compare_checks(report(a), report(b))
    return row


def check(status: str = "pass", **changes: object) -> Check:
    return replace(BASE, status=status, **changes)


@pytest.mark.parametrize(
    ("a", "b", "move"),
    [
        ({"value": 0.5}, {"value": 0.7}, "worse"),  # toward the max
        ({"value": 0.5}, {"value": 0.3}, "better"),
        ({"value": 90.0, "min": 80.0, "max": None}, {"value": 85.0, "min": 80.0, "max": None}, "worse"),
        ({"value": 1.0, "min": 0.9, "max": 1.1}, {"value": 1.02, "min": 0.9, "max": 1.1}, "worse"),  # both limits
        ({"value": 1.05, "min": 0.9, "max": 1.1}, {"value": 0.99, "min": 0.9, "max": 1.1}, "better"),
        ({"value": 1.25, "min": 0.5, "max": 1.5}, {"value": 0.75, "min": 0.5, "max": 1.5}, "moved"),  # as near
        ({"value": 0.5, "max": None}, {"value": 0.7, "max": None}, "moved"),  # no limit says which way is worse
        ({"value": 0.5}, {"value": 0.5}, "same"),
        ({"value": 0.5}, {"value": None}, "worse"),
        ({"value": None}, {"value": 0.5}, "better"),
    ],
)
def test_the_limit_says_which_way_is_worse(a: dict, b: dict, move: str) -> None:
    assert only(check(**a), check(**b)).move == move


def test_change_and_whether_the_intervals_are_apart() -> None:
    row = only(check(), check(value=0.7, interval=(0.55, 0.8)))
    assert (row.change, row.relative) == (pytest.approx(0.2), pytest.approx(0.4))
    assert row.beyond is False
    assert only(check(), check(value=0.8, interval=(0.61, 0.9))).beyond is True
    assert only(check(), check(value=0.2, interval=(0.1, 0.39))).beyond is True
    assert only(check(), check(interval=None)).beyond is None
    assert only(check(value=0.0), check(value=0.7)).relative is None


@pytest.mark.parametrize(
    ("a", "b", "regressed"),
    [
        (check("pass"), check("fail"), True),
        (check("pass"), check("inconclusive"), True),
        (check("pass"), check("not_modelled"), True),
        (check("inconclusive"), check("fail"), True),
        (check("fail"), check("fail"), False),
        (check("fail"), check("pass"), False),
        (check("inconclusive"), check("pass"), False),
        (check("pass"), check("fail", severity="warn"), True),  # it decided, and no longer does
        (check("pass", severity="warn"), check("fail", severity="warn"), False),
        (check("pass"), check("fail", waived="known (me)"), False),
        (check("pass"), check("info", severity="info"), True),  # no longer judged
        (check("info", severity="info"), check("fail"), True),  # newly judged, and fails
        (check("info", severity="info"), check("pass"), False),
    ],
)
def test_only_a_check_that_decides_can_regress(a: Check, b: Check, regressed: bool) -> None:
    assert only(a, b).regressed is regressed


def test_a_check_that_vanished_is_no_pass() -> None:
    other = replace(BASE, id="net.other")
    gone, _ = compare_checks(report(BASE, other), report(other))
    assert (gone.id, gone.move, gone.regressed) == ("net.err", "gone", True)
    new, _ = compare_checks(report(other), report(BASE, other))
    assert (new.id, new.move, new.regressed) == ("net.err", "new", False)


def test_regressions_come_first_then_changes_of_status_then_by_size() -> None:
    names = ("net.a", "net.b", "net.c", "net.d")
    before = [check(status, id=name) for name, status in zip(names, ("pass", "fail", "pass", "pass"), strict=True)]
    after = [
        check("pass", id="net.a", value=0.51, interval=(0.41, 0.61)), check("pass", id="net.b"),
        check("pass", id="net.c", value=0.9, interval=(0.8, 0.95)), check("fail", id="net.d"),
    ]  # fmt: skip
    assert [row.id for row in compare_checks(report(*before), report(*after))] == ["net.d", "net.b", "net.c", "net.a"]


def test_other_units_do_not_compare() -> None:
    with pytest.raises(SpecError, match=r"net\.err: in '%FS' on one side and 'V' on the other"):
        only(check(), check(unit="V"))


def test_a_changed_limit_is_said() -> None:
    assert only(check(), check(max=2.0)).limits_changed
    assert not only(check(), check(value=0.6)).limits_changed


def test_two_corners_of_one_report() -> None:
    by_corner = {"tt": 0.5, "ss": 1.2, "ff": None}
    both = report(check("fail", by_corner=by_corner), check(id="net.info", by_corner={"tt": 1.0}))
    (row,) = compare_corners(both, "tt", "ss")
    assert (row.a.status, row.b.status, row.regressed, row.change) == ("pass", "fail", True, pytest.approx(0.7))
    (row,) = compare_corners(both, "ss", "tt")
    assert not row.regressed
    assert compare_corners(both, "tt", "ff")[0].b.status == "fail"  # no value is no pass
    with pytest.raises(SpecError, match=r"--corner sf: not in this report; its corners are tt, ss, ff"):
        compare_corners(both, "tt", "sf")


def test_what_two_provenances_do_not_share() -> None:
    a = {"seed": 1, "solver": "klu", "schema_version": 2, "inputs": {"checkpoint": "x", "limits": "y"}}
    b = {"seed": 1, "solver": "sparse", "schema_version": 1, "inputs": {"checkpoint": "z", "limits": "y", "new": "n"}}
    assert differing_inputs(a, b) == ("solver", "checkpoint", "new")
    assert differing_inputs(a, a) == ()


# ------------------------------------------------------------------ samples


def samples(rng: np.random.Generator, dies: int, wrong: float) -> pd.DataFrame:
    rows = [(die, "none", image, "ok", image % 10) for die in range(-1, dies) for image in range(40)]
    frame = pd.DataFrame(rows, columns=["die", "trim", "image", "status", "label"])
    off = rng.random(len(frame)) < wrong
    frame["predicted"] = np.where(off, -1, frame["label"])
    return frame


def test_the_same_samples_on_both_sides() -> None:
    rng = np.random.default_rng(5)
    a, b = samples(rng, 12, 0.1), samples(rng, 12, 0.3)
    shuffled = b.sample(frac=1.0, random_state=1)
    (nominal, dies), why = pair_samples(a, shuffled, SEED, SEED)
    assert why == ""
    right_a, right_b = (x.loc[x["die"] < 0, "predicted"] == x.loc[x["die"] < 0, "label"] for x in (a, b))
    expected = paired_drop(right_a.to_numpy(), right_b.to_numpy())
    assert (nominal.n, nominal.lost, nominal.gained) == (40, expected.a_only, expected.b_only)
    assert nominal.p_value == expected.p_value
    assert nominal.change == pytest.approx(-100 * expected.drop)
    assert nominal.interval == pytest.approx((-100 * expected.interval[1], -100 * expected.interval[0]))
    assert dies.n == 12 * 40
    assert dies.beyond
    assert dies.interval[0] < dies.change < dies.interval[1] < 0
    again = pair_samples(a, b, SEED, SEED)[0]
    assert again == (nominal, dies)  # neither the order of rows nor the run decides


def test_what_is_not_the_same_sample_is_not_paired() -> None:
    rng = np.random.default_rng(5)
    a, b = samples(rng, 3, 0.1), samples(rng, 3, 0.1)
    pairs, why = pair_samples(a, b, SEED, {**SEED, "seed": 4})
    assert (pairs, "seeds differ" in why) == ((), True)
    pairs, why = pair_samples(a, b, SEED, {"seed": 3, "inputs": {"hardware": "other"}})
    assert ([p.group for p in pairs], "hardware differs" in why) == (["nominal circuit"], True)
    pairs, why = pair_samples(a, b.assign(label=0), SEED, SEED)
    assert (pairs, "other labels" in why) == ((), True)
    pairs, why = pair_samples(a, b.assign(image=b["image"] + 100), SEED, SEED)
    assert (pairs, "no sample is in both" in why) == ((), True)


def test_a_failed_sample_is_a_wrong_label_and_no_regression_error() -> None:
    a = pd.DataFrame({"die": -1, "image": range(6), "status": "ok", "relative_error_percent": [1.0, 2, 3, 4, 5, 6]})
    b = a.assign(relative_error_percent=a["relative_error_percent"] + [0.1, 0.2, 0.3, 0.1, 0.2, np.nan])
    b.loc[5, "status"] = "convergence: no"
    (pair,), _ = pair_samples(a, b, SEED, SEED)
    assert (pair.n, pair.change, pair.p_value) == (5, pytest.approx(0.18), None)
    assert pair.beyond
