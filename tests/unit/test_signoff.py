"""Judging fails closed, states what it cannot know, and survives its own file format."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import SchemaError, SpecError
from analog_deq.verify.limits import LimitCheck
from analog_deq.verify.signoff import Check, Limits, Measurement, VerifyReport, Worst, judge, read_limits

TODAY = date(2026, 11, 28)
DEFAULT = Path(__file__).parents[2] / "data" / "limits" / "default.toml"


def limits(**row: Any) -> Limits:
    return Limits(schema=1, check=({"id": "net.x", "quantity": "x", "unit": "%", **row},))  # type: ignore[call-arg,arg-type]


def one(row: dict[str, Any], **measured: Any) -> Check:
    (check,) = judge([Measurement(**{"id": "net.x", "unit": "%", "n": 10, **measured})], limits(**row), TODAY)
    return check


@pytest.mark.parametrize(("value", "status", "margin"), [(0.1, "pass", 0.1), (0.2, "pass", 0.0), (0.3, "fail", -0.1)])
def test_value_against_a_maximum(value: float, status: str, margin: float) -> None:
    check = one({"max": 0.2}, value=value)
    assert check.status == status
    assert check.margin == pytest.approx(margin)


def test_two_sided_margin_is_to_the_nearest_limit() -> None:
    assert one({"min": 0.9, "max": 1.1}, value=1.08).margin == pytest.approx(0.02)
    assert one({"min": 0.9, "max": 1.1}, value=0.85).status == "fail"


@pytest.mark.parametrize(
    ("interval", "status"),
    [((0.1, 0.19), "pass"), ((0.1, 0.21), "inconclusive"), ((0.21, 0.3), "fail"), (None, "fail"),
     ((0.1, math.nan), "fail"), ((-math.inf, 0.1), "fail")],
)  # fmt: skip
def test_interval_judge(interval: tuple[float, float] | None, status: str) -> None:
    assert one({"max": 0.2, "judge": "interval"}, value=0.15, interval=interval).status == status


def test_a_sample_too_small_for_its_statement_is_inconclusive_and_says_what_would_do() -> None:
    check = one({"max": 0.2}, value=0.1, too_few="299 are needed")
    assert check.status == "inconclusive"
    assert "299 are needed" in check.detail
    assert one({"max": 0.2}, value=0.1, too_few="299 are needed", failed_samples=1).status == "fail"


@pytest.mark.parametrize(
    ("passes", "n", "status"), [(29, 29, "pass"), (28, 28, "inconclusive"), (45, 60, "fail"), (57, 60, "inconclusive")]
)
def test_yield_judge(passes: int, n: int, status: str) -> None:
    check = one({"min": 90, "judge": "yield"}, value=100 * passes / n, n=n)
    assert check.status == status
    assert check.interval is not None
    assert (check.interval[0] >= 90) == (status == "pass")


def test_inconclusive_yield_says_how_many_are_needed() -> None:
    assert "even with none failing, 29 in all" in one({"min": 90, "judge": "yield"}, value=100.0, n=12).detail
    assert "with 3 not passing, 76 in all" in one({"min": 90, "judge": "yield"}, value=95.0, n=60).detail


def test_yield_refuses_impossible_shares() -> None:
    assert "not a share" in one({"min": 90, "judge": "yield"}, value=99.9, n=29).detail
    bad = one({"min": 90, "judge": "yield"}, value=100.0, n=60, failed_samples=1)
    assert bad.status == "fail"
    assert "counted as passing" in bad.detail
    assert one({"min": 50, "judge": "yield"}, value=95.0, n=60, failed_samples=3).status == "pass"


@given(
    st.sampled_from([None, math.nan, math.inf, -math.inf]),
    st.sampled_from(["each", "interval", "yield"]),
    st.sampled_from(["error", "warn"]),
)
def test_no_number_never_passes(value: float | None, how: str, severity: str) -> None:
    row = {"min": 1.0, "judge": how, "severity": severity} | ({} if how == "yield" else {"max": 2.0})
    check = one(row, value=value, interval=(1.2, 1.8))
    assert check.status == "fail"
    assert check.value is None
    json.dumps(VerifyReport((check,), {}, "t", "d").to_dict(), allow_nan=False)


def test_fails_closed_without_measurement_samples_or_valid_samples() -> None:
    (missing,) = judge([], limits(max=1), TODAY)
    assert (missing.status, missing.detail) == ("fail", "not measured in this run")
    assert one({"max": 1}, value=0.5, n=0).status == "fail"
    assert one({"max": 1}, value=0.5, failed_samples=1).status == "fail"
    assert one({"max": 1, "failed_samples": "counted"}, value=0.5, failed_samples=1).status == "pass"


def test_info_is_never_judged() -> None:
    assert one({"severity": "info"}, value=5.0).status == "info"
    assert one({"severity": "info"}, value=5.0).margin is None
    guided = one({"severity": "info", "max": 1.0}, value=5.0)
    assert (guided.status, guided.margin) == ("info", -4.0)
    assert "guide" in guided.detail
    assert one({"severity": "info"}, value=None).status == "not_measured"
    assert judge([], limits(severity="info"), TODAY)[0].status == "not_measured"


def test_measurement_without_a_limit_is_kept_as_information() -> None:
    checks = judge([Measurement("net.y", 1.0, "V", 1), Measurement("net.x", 0.0, "%", 1)], limits(max=1), TODAY)
    assert [(c.id, c.status) for c in checks] == [("net.x", "pass"), ("net.y", "info")]


def test_unit_mismatch_and_duplicates_are_errors() -> None:
    with pytest.raises(SpecError, match=r"net\.x.*'%'.*'V'"):
        one({"max": 1}, value=1.0, unit="V")
    with pytest.raises(ValueError, match="twice"):
        judge([Measurement("net.x", 1.0, "%", 1)] * 2, limits(max=1), TODAY)
    with pytest.raises(ValueError, match="impossible"):
        Measurement("net.x", 1.0, "%", 1, failed_samples=2)
    with pytest.raises(ValueError, match="swapped"):
        Measurement("net.x", 1.0, "%", 1, interval=(2.0, 1.0))


PASS, FAIL = {"max": 1.0}, {"max": 0.1}
UNSURE = {"max": 0.55, "judge": "interval"}
WAIVER = {"waiver": {"reason": "known model error", "by": "A. Engineer", "expires": date(2027, 3, 31)}}


@pytest.mark.parametrize(
    ("rows", "verdict", "code"),
    [([PASS], "pass", 0), ([PASS, FAIL], "fail", 1), ([UNSURE, FAIL], "fail", 1), ([PASS, UNSURE], "inconclusive", 4),
     ([PASS, FAIL | {"severity": "warn"}], "pass", 0), ([PASS, UNSURE | {"severity": "warn"}], "pass", 0),
     ([PASS, FAIL | WAIVER], "pass", 0), ([{"severity": "info"}], "inconclusive", 4), ([], "inconclusive", 4)],
)  # fmt: skip
def test_verdict_is_the_most_severe(rows: list[dict[str, Any]], verdict: str, code: int) -> None:
    checks = tuple(one(row, value=0.5, interval=(0.4, 0.6)) for row in rows)
    report = VerifyReport(checks, {}, "t", "d")
    assert (report.verdict, report.exit_code()) == (verdict, code)


def test_waiver_keeps_the_status_and_names_who() -> None:
    check = one(FAIL | WAIVER, value=0.5)
    assert check.status == "fail"
    assert check.waived == "known model error (A. Engineer, until 2027-03-31)"


def test_waiver_that_expired_counts_no_more_and_says_so() -> None:
    row = limits(**{**FAIL, **WAIVER})
    measured = [Measurement("net.x", 0.5, "%", 10)]
    (last_day,) = judge(measured, row, date(2027, 3, 31))
    (after,) = judge(measured, row, date(2027, 4, 1))
    assert (last_day.decides, after.decides) == (False, True)
    assert "has expired" in after.detail
    assert after.lapsed.endswith("until 2027-03-31)")
    assert (row.expired(date(2027, 3, 31)), row.expired(date(2027, 4, 1))) == ((), ("net.x",))


def test_row_without_a_limit_is_reported_and_not_judged() -> None:
    check = one({}, value=5.0)
    assert (check.status, check.decides) == ("info", False)
    assert judge([], limits(), TODAY)[0].status == "not_measured"


CORNERS = {"tt": 60.0, "ss": 52.0, "ff": 58.0}


@pytest.mark.parametrize(
    ("row", "by_corner", "status", "reason"),
    [({}, CORNERS, "fail", "outside at 1 of 3 corners: ss"), ({"corners": "typical"}, CORNERS, "pass", ""),
     ({"corners": ("tt", "ff")}, CORNERS, "pass", ""), ({"corners": ("sf",)}, CORNERS, "fail", "sf was not simulated"),
     ({"corners": ("sf",)}, {}, "fail", "sf was not simulated"),
     ({}, {**CORNERS, "ss": None}, "fail", "no valid result at ss"),
     ({}, {**CORNERS, "ss": math.nan}, "fail", "no valid result at ss"), ({}, {**CORNERS, "ss": 55.0}, "pass", "")],
)  # fmt: skip
def test_each_corner_asked_for_is_held_to_the_limits(
    row: dict[str, Any], by_corner: dict[str, float | None], status: str, reason: str
) -> None:
    check = one({"min": 55.0, **row}, value=60.0, by_corner=by_corner)
    assert check.status == status
    assert reason in check.detail
    again = VerifyReport.from_dict(json.loads(json.dumps(VerifyReport((check,), {}, "t", "d").to_dict())))
    assert again.checks == (check,)


def test_margin_is_that_of_the_worst_corner() -> None:
    check = one({"min": 50.0}, value=60.0, by_corner=CORNERS)
    assert (check.worst_corner, check.margin, check.value) == ("ss", 2.0, 60.0)


def test_report_survives_its_file_format() -> None:
    worst = Worst("r_line 2 ohm", die=3, input=17, deck="decks/a.cir", replay="analog-deq replay decks/a.cir")
    checks = (
        one({"max": 0.2, "judge": "interval"}, value=0.1, interval=(0.05, 0.15), worst=worst),
        one({"severity": "info"}, value=math.nan),
        *judge([], limits(max=1), TODAY),
    )
    provenance = {"seed": np.int64(3), "folder": Path("runs/verify"), "inputs": {"design": "ab12"}, "bad": math.nan}
    report = VerifyReport(checks, provenance, "Sign-off", "digits_n16", {"images": 200})
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["schema"] == "analog_deq.verify_report/2"
    assert data["checks"][0]["limit"] == {"min": None, "typ": None, "max": 0.2}
    assert data["checks"][0]["worst"] == {
        "condition": "r_line 2 ohm", "corner": "", "die": 3, "input": 17, "deck": "decks/a.cir",
    }  # fmt: skip
    assert data["checks"][0]["replay"] == worst.replay
    assert data["provenance"] == {"seed": 3, "folder": "runs/verify", "inputs": {"design": "ab12"}, "bad": None}
    again = VerifyReport.from_dict(data)
    assert again.checks == checks
    assert again.to_dict() == data


def test_report_that_was_altered_or_is_foreign_is_refused() -> None:
    data = VerifyReport((one(FAIL, value=0.5),), {}, "t", "d").to_dict()
    for change in ({"verdict": "pass"}, {"schema": "analog_deq.verify_report/1"}, {"checks": [{"id": "x"}]}):
        with pytest.raises(SchemaError):
            VerifyReport.from_dict(data | change)
    data["checks"][0]["status"] = "fine"
    with pytest.raises(SchemaError, match="fine"):
        VerifyReport.from_dict(data)
    with pytest.raises(ValueError, match=r"provenance\.when"):
        VerifyReport((), {"when": object()}, "t", "d").to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [("schema = 2\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmax=1", "schema"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nseverity='error'", "needs min or max"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmax=1\ntyp=2", "must be allowed"),
     ("schema = 1\n[campaign]\ncorners='hot'\n[[check]]\nid='a.b'\nquantity='q'\nunit=''", "corners"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmax=1\nwaiver={reason='r',by='b'}", "expires"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmin=2\nmax=1", "swap"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmaximum=1", "maximum"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmax=nan", "max"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit=''\nmin=90\njudge='yield'", "unit"),
     ("schema = 1\n[[check]]\nid='a.b'\nquantity='q'\nunit='%'\nmin=100\njudge='yield'", "no finite sample"),
     ("schema = 1\n" + 2 * "[[check]]\nid='a.b'\nquantity='q'\nunit='%'\nmin=1\n", "more than once"),
     ("schema = 1\ncheck = []", "check"), ("schema = ", "TOML")],
)  # fmt: skip
def test_wrong_limits_file_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_limits(path)
    assert "mine.toml" in str(caught.value)


def test_default_limits_hold_what_the_product_must_reach() -> None:
    rows: dict[str, LimitCheck] = {c.id: c for c in read_limits(DEFAULT).check}
    decided = {name: row.max for name, row in rows.items() if row.max is not None and row.severity == "error"}
    must = {
        "net.fixed_point_err": 0.2, "net.fixed_point_max": 0.5, "net.residual": 0.01, "net.anchor_err": 0.01,
        "net.gamma": 0.95, "net.acc_drop": 1, "net.settle_err": 5, "net.settle_end": 0.01, "net.noise_ratio": 1.1,
        "fit.residual_max": 0.1, "fit.extrapolation": 0.1, "run.failed": 0, "run.numeric": 0.05,
        "net.die_fixed_point_err": 0.3, "net.settle_previous_err": 5, "net.unique_fp": 1, "net.oscillation": 0,
        "net.latch_up": 0, "net.trajectory_err": 0.5,
    }  # fmt: skip
    assert must.items() <= decided.items()
    assert (rows["net.class_agreement"].min, rows["net.class_agreement"].judge) == (98, "yield")
    assert (rows["net.yield_mismatch"].min, rows["net.yield_mismatch"].judge) == (90, "yield")
    assert rows["net.converged"].min == 100


def test_nothing_measured_fails_the_default_sign_off() -> None:
    report = VerifyReport(judge([], read_limits(DEFAULT), TODAY), {}, "t", "d")
    assert report.exit_code() == 1
    assert not [c for c in report.checks if c.status == "pass"]
