"""A ``quantities`` table summed up: over corners, over dies, and quantity against quantity.

Every function returns one tidy row per (quantity, at) or pair of them, in datasheet order. A row that is no number is
counted by what it is: ``failed`` (no valid simulation), ``undefined`` (measured, and does not exist) or
``not_modelled``. A row that should be there and is not counts as failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analog_deq.characterise.blocks import DIE, NOMINAL
from analog_deq.characterise.measurement import NOT_MODELLED, UNDEFINED
from analog_deq.records import OK
from analog_deq.statistics import clopper_pearson, mean_interval, normality, sd_interval

FAILED = "failed"
NO_ROW = f"{FAILED}: no row"
STILL = 1e-5
"""Range over dies, relative to the largest magnitude, that the tolerances of the simulator explain."""
FLOORS = {"dB": 1e-6, "deg": 1e-6, "%": 1e-6, "%FS": 1e-6, "1": 1e-9}
"""Range that those tolerances explain of a quantity which may be 0, by unit."""
NO_SPREAD = f"{NOT_MODELLED}: the dies agree to {STILL:g}, no mismatch parameter moves it"
KEY = ["quantity", "at"]
CORNER_COLUMNS = [
    *KEY, "unit", "typical", "typical_status", "corners", "n", "low", "low_corner", "high", "high_corner", "worst",
    "worst_corner", "failed", "undefined", "not_modelled", "missed", "status",
]  # fmt: skip
DIE_COLUMNS = [
    *KEY, "unit", "corner", "dies", "n", "mean", "mean_low", "mean_high", "sd", "sd_low", "sd_high", "normal_p", "low",
    "low_die", "high", "high_die", "valid_low", "valid_high", "failed", "undefined", "not_modelled", "status",
]  # fmt: skip


def outcome(status: str) -> str:
    """``ok``, ``not modelled``, ``undefined`` or ``failed``: what the status of a row amounts to.

    >>> outcome("not modelled: no supply pins"), outcome("convergence: no solution")
    ('not modelled', 'failed')
    """
    kind = status.split(":", 1)[0]
    return kind if kind in {OK, NOT_MODELLED, UNDEFINED} else FAILED


def tidy(quantities: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``outcome``, and a refusal of a whole measurement given to each condition it covers.

    A measurement that could not be simulated leaves one row per quantity with an empty ``at``. Where other rows of the
    quantity have conditions and this copy has none, that row stands for all of them.
    """
    table = quantities.assign(outcome=quantities["status"].map(outcome))
    conditions = table.loc[table["at"] != "", KEY].drop_duplicates()
    blank = (table["at"] == "") & table["quantity"].isin(conditions["quantity"])
    genuine = table.loc[blank & (table["outcome"] == OK), "quantity"]
    copy = ["corner", "variant", "die", "quantity"]
    bare = ~pd.MultiIndex.from_frame(table[copy]).isin(pd.MultiIndex.from_frame(table.loc[table["at"] != "", copy]))
    refused = blank & bare & ~table["quantity"].isin(genuine)
    spread = table[refused].drop(columns="at").reset_index().merge(conditions, on="quantity").set_index("index")
    return pd.concat([table[~refused], spread[table.columns]]).sort_index(kind="stable")


def _counts(rows: pd.DataFrame, expected: int) -> dict[str, int]:
    kinds = rows["outcome"].value_counts()
    counts = {name: int(kinds.get(kind, 0)) for name, kind in
              {"failed": FAILED, "undefined": UNDEFINED, "not_modelled": NOT_MODELLED}.items()}  # fmt: skip
    counts["failed"] += expected - len(rows)
    return counts


def _reason(rows: pd.DataFrame, expected: int) -> str:
    """The most frequent status that is not ok, or that rows are missing; empty when all are ok."""
    bad = rows.loc[rows["outcome"] != OK, "status"]
    if len(bad):
        return str(bad.value_counts().index[0])
    return f"{FAILED}: {expected - len(rows)} rows are missing" if len(rows) < expected else OK


def over_corners(quantities: pd.DataFrame, worse: Mapping[str, str]) -> pd.DataFrame:
    """The nominal cell over corners; ``worse`` maps a quantity to ``low``, ``high`` or ``magnitude``.

    Columns: ``quantity, at, unit``; ``typical`` (value at the table's first corner), ``typical_status``; ``corners``
    (how many were asked), ``n`` (how many gave a number); ``low, low_corner, high, high_corner``; ``worst,
    worst_corner`` (the bad end, by name); ``failed, undefined, not_modelled`` (counts); ``missed`` (names of the
    corners that failed or are undefined, separated by commas); ``status`` (ok when every corner gave a number, else the
    most frequent reason).
    """
    table = tidy(quantities)
    nominal = table[table["variant"] == NOMINAL]
    corners = list(dict.fromkeys(nominal["corner"]))
    found = []
    for (quantity, at), rows in nominal.groupby(KEY, sort=False):
        valid = rows[rows["outcome"] == OK]
        typical = rows[rows["corner"] == corners[0]]
        ends = _ends(valid["corner"].to_numpy(), valid["value"].to_numpy(), worse[str(quantity)])
        fine = set(rows.loc[rows["outcome"].isin([OK, NOT_MODELLED]), "corner"])
        found.append({
            "quantity": quantity, "at": at, "unit": rows["unit"].iloc[0],
            "typical": float(typical["value"].iloc[0]) if len(typical) else math.nan,
            "typical_status": typical["status"].iloc[0] if len(typical) else NO_ROW,
            "corners": len(corners), "n": len(valid), **ends, **_counts(rows, len(corners)),
            "missed": ", ".join(c for c in corners if c not in fine), "status": _reason(rows, len(corners)),
        })  # fmt: skip
    return pd.DataFrame(found, columns=CORNER_COLUMNS)


def _ends(corners: np.ndarray, values: np.ndarray, worse: str) -> dict[str, Any]:
    if not len(values):
        names = ("low", "high", "worst")
        return {**dict.fromkeys(names, math.nan), **{f"{name}_corner": "" for name in names}}
    places = {"low": np.argmin(values), "high": np.argmax(values), "magnitude": np.argmax(np.abs(values))}
    places = {"low": places["low"], "high": places["high"], "worst": places[worse]}
    ends: dict[str, Any] = {name: float(values[k]) for name, k in places.items()}
    return {**ends, **{f"{name}_corner": str(corners[k]) for name, k in places.items()}}


def over_dies(quantities: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Spread over dies, at the corner they were simulated at.

    Columns: ``quantity, at, unit, corner``; ``dies`` (asked), ``n`` (gave a number); ``mean, mean_low, mean_high``
    (Student t), ``sd, sd_low, sd_high`` (chi-square, for a normal quantity), ``normal_p`` (of Shapiro and Wilk's
    test of normality, NaN below 20 dies); ``low, low_die, high, high_die`` (extremes; the dies rerun alone);
    ``valid_low, valid_high`` (exact interval of the share of dies that give a number); ``failed, undefined,
    not_modelled`` (counts); ``status``: ok, or why there is no spread. A spread of nothing is ``not modelled``.
    """
    table = tidy(quantities)
    drawn = table[table["variant"] == DIE]
    asked = drawn.groupby("corner")["die"].nunique()
    found = []
    for (corner, quantity, at), rows in drawn.groupby(["corner", *KEY], sort=False):
        dies = int(asked[str(corner)])
        valid = rows[rows["outcome"] == OK]
        values = valid["value"].to_numpy(dtype=float)
        counts = _counts(rows, dies)
        share = (math.nan, math.nan) if counts["not_modelled"] == dies else clopper_pearson(len(values), dies)
        found.append({
            "quantity": quantity, "at": at, "unit": rows["unit"].iloc[0], "corner": corner, "dies": dies,
            "n": len(values), **_spread(valid["die"].to_numpy(), values, rows["unit"].iloc[0], confidence),
            "valid_low": share[0], "valid_high": share[1], **counts, "status": _spread_status(values, rows, dies),
        })  # fmt: skip
    return pd.DataFrame(found, columns=DIE_COLUMNS)


def varies(values: np.ndarray, unit: str = "") -> bool:
    """Whether the range of some numbers is more than the simulator's tolerances."""
    return len(values) > 1 and float(np.ptp(values)) > max(STILL * float(np.max(np.abs(values))), FLOORS.get(unit, 0.0))


def _spread(dies: np.ndarray, values: np.ndarray, unit: str, confidence: float) -> dict[str, Any]:
    names = ("mean", "mean_low", "mean_high", "sd", "sd_low", "sd_high", "normal_p", "low", "high")
    row: dict[str, Any] = {**dict.fromkeys(names, math.nan), "low_die": -1, "high_die": -1}
    if not len(values):
        return row
    row |= {"mean": float(np.mean(values)), "low": float(np.min(values)), "high": float(np.max(values))}
    row |= {"low_die": int(dies[np.argmin(values)]), "high_die": int(dies[np.argmax(values)])}
    if varies(values, unit):
        row["mean_low"], row["mean_high"] = mean_interval(values, confidence)
        row["sd"] = float(np.std(values, ddof=1))
        row["sd_low"], row["sd_high"] = sd_interval(values, confidence)
        if (tested := normality(values)) is not None:
            row["normal_p"] = tested.p_value
    return row


def _spread_status(values: np.ndarray, rows: pd.DataFrame, dies: int) -> str:
    if varies(values, rows["unit"].iloc[0]):
        return OK
    if not len(values):
        return _reason(rows, dies)
    return NO_SPREAD if len(values) > 1 else f"{UNDEFINED}: a spread needs two valid dies"


def die_values(quantities: pd.DataFrame) -> pd.DataFrame:
    """Values of the dies: a row per die, a column per (quantity, at); NaN where a die gave no number."""
    table = tidy(quantities)
    drawn = table[table["variant"] == DIE]
    order = list(dict.fromkeys(zip(drawn["quantity"], drawn["at"], strict=True)))
    return (
        drawn.set_index(["die", *KEY])["value"]
        .unstack(KEY)
        .reindex(columns=pd.MultiIndex.from_tuples(order, names=KEY))
    )


def correlations(quantities: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Pearson's correlation over dies of each pair of quantities that vary, from the dies valid in both.

    Columns: ``quantity_a, at_a, quantity_b, at_b``; ``n`` (dies valid in both), ``r``; ``r_low, r_high`` (Fisher's z,
    NaN below 4 dies). Each pair once. ``die_values(...).corr()`` is the same as a square matrix.
    """
    values = die_values(quantities)
    units = dict(zip(quantities["quantity"], quantities["unit"], strict=True))
    values = values[[c for c in values.columns if varies(values[c].dropna().to_numpy(), units[c[0]])]]
    names, valid = list(values.columns), values.notna().to_numpy(dtype=float)
    n, r = valid.T @ valid, values.corr(min_periods=3).to_numpy()
    quantile = float(stats.norm.ppf(0.5 + confidence / 2))
    found = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            half = quantile / math.sqrt(n[a, b] - 3) if n[a, b] > 3 else math.nan
            # a correlation of 1 within rounding has no finite z
            z = math.atanh(max(-1 + 1e-15, min(1 - 1e-15, r[a, b])))
            found.append((*names[a], *names[b], int(n[a, b]), r[a, b], math.tanh(z - half), math.tanh(z + half)))
    return pd.DataFrame(found, columns=["quantity_a", "at_a", "quantity_b", "at_b", "n", "r", "r_low", "r_high"])
