"""Draw the figures of a report: one pure function a figure, from its record to an SVG string and a caption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from analog_deq.statistics import clopper_pearson, clopper_pearson_lower, dies_needed
from analog_deq.units import engineering
from analog_deq.verify.found import Drawing
from analog_deq.verify.report.figures import (
    Array,
    DieScores,
    FixedPointScatter,
    NoiseSpectrum,
    OutputScatter,
    ReportFigures,
    ScoreLadder,
    SettlingTrace,
    TransferCurve,
    YieldCurve,
)
from analog_deq.verify.report.svg import BAD, GOOD, INK, PROXY, SPICE, house_style, new_figure, to_svg

_MOST_POINTS = 1200
"""Points drawn in a scatter; more only make the file large."""
_DOTS: dict[str, Any] = {"marker": "o", "markersize": 2.6, "linestyle": "", "markeredgewidth": 0}
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


@house_style
def draw_settling(data: SettlingTrace) -> tuple[str, str]:
    """Waveforms of simulation and prediction above the distance of the worst node from its final value."""
    figure, (wave, strip) = new_figure(4.2, (2, 1.25))
    t_us = data.t_s * 1e6
    # The prediction lies on the waveform: thin dashes on a broad line show both.
    looks: tuple[tuple[Array, dict[str, Any]], ...] = (
        (data.z_spice, {"color": SPICE, "linewidth": 2.6, "alpha": 0.6}),
        (data.z_proxy, {"color": PROXY, "linewidth": 1.1, "linestyle": (0, (4, 5))}),
    )
    for (z, look), name in zip(looks, ("ngspice", "prediction"), strict=True):
        wave.plot(t_us, z, **look)
        wave.plot([], [], **look, label=name)
    wave.set_ylabel("z (units)")
    band = 100 * data.band_fs
    for z, look in looks:
        distance = 100 * np.max(np.abs(z - z[-1]), axis=1) / data.full_scale
        strip.plot(t_us, np.maximum(distance, band / 100), **look)
    strip.set_yscale("log")
    strip.set_ylim(band / 30, 300)
    strip.yaxis.set_major_locator(LogLocator(10, numticks=6))
    strip.yaxis.set_major_formatter(_PLAIN)
    strip.yaxis.set_minor_formatter(NullFormatter())
    strip.axhspan(band / 30, band, color=GOOD, alpha=0.18, linewidth=0)
    strip.set_ylabel("from final (%FS)")
    strip.set_xlabel("time (µs)")
    settled = "not settled inside the window"
    if data.settled_s is not None:
        settled = f"settled after {engineering(data.settled_s, 's', 3)}"
        for axes in (wave, strip):
            axes.axvline(data.settled_s * 1e6, color=INK, linewidth=0.9, linestyle=":")
        wave.plot([], [], color=INK, linewidth=0.9, linestyle=":", label=settled)
    wave.legend(loc="lower right", ncols=3, handlelength=1.8, columnspacing=1.2, bbox_to_anchor=(1, 1), borderpad=0)
    caption = (
        f"One input, {data.z_spice.shape[1]} neurons, {settled}. Lower strip: distance of the worst neuron from its "
        f"last value; the green band is the settling tolerance, ±{band:g} %FS."
    )
    return to_svg(figure, "settling", caption), caption + _left_out(data.z_spice, data.z_proxy)


@house_style
def draw_transfer(data: TransferCurve) -> tuple[str, str]:
    """The measured activation with its fit, above the misfit at points kept out of the fit."""
    figure, (curve, strip) = new_figure(3.9, (2, 1))
    order = np.argsort(data.x)
    held = order[data.held_out[order]]
    curve.plot(data.x[held], data.y[held], "o", markersize=3.2, color=SPICE, label="ngspice, held out")
    curve.plot(data.x[order], data.y_fit[order], color=PROXY, linewidth=1.2, label="fit")
    curve.set_ylabel(data.y_label)
    curve.legend(loc="upper left")
    misfit = 100 * (data.y_fit - data.y) / data.full_scale
    strip.vlines(data.x[held], 0, misfit[held], color=PROXY, linewidth=1.2)
    strip.axhline(0, color=INK, linewidth=0.8)
    strip.set_ylabel("misfit (%FS)")
    strip.set_xlabel(data.x_label)
    worst = _worst(misfit[held])
    caption = f"{held.size} of {order.size} points were kept out of the fit; their largest misfit is {worst} %FS"
    caption += f", the limit {data.limit_percent_fs:g} %FS." if data.limit_percent_fs is not None else "."
    return to_svg(figure, "transfer", caption), caption + _left_out(data.y, data.y_fit)


@house_style
def draw_noise(data: NoiseSpectrum) -> tuple[str, str]:
    """Noise density over frequency beside the integrated totals, simulated and predicted."""
    figure, (spectrum, bars) = new_figure(3.1, widths=(1.5, 1), share_x=False)
    spectrum.loglog(data.frequency_hz, data.density_spice, color=SPICE, alpha=0.8, linewidth=1.2)
    if data.density_proxy is not None:
        spectrum.loglog(data.frequency_hz, data.density_proxy, color=PROXY, linestyle=(0, (4, 3)), linewidth=1.1)
    spectrum.set_xlabel("frequency (Hz)")
    spectrum.set_ylabel("density (V/√Hz)")
    spectrum.xaxis.set_major_locator(LogLocator(100))
    spectrum.yaxis.set_major_locator(LogLocator(10, numticks=6))
    spectrum.xaxis.set_major_formatter(EngFormatter(sep=""))
    spectrum.yaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in (spectrum.xaxis, spectrum.yaxis):
        axis.set_minor_formatter(NullFormatter())
    place = np.arange(len(data.nodes))
    bars.bar(place - 0.2, data.rms_spice_v, 0.38, color=SPICE, label="ngspice")
    bars.bar(place + 0.2, data.rms_proxy_v, 0.38, color=PROXY, label="prediction")
    bars.set_xticks(place, data.nodes)
    bars.set_ylabel("total RMS (V)")
    bars.yaxis.set_major_formatter(EngFormatter(sep=""))
    bars.grid(visible=False, axis="x")
    figure.legend(loc="outside upper right", ncols=2, handlelength=1.2)
    usable = np.isfinite(data.rms_spice_v) & (data.rms_proxy_v > 0)
    ratio = data.rms_spice_v[usable] / data.rms_proxy_v[usable]
    spread = f"{ratio.min():.3f} to {ratio.max():.3f}" if ratio.size else "unknown"
    caption = f"{len(data.nodes)} output nodes of the whole network. Total noise, ngspice over prediction: {spread}."
    return to_svg(figure, "noise", caption), caption + _left_out(data.density_spice, data.rms_spice_v, data.rms_proxy_v)


@house_style
def draw_fixed_point(data: FixedPointScatter) -> tuple[str, str]:
    """Predicted against simulated resting points, above their difference."""
    figure, (scatter, strip) = new_figure(4.4, (2.1, 1))
    spice, error = data.z_spice.ravel(), 100 * (data.z_proxy - data.z_spice).ravel() / data.full_scale
    drawn = np.flatnonzero(np.isfinite(spice) & np.isfinite(error))
    images, nodes = data.z_spice.shape
    caption = f"{images} inputs × {nodes} neurons. Lower strip: prediction minus ngspice"
    if drawn.size:
        caption += f", RMS {np.sqrt(np.mean(error[drawn] ** 2)):.3g} %FS, largest {_worst(error)} %FS"
    caption += f", limit ±{data.limit_percent_fs:g} %FS." if data.limit_percent_fs is not None else "."
    if drawn.size > _MOST_POINTS:
        drawn = _thinned(drawn, error)
        caption += f" {drawn.size} of {spice.size} points are drawn, the 100 worst among them."
    low, high = float(np.min(spice[drawn], initial=0.0)), float(np.max(spice[drawn], initial=0.0))
    scatter.plot([low, high], [low, high], color=INK, linewidth=0.8, alpha=0.6)
    scatter.plot(spice[drawn], data.z_proxy.ravel()[drawn], color=SPICE, alpha=0.55, **_DOTS)
    scatter.set_ylabel("predicted z (units)")
    strip.plot(spice[drawn], error[drawn], color=PROXY, alpha=0.55, **_DOTS)
    strip.axhline(0, color=INK, linewidth=0.8)
    if data.limit_percent_fs is not None:
        for sign in (-1, 1):
            strip.axhline(sign * data.limit_percent_fs, color=BAD, linewidth=1, linestyle="--")
    strip.set_ylabel("error (%FS)")
    strip.set_xlabel("ngspice z (units)")
    return to_svg(figure, "fixed-point", caption), caption + _left_out(data.z_spice, data.z_proxy)


@house_style
def draw_answers(data: OutputScatter) -> tuple[str, str]:
    """The circuit's answer over the target, above their difference."""
    figure, (scatter, strip) = new_figure(4.4, (2.1, 1))
    error = 100 * (data.output - data.target) / data.scale
    valid = np.isfinite(error)
    relative = f"{np.sqrt(np.mean(error[valid] ** 2)):.3g} %" if valid.any() else "unknown"
    samples, outputs = data.target.shape
    caption = (
        f"{samples} samples × {outputs} outputs. Lower strip: answer minus target over the targets' RMS of "
        f"{data.scale:.3g}; its own RMS, the relative error, is {relative}, the largest {_worst(error)} %."
    )
    drawn = np.flatnonzero(valid.ravel())
    target, answer, error = data.target.ravel(), data.output.ravel(), error.ravel()
    if drawn.size > _MOST_POINTS:
        drawn = _thinned(drawn, error)
        caption += f" {drawn.size} of {target.size} points are drawn, the 100 worst among them."
    low, high = float(np.min(target[drawn], initial=0.0)), float(np.max(target[drawn], initial=0.0))
    scatter.plot([low, high], [low, high], color=INK, linewidth=0.8, alpha=0.6)
    scatter.plot(target[drawn], answer[drawn], color=SPICE, alpha=0.45, **_DOTS)
    scatter.set_ylabel("answer in ngspice")
    strip.plot(target[drawn], error[drawn], color=PROXY, alpha=0.45, **_DOTS)
    strip.axhline(0, color=INK, linewidth=0.8)
    strip.set_ylabel("error (%)")
    strip.set_xlabel("target")
    return to_svg(figure, "answers", caption), caption + _left_out(data.output)


@house_style
def draw_dies(data: DieScores) -> tuple[str, str]:
    """Histograms of the score of each die, without and with trim, over one axis with the limit."""
    rows = [("untrimmed", data.untrimmed, PROXY)]
    if data.trimmed is not None:
        rows.append(("trimmed", data.trimmed, GOOD))
    figure, axes = new_figure(0.9 + 1.25 * len(rows), (1,) * len(rows))
    marks = [data.limit, *([] if data.reference is None else [data.reference])]
    seen = np.concatenate([values[np.isfinite(values)] for _, values, _ in rows] + [np.asarray(marks)])
    low, high = float(seen.min()), float(seen.max())
    width = max((high - low) / 40, 0.25)
    # The limit is a bin edge, so that no bar mixes dies that reach it with dies that do not.
    first, last = np.floor((low - data.limit) / width), np.ceil((high - data.limit) / width)
    bins = data.limit + width * np.arange(first, last + 2)
    parts = []
    for axis, (name, values, colour) in zip(axes, rows, strict=True):
        axis.hist(values[np.isfinite(values)], bins=list(bins), color=colour, alpha=0.85)
        axis.axvline(data.limit, color=BAD, linewidth=1.3, linestyle="--", label="limit of a die")
        if data.reference is not None:
            axis.axvline(data.reference, color=INK, linewidth=1.1, linestyle=":", label="software")
        reached = int(np.sum(values <= data.limit if data.lower_is_better else values >= data.limit))
        axis.set_ylabel("dies")
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        low, high = (100 * share for share in clopper_pearson(reached, values.size))
        axis.set_title(f"{name}: {reached} of {values.size} reach the limit ({low:.1f} to {high:.1f} %)", loc="left")
        finite = values[np.isfinite(values)]
        if finite.size:
            worst = finite.max() if data.lower_is_better else finite.min()
            parts.append(f"{name} median {np.median(finite):.1f}, worst {worst:.1f} {data.unit}")
        else:
            parts.append(f"{name}: no die gave a value")
    axes[-1].set_xlabel(data.x_label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, handlelength=1.6)
    must = "must not exceed" if data.lower_is_better else "must reach"
    caption = f"{data.untrimmed.size} dies; {'; '.join(parts)}. A die {must} {data.limit:g} {data.unit}; "
    caption += "in brackets the exact 95 % interval of the share that does."
    return to_svg(figure, "dies", caption), caption + _left_out(*(values for _, values, _ in rows))


@house_style
def draw_yield(data: YieldCurve) -> tuple[str, str]:
    """Yield and its exact lower bound after each die, and how many dies the demand needs at the fails so far."""
    n, fails = data.passes.size, int(np.sum(~data.passes))
    needed = dies_needed(data.limit / 100, data.confidence, fails)
    count = np.arange(1, n + 1)
    passed = np.cumsum(data.passes)
    bound = [100 * clopper_pearson_lower(int(k), int(m), data.confidence) for k, m in zip(passed, count, strict=True)]
    figure, (axis,) = new_figure(2.7)
    axis.step(count, 100 * passed / count, where="mid", color=SPICE, linewidth=1.4, label="dies that pass")
    axis.plot(count, bound, color=PROXY, linewidth=1.4, label="lower bound")
    if needed > n:
        ahead = np.unique(np.linspace(n, needed, 40).round().astype(int))
        further = [100 * clopper_pearson_lower(int(m) - fails, int(m), data.confidence) for m in ahead]
        axis.plot(ahead, further, color=PROXY, linewidth=1.2, linestyle=":", label="if no further die fails")
    axis.axhline(data.limit, color=BAD, linewidth=1.2, linestyle="--", label="demanded")
    axis.axvline(needed, color=INK, linewidth=0.9, linestyle=":")
    axis.annotate(f"{needed}", (needed, data.limit), (3, -11), textcoords="offset points", fontsize=8.5)
    axis.set_ylim(max(0.0, 100 - 4 * (100 - data.limit)), 100 + 0.2 * (100 - data.limit))
    axis.set_xlim(0, 1.08 * max(n, needed))
    axis.set_xlabel("dies simulated")
    axis.set_ylabel("yield (%)")
    figure.legend(loc="outside upper right", ncols=4, handlelength=1.5, columnspacing=1.0)
    caption = (
        f"{n - fails} of {n} dies pass; exact one-sided {100 * data.confidence:g} % bound {bound[-1]:.2f} %, demanded "
        f"{data.limit:g} %. With {fails} failing, {needed} dies are needed."
    )
    return to_svg(figure, "yield", caption), caption


@house_style
def draw_ladder(data: ScoreLadder) -> tuple[str, str]:
    """Score of the network and of every baseline, with intervals."""
    figure, (axis,) = new_figure(0.8 + 0.32 * len(data.rungs))
    place = np.arange(len(data.rungs))[::-1]
    for y, (name, (value, low, high)) in zip(place, data.rungs.items(), strict=True):
        colour = SPICE if name in data.simulated else PROXY
        axis.plot([low, high], [y, y], color=colour, linewidth=2.2, alpha=0.6)
        axis.plot(value, y, "o", color=colour, markersize=5)
        digits = 2 if data.lower_is_better and value < 10 else 1
        text = f"{value:.{digits}f}"
        axis.annotate(text, (value, y), (0, 5), textcoords="offset points", ha="center", fontsize=8.5)
    axis.set_yticks(place, list(data.rungs))
    axis.set_ylim(-0.6, len(data.rungs) - 0.3)
    axis.yaxis.set_tick_params(length=0)
    axis.set_xlabel("accuracy (%)")
    caption = f"{data.n} test inputs; bars are 95 % intervals."
    if data.lower_is_better:
        axis.set_xscale("log")
        axis.set_xlabel("relative error (%), log scale")
        axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(_PLAIN)
        axis.xaxis.set_minor_formatter(NullFormatter())
    caption += " Blue rows are simulated in ngspice, orange rows computed." if data.simulated else ""
    return to_svg(figure, "ladder", caption), caption


_FIGURES: tuple[tuple[str, str, Callable[[Any], tuple[str, str]]], ...] = (
    ("answers", "Answer of the circuit against the target", draw_answers),
    ("fixed_point", "Resting point: prediction against simulation", draw_fixed_point),
    ("settling", "Settling of one input", draw_settling),
    ("dies", "Accuracy of each die", draw_dies),
    ("yields", "Yield, as dies were simulated", draw_yield),
    ("noise", "Output noise", draw_noise),
    ("ladder", "Accuracy, from software to circuit", draw_ladder),
    ("transfer", "Neuron curve and its fit", draw_transfer),
)
_ERROR_TITLES = {"dies": "Relative error of each die", "ladder": "Relative error, from software to circuit"}
"""Titles of the figures that show an error where others show an accuracy."""
_OPTIONAL = ("answers", "yields")


def draw_figures(figures: ReportFigures) -> tuple[Drawing, ...]:
    """Every figure of the report in page order; one without data says why instead."""
    drawn = []
    for name, title, draw in _FIGURES:
        data = getattr(figures, name)
        if getattr(data, "lower_is_better", False):
            title = _ERROR_TITLES[name]
        if data is not None:
            svg, caption = draw(data)
            how = f" {data.how.rstrip('.')}." if data.how else ""
            drawn.append(Drawing(name, title, svg, f"{caption}{how}"))
        elif name in figures.missing or name not in _OPTIONAL:
            drawn.append(Drawing(name, title, None, figures.missing.get(name, "this run did not measure it")))
    return tuple(drawn)


def _thinned(drawn: NDArray[np.int_], error: Array) -> NDArray[np.int_]:
    """``_MOST_POINTS`` of the points: the worst stay, the rest is thinned evenly, so that no strip looks too good."""
    by_error = drawn[np.argsort(np.abs(error[drawn]))]
    rest = by_error[:-100]
    return np.concatenate([rest[:: -(-rest.size // (_MOST_POINTS - 100))], by_error[-100:]])


def _worst(values: Array) -> str:
    finite = np.abs(values[np.isfinite(values)])
    return f"{finite.max():.2g}" if finite.size else "unknown"


def _left_out(*arrays: Array) -> str:
    missing = sum(int(np.sum(~np.isfinite(array))) for array in arrays)
    return f" {missing} values that are not finite are left out." if missing else ""
