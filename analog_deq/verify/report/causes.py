"""What to fix first: the report's table of causes and its drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analog_deq.attribution.costs import Attribution, Cost, signed_root
from analog_deq.verify.found import Drawing, Section
from analog_deq.verify.removal import OK, Removal
from analog_deq.verify.report.svg import INK, PROXY, SPICE, house_style, new_figure, to_svg

Removals = dict[tuple[str, str], Removal]
TITLE = "What to fix first, and what it buys"
COLUMNS = (
    "Fix", "Cause", "Costs, %FS (95 %)", "Left without, %FS", "Points (95 %)",
    "Switched off buys, %FS: proxy / ngspice", "Stated error", "What to do",
)  # fmt: skip
GUIDE_FS = 1e-3
"""Costs below this are shown as such."""


def fix_section(costs: Attribution, removals: Sequence[Removal]) -> Section:
    """Ranked rows, a cause each: those software does not promise first, then those training already works with."""
    by_name: Removals = {(r.group, r.cause): r for r in removals}
    rows = [_row(str(k + 1), cost, costs, by_name) for k, cost in enumerate(costs.to_fix)]
    rows += [_row("trained in", cost, None, by_name) for cost in costs.known]
    return Section("attribution", TITLE, summary(costs), COLUMNS, tuple(rows))


def summary(costs: Attribution) -> str:
    """The sentence a designer reads first."""
    first, *others = costs.to_fix
    text = (
        f"Fix {first.cause.name} first ({first.cause.what}): it costs {_fs(first.share_fs)} of the "
        f"{_fs(costs.delivered_fs)} %FS by which a state that is read differs from what software promises (RMS); "
        f"{_fs(costs.left_without(first))} %FS would be left. "
    )
    close = [c.cause.name for c in others if c.high[0] > first.low[0] and c.share[0] > first.share[0] / 2]
    if close:
        text += f"With {first.n} dies it is not told apart from {', '.join(close)}. "
    telling = [c.cause.name for c in costs.to_fix if c.low[1] > 0 and math.isfinite(c.low[1])]
    text += (
        f"Accuracy that the samples can show is lost to {', '.join(telling)}. "
        if telling
        else "No cause costs accuracy that these samples can show. "
    )
    if costs.untrimmed_fs is not None:
        die = costs.group("die")
        trimmed = "" if die is None else f" in place of {_fs(die.total_fs)}"
        text += f"Without the trim, the dies would be {_fs(costs.untrimmed_fs)} %FS off{trimmed}. "
    return text + (
        "Shares add up in the square. Rows marked 'trained in' are measured against ideal mathematics: training has "
        "made the weights fit them, so removing one without training again may add error."
    )


def _row(place: str, cost: Cost, costs: Attribution | None, removals: Removals) -> tuple[str, ...]:
    removal = removals.get((cost.cause.group, cost.cause.name))
    both, stated = "digital" if cost.cause.name == "ADC" else "-", ""
    if cost.cause.group == "model":
        both = "measured"
    elif removal is not None and removal.status != OK:
        both = removal.status
    elif removal is not None:
        pair, note = (removal.buys_proxy, removal.buys_spice), ""
        if not np.isfinite(pair).all():
            pair, note = (removal.moves_proxy, removal.moves_spice), " (how far states move)"
        both = " / ".join(f"{value:.3g}" if abs(value) >= GUIDE_FS else "0" for value in pair) + note
        stated = f"±{removal.stated_fs:.2g}" + ("" if removal.agrees else ", beyond it")
    low, high = cost.interval_fs
    return (
        place, cost.cause.name, f"{_fs(cost.share_fs)} ({_fs(low)} to {_fs(high)})",
        "" if costs is None else _fs(costs.left_without(cost)),
        f"{cost.points:.2g} ({cost.low[1]:.2g} to {cost.high[1]:.2g})", both, stated, cost.cause.fix,
    )  # fmt: skip


def _fs(value: float) -> str:
    return f"< {GUIDE_FS:g}" if abs(value) < GUIDE_FS else f"{value:.3g}"


def draw_causes(costs: Attribution, removals: Sequence[Removal]) -> Drawing:
    """Bars of each cause's share with its interval, and how far ngspice's states move when it is switched off."""
    svg, caption = _draw(costs, removals)
    return Drawing("attribution", TITLE, svg, caption)


@house_style
def _draw(costs: Attribution, removals: Sequence[Removal]) -> tuple[str, str]:
    shown = [(cost, PROXY) for cost in costs.to_fix] + [(cost, INK) for cost in costs.known]
    figure, (axis,) = new_figure(0.9 + 0.24 * len(shown))
    moved = {(r.group, r.cause): r.moves_spice for r in removals if r.status == OK}
    place = np.arange(len(shown))[::-1]
    for y, (cost, colour) in zip(place, shown, strict=True):
        low, high = cost.interval_fs
        faint = 0.85 if colour != INK else 0.3
        axis.barh(y, cost.share_fs, 0.62, color=colour, alpha=faint)
        if np.isfinite([low, high]).all():
            axis.plot([low, high], [y, y], color=INK, linewidth=1)
        spice = moved.get((cost.cause.group, cost.cause.name))
        if spice is not None:
            axis.plot(spice, y, "o", markersize=4.5, color=SPICE)
    axis.plot([], [], "o", markersize=4.5, color=SPICE, label="moved in ngspice")
    axis.barh([0], [0], color=PROXY, alpha=0.85, label="share")
    if costs.known:
        axis.barh([0], [0], color=INK, alpha=0.3, label="share, trained in")
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(place, [cost.cause.name for cost, _ in shown])
    axis.yaxis.set_tick_params(length=0)
    axis.set_ylim(-0.6, len(shown) - 0.4)
    axis.set_xlabel("state error (%FS, RMS)")
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.2, columnspacing=1.2)
    caption = (
        "Root of each cause's share of the mean squared state error, on the proxy, with 95 % intervals over dies or "
        "inputs; a negative share takes error away. Dots: how far ngspice's states move, RMS, when the cause is "
        "switched off in the netlist. "
        + "; ".join(
            f"{g.group}: {_fs(signed_root(g.total_fs**2))} %FS in all, against {g.against}" for g in costs.groups
        )
        + "."
    )
    return to_svg(figure, "attribution", caption), caption
