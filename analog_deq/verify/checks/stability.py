"""The stability margin: poles of the linearised network, every parasitic one included, at its equilibria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.latency import modal_rate
from analog_deq.records import OK, Deck
from analog_deq.verify.dies import DieResult, draw_die
from analog_deq.verify.found import Found, Section
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.poles import FIT_LIMIT, Poles, poles
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement, Worst

Array = np.ndarray
NAME = "net.stability_margin"
SMALL, LARGE = (24, 4), (12, 3)
"""Frequencies a decade and decades, from an eighth of 1 / (2 pi tau), of up to LARGE_STATES states and of more: a
response has N^2 entries, and a solve costs as much. With 128 states both gave the margin to 11 digits."""
LARGE_STATES = 64
FIRST_TOP = 4.0
"""Top of the first band in units of the slowest neuron's 1 / tau; loops of gain below 1 have slow poles below 2."""
STATES_SOLVED = 128
"""Images times states that the nominal circuit is linearised at; the response has N^2 entries."""
DIES = 2
ERROR_SHARE = 0.05
"""Largest error of a margin, as a share of it, that counts as a result."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Linearised:
    """The poles at one image on the nominal circuit (die None) or a die; None, with the reason, where they failed."""

    die: int | None
    image: int
    status: str
    poles: Poles | None
    proxy_per_s: float
    deck: Deck


@dataclass(frozen=True, slots=True)
class Stability:
    """-max Re of the poles, the worst of a few images and dies."""

    @property
    def ids(self) -> tuple[str, ...]:
        return (NAME,)

    def measure(self, run: SheetRun) -> Found:
        """The images whose poles the proxy expects slowest and some others; the dies furthest from nominal.

        A response that ngspice does not give, or that no fit explains, is a failed sample.
        """
        samples = linearise(run)
        good = [s for s in samples if s.poles is not None]
        n, lost = len(samples), len(samples) - len(good)
        if not good:
            found = Measurement(NAME, None, "1/s", n, detail=samples[0].status if samples else "no equilibrium",
                                failed_samples=lost)  # fmt: skip
            return Found((found,), {"stability": _table(samples)}, simulated=n, failed=lost)
        worst = min(good, key=lambda s: s.poles.margin_per_s if s.poles else 0.0)
        assert worst.poles is not None, "only those with poles are good"
        margin, error = worst.poles.margin_per_s, worst.poles.margin_error_per_s
        ringing = abs(worst.poles.value[0].imag)
        detail = (
            f"slowest pole {-margin:.6g}" + (f" +- j{ringing:.4g}" if ringing > 0 else "")
            + f" 1/s with an error of {error:.1e}, the proxy's {-worst.proxy_per_s:.6g}; axis covered to "
            f"{worst.poles.covered_per_s / (2 * np.pi):.3g} Hz"
        )  # fmt: skip
        where = "nominal" if worst.die is None else "mismatch die"
        measured = Measurement(
            NAME, margin, "1/s", n, (margin - error, margin + error), Worst(where, worst.die, worst.image, "response"),
            detail, lost,
        )  # fmt: skip
        tables = {"stability": _table(samples), "poles": _poles_table(samples)}
        decks = {"response": worst.deck}
        return Found((measured,), tables, (_section(samples),), decks=decks, simulated=n, failed=lost)


def linearise(run: SheetRun) -> list[Linearised]:
    """Poles at the chosen images of the nominal circuit, and of the chosen dies at the slowest of them."""
    usable = np.flatnonzero(run.equilibria.ok)
    if not len(usable):
        return []
    rates = modal_rate(run.model.w_state, run.model.act.slope(run.solved.h), run.model.tau_s, modes=1).numpy()
    count = max(1, min(len(usable), STATES_SOLVED // run.network.states))
    slowest = usable[np.argsort(rates[usable])]
    rng = generator(run.design.seed, Stream.DYNAMICS, 2)
    others = rng.permutation(np.setdiff1d(usable, slowest[: (count + 1) // 2]))[: count // 2]
    asked: list[tuple[int | None, int, LoweredNetwork]] = [
        (None, int(i), run.network) for i in [*slowest[: (count + 1) // 2], *others]
    ]
    if count > 1:
        for die in _far_dies(run):
            network = replace(draw_die(run.network, die.die), trim_a=die.trim_a)
            asked.append((die.die, int(slowest[0]), network))
    run.progress.note(f"small-signal responses of {len(asked)} equilibria")
    tau = float(run.model.tau_s.max())
    start_hz = 10.0 ** round(np.log10(1 / (2 * np.pi * tau) / 8))
    per_decade, decades = SMALL if run.network.states <= LARGE_STATES else LARGE
    guess, flat = run.solved.h.numpy(), run.flat or not run.proxy.synapse.linear
    decks = [
        network.responses(
            run.inputs[image], guess[image], start_hz, start_hz * 10**decades, per_decade,
            flat=flat or bool(network.errors),
        )
        for _, image, network in asked
    ]  # fmt: skip
    results = []
    outcomes = run.bed.run(decks, run.progress)
    for (die_number, image, network), deck, outcome in zip(asked, decks, outcomes, strict=True):
        found, status = None, outcome.status
        if outcome.run is not None:
            names = [f"v(v{i})" for i in range(network.states)]
            response = np.stack([plot.columns(names) for plot in outcome.run.plots], axis=2)
            found, status = trusted_poles(2 * np.pi * outcome.run.plots[0].sweep, response, FIRST_TOP / tau)
        results.append(Linearised(die_number, image, status, found, float(rates[image]), deck))
    return results


def trusted_poles(omega: Array, response: Array, first_top: float) -> tuple[Poles | None, str]:
    """The poles and ``ok``, or None and why they are not believed."""
    try:
        found = poles(omega, response, first_top)
    except (ValueError, np.linalg.LinAlgError) as error:
        return None, f"poles: {error}"
    if not len(found.value):
        return None, "poles: none within the covered range, although every network has slow ones"
    if not found.fit_error <= FIT_LIMIT:
        return None, f"poles: a band is fitted to {found.fit_error:.1e} only (limit {FIT_LIMIT:g})"
    if not found.margin_error_per_s <= ERROR_SHARE * abs(found.margin_per_s):
        return (
            None,
            f"poles: the slowest, {-found.margin_per_s:.4g} 1/s, is known to {found.margin_error_per_s:.1e} only",
        )
    return found, OK


def _far_dies(run: SheetRun) -> list[DieResult]:
    """The dies whose trimmed states are furthest from the nominal circuit's."""
    nominal = run.equilibria.states.z

    def distance(die: DieResult) -> float:
        error = (die.trimmed.states.z - nominal[die.images])[die.trimmed.ok]
        return float(np.sqrt(np.nanmean(error**2))) if error.size else np.inf

    return sorted(run.dies, key=distance, reverse=True)[:DIES]


def _table(samples: Sequence[Linearised]) -> pd.DataFrame:
    nan = float("nan")
    return pd.DataFrame(
        [
            {
                "die": -1 if s.die is None else s.die, "image": s.image, "status": s.status,
                "margin_per_s": nan if s.poles is None else s.poles.margin_per_s,
                "error_per_s": nan if s.poles is None else s.poles.margin_error_per_s,
                "ringing_per_s": nan if s.poles is None else float(s.poles.value[0].imag),
                "proxy_per_s": s.proxy_per_s if s.die is None else nan,
                "fit_error": nan if s.poles is None else s.poles.fit_error,
                "covered_per_s": nan if s.poles is None else s.poles.covered_per_s,
            }
            for s in samples
        ],
        columns=["die", "image", "status", "margin_per_s", "error_per_s", "ringing_per_s", "proxy_per_s", "fit_error",
                 "covered_per_s"],
    )  # fmt: skip


def _poles_table(samples: Sequence[Linearised]) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "die": -1 if s.die is None else s.die, "image": s.image, "real_per_s": s.poles.value.real,
                "imag_per_s": s.poles.value.imag, "error_per_s": s.poles.error,
            }
        )
        for s in samples
        if s.poles is not None
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _section(samples: Sequence[Linearised]) -> Section:
    rows = []
    for s in samples:
        where = "nominal" if s.die is None else f"die {s.die}"
        if s.poles is None:
            rows.append((where, str(s.image), s.status, "-", "-"))
            continue
        shown = ", ".join(
            f"{value.real:.4g}" + (f" +- j{value.imag:.4g}" if value.imag > 1e-9 * abs(value) else "")
            for value in s.poles.value[:SHOWN]
        )
        proxy = f"{-s.proxy_per_s:.4g}" if s.die is None else "-"
        rows.append((where, str(s.image), shown, f"{s.poles.margin_error_per_s:.1e}", proxy))
    text = (
        "Poles of the linearised circuit with everything parasitic in it, from its small-signal responses in ngspice."
    )
    columns = ("circuit", "image", "slowest poles (1/s)", "error of the first", "slowest, proxy (1/s)")
    return Section("stability", "Stability", text, columns, tuple(rows))
