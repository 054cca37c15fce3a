"""Shared by the tests of the memristor mapping: a small design, and a proxy written down instead of fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from analog_deq.fit.parameters import ConductanceSpread, Distribution, Form, Goodness, SynapseLaw
from analog_deq.mappings.memristor.proxy import MemristorProxy, PairTable
from analog_deq.spec import DesignSpec

STATES, INPUTS = 2, 3
RANGES = {"rram_cmo": (8e-6, 9e-5), "pcm": (2.5e-7, 2.5e-5)}
OTHERS = (1e-6, 4e-5)
"""Range of conductances (S) of each device here."""


def small_design(synapse: str = "resistor_synapse", r_line_ohm: float = 2.0, **family: Any) -> DesignSpec:
    """Three inputs, two states, R_F so that the largest weight is 0.8."""
    low, high = RANGES.get(synapse, OTHERS)
    family = {
        "synapse": synapse,
        "r_feedback_ohm": 0.8 / (high - low),
        "c_feedback_f": 0.2e-12,
        "offset_left": 0.1,
    } | family
    return DesignSpec.model_validate(
        {
            "schema": 1, "name": "small", "mapping": "memristor", "seed": 5,
            "sizes": {"inputs": INPUTS, "states": STATES, "outputs": 2},
            "family": family,
            "crossbar": {"g_min_siemens": low, "g_max_siemens": high, "levels": 0, "r_line_ohm": r_line_ohm},
            "verify": {"transient_window_s": 1e-6, "noise_nodes": 2},
        }
    )  # fmt: skip


def small_programmed(synapse: str = "", seed: int = 3) -> np.ndarray:
    """(2, R, N) conductances over the lower two thirds of the device's range, no two alike."""
    low, high = RANGES.get(synapse, OTHERS)
    return np.random.default_rng(seed).uniform(low, 0.67 * high, (2, INPUTS + 1 + STATES, STATES))


def written_proxy(a: float = 0.009, a0: float = 1e4) -> MemristorProxy:
    """A proxy of tanh pairs with a little of the mean in them, op-amps of gain ``a0``, devices that bend by ``a``."""
    good = Goodness(unit="", train=0, held_out=0, n_train=1, n_held_out=1, tolerance=1)

    def form(values: dict[str, float], **domain: tuple[float, float]) -> Form:
        size = len(values)
        return Form(form="", values=values, covariance=np.zeros((size, size)).tolist(), domain=domain, goodness=good)

    def spread(names: list[str], sigma: list[float]) -> Distribution:
        covariance = np.diag(np.square(sigma)).tolist()
        return Distribution(
            names=names, mean=[1.0, 1.0, 0.0, 0.0] if len(names) == 4 else [0.0] * len(names), covariance=covariance,
            mean_covariance=covariance, dies=9, failed=0, goodness=good,
        )  # fmt: skip

    h = np.linspace(-4, 4, 161)
    tables = [np.tanh(h).tolist(), (3e-3 * h * np.exp(-(h**2))).tolist(), np.zeros(161).tolist()]
    span = (1e-7, 1e-2)
    targets = [1e-6, 4e-5]
    noise = {"en2_v2_per_hz": 25e-18, "driver_white": 6e-15, "white_0": 3e-14, "white_1": 3e-14, "white_2": 0.0}
    return MemristorProxy(
        amplifier=form({"s0_v": 0.0, "inverse_a0": 1 / a0}, load_siemens=span),
        loop=form({"gbw_hz": 2e8, "f2_hz": 6e8}, load_siemens=span),
        pair=PairTable(start=-4.0, step=0.05, tables=tables, c_max=4.0, goodness=good),
        driver=form({"r_out_ohm": 10.0}, driver_load_siemens=(0.0, 1e-2)),
        poles=form({"pair_s": 4e-10, "driver_s": 3e-10}),
        noise=form(noise | {f"flicker_{k}": 0.0 for k in range(3)}, frequency_hz=(1e3, 1e11)),
        synapse=SynapseLaw(
            form="",
            start=1e-6,
            step=1e-6,
            values=[],
            read_v=0.1,
            reach_v=0.1,
            bend=0.0,
            excess_noise=0.0,
            goodness=good,
        ),
        law=form({"a": a, "b": 0.0}),
        spread=ConductanceSpread(
            form="",
            values={"mean_0": 0.0, "mean_1": 0.0, "sigma_0": 5e-7, "sigma_1": 1e-6},
            covariance=[],
            domain={"target_siemens": (1e-6, 4e-5)},
            targets=targets,
            goodness=good,
        ),
        read=form({"sigma_0": 0.01, "sigma_1": 0.01, "flicker_0": 0.0, "flicker_1": 0.0}),
        mismatch=spread(["vos_v", "r_feedback"], [1e-4, 5e-3]),
        pair_mismatch=spread(["sat", "in_scale", "in_offset", "out_offset"], [1e-2, 1e-3, 0.02, 3e-3]),
    )
