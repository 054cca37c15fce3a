"""What moves a quantity: its slope by each parameter, the share of the spread each explains, and whether that is all.

The variants ``<parameter>+`` and ``<parameter>-`` of a campaign give central differences at the typical corner. To
first order the variance over dies is the sum of (dq/dp sigma)^2 over the mismatch parameters, which are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from analog_deq.characterise.blocks import NOMINAL, parameter_steps
from analog_deq.characterise.measurement import NOT_MODELLED, UNDEFINED
from analog_deq.characterise.statistics import KEY, NO_ROW, over_dies, tidy
from analog_deq.netlists.cell import Cell
from analog_deq.records import OK
from analog_deq.units import parse_spice_number

NO_MISMATCH = f"{NOT_MODELLED}: no mismatch parameter has a step"
COLUMNS = [*KEY, "unit", "parameter", "step", "sigma", "parameter_unit", "slope", "slope_unit", "effect", "bend",
           "share", "status"]  # fmt: skip


def state_of(at: str) -> float:
    """The programmed state in siemens that ``at`` names; NaN when it names none.

    >>> round(state_of("g=40uS v=200mV"), 9)
    4e-05
    """
    words = dict(word.split("=", 1) for word in at.split() if "=" in word)
    return parse_spice_number(words["g"], at) if "g" in words else math.nan


def cell_sensitivities(quantities: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """:func:`sensitivities` of a cell's own parameters; a sigma that follows the state is taken at the row's state."""
    contract = cell.contract
    bound = cell.at(quantities["process"].iloc[0])

    def sigma(parameter: str, at: str) -> float:
        return float(bound.sigma(parameter, state_of(at))) if parameter in contract.mismatch.params else math.nan

    units = {name: p.unit for name, p in contract.params.items()}
    return sensitivities(quantities, parameter_steps(bound), units, sigma)


def sensitivities(
    quantities: pd.DataFrame,
    steps: Mapping[str, float],
    units: Mapping[str, str],
    sigma: Callable[[str, str], float],
) -> pd.DataFrame:
    """Slopes at the table's first corner.

    ``sigma(parameter, at)`` is by how much the variants moved a mismatch parameter, NaN for any other, which they moved
    by ``steps``. Columns: ``quantity, at, unit, parameter``; ``step`` and ``sigma`` (in ``parameter_unit``); ``slope``
    = (q+ - q-) / (2 step) in ``slope_unit``; of mismatch parameters ``effect`` = slope sigma and ``bend`` =
    (q+ + q-) / 2 - q, the odd and even change of q by one sigma, and ``share`` of the variance, NaN unless each
    of them has its effect; ``status``: ok, or why one of the two variants gave no number.
    """
    table = tidy(quantities)
    table = table[table["corner"] == quantities["corner"].iloc[0]]
    nominal = table.loc[table["variant"] == NOMINAL, [*KEY, "unit", "value"]]
    parts = []
    for parameter, step in steps.items():
        part = nominal
        for sign, name in (("+", "plus"), ("-", "minus")):
            moved = table[table["variant"] == f"{parameter}{sign}"].set_index(KEY)[["value", "status"]]
            part = part.join(moved.add_suffix(f"_{name}"), on=KEY)
        up, down = part["status_plus"].fillna(NO_ROW), part["status_minus"].fillna(NO_ROW)
        one = np.array([sigma(parameter, at) for at in part["at"]], dtype=float)
        drawn, moves = np.isfinite(one), np.where(np.isfinite(one), one, step)
        odd, even = part["value_plus"] - part["value_minus"], part["value_plus"] + part["value_minus"]
        parts.append(
            part.assign(
                parameter=parameter,
                step=moves,
                sigma=one,
                parameter_unit=units[parameter],
                slope=(odd / (2 * moves)).where(moves > 0),
                slope_unit=[_per(unit, units[parameter]) for unit in part["unit"]],
                effect=(odd / 2).where(drawn),
                bend=(even / 2 - part["value"]).where(drawn),
                share=math.nan,
                status=up.where(up != OK, down),
            )[COLUMNS]
        )
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    result = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
    variance = result.loc[result["sigma"].notna(), KEY].assign(power=result["effect"] ** 2)
    groups = variance.groupby(KEY)["power"]
    total, complete = groups.transform("sum"), groups.transform("count") == groups.transform("size")
    result["share"] = (variance["power"] / total).where(complete & (total > 0))
    return result


def _per(unit: str, parameter_unit: str) -> str:
    if parameter_unit in {"", "1"}:
        return unit
    return f"{unit}/({parameter_unit})" if "/" in parameter_unit else f"{unit}/{parameter_unit}"


def predicted_spread(slopes: pd.DataFrame, quantities: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The spread over dies that the slopes predict, beside the one the dies show.

    Columns: ``quantity, at, unit``; ``predicted_sd`` = sqrt(sum effect^2) and ``predicted_shift`` = sum bend, of the
    mean from the nominal value; ``n, sd, sd_low, sd_high`` of :func:`over_dies`; ``ratio`` = sd / predicted_sd;
    ``inside``: whether the prediction lies in the interval; ``status``: ok, or which of the two is missing and why.
    """
    spread = over_dies(quantities, confidence)
    sampled = spread[[*KEY, "n", "sd", "sd_low", "sd_high", "status"]].rename(columns={"status": "sampled"})
    drawn = slopes[slopes["sigma"].notna()].assign(power=lambda rows: rows["effect"] ** 2)
    groups = drawn.groupby(KEY)
    whole = groups["power"].count() == groups.size()
    predicted = pd.DataFrame(
        {
            "predicted_sd": np.sqrt(groups["power"].sum()).where(whole),
            "predicted_shift": groups["bend"].sum(min_count=1).where(whole),
            "why": groups["status"].agg(lambda s: next((x for x in s if x != OK), OK)),
        }
    )
    result = slopes[[*KEY, "unit"]].drop_duplicates(KEY).join(predicted, on=KEY).merge(sampled, on=KEY, how="left")
    why = result["why"].fillna(NO_MISMATCH)
    result["n"] = result["n"].fillna(0).astype(int)
    result = result.astype(dict.fromkeys(["predicted_sd", "predicted_shift", "sd", "sd_low", "sd_high"], float))
    result["ratio"] = (result["sd"] / result["predicted_sd"]).where(result["predicted_sd"] > 0)
    result["inside"] = result["predicted_sd"].between(result["sd_low"], result["sd_high"])
    result["status"] = why.where(why != OK, result["sampled"].fillna(f"{UNDEFINED}: no dies were simulated"))
    return result.drop(columns=["why", "sampled"])
