"""Noise sources of a neuron, from spectra at its amplifiers and at its word line."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from analog_deq.fit.forms import BOLTZMANN
from analog_deq.fit.parameters import (
    Form,
)
from analog_deq.mappings.memristor.goodness import FIT_TOP_HZ, goodness_of, span
from analog_deq.mappings.memristor.proxy import amplifier_response, open_loop
from analog_deq.mappings.memristor.spec import MemristorSpec

Array = np.ndarray


def fit_noise(
    noise: pd.DataFrame,
    response: pd.DataFrame,
    amplifier: Form,
    loop: Form,
    poles: Form,
    spec: MemristorSpec,
    kelvin: float,
) -> Form:
    """Sources: the op-amp's white input noise; white and 1/f of the pair by its slope, white of the driver.

    The pair's are quadratic in its slope d = dz/dh, from the first, third and last bias, in units of z squared per
    hertz. Held out: the other loads and biases, as the relative error of the rms from 1 kHz on.
    """
    r, gain_at = spec.r_feedback_ohm, amplifier.values["inverse_a0"]
    frequency = np.sort(noise["frequency"].unique())
    gain = open_loop(frequency, gain_at, loop.values["gbw_hz"], loop.values["f2_hz"])
    jw = 2j * np.pi * frequency
    pair, driver = (np.abs(1 / (1 + jw * poles.values[name])) ** 2 for name in ("pair_s", "driver_s"))

    def measured(load: float, bias: float, output: str) -> Array:
        f = noise[(noise["load"] == load) & (noise["bias"] == bias) & (noise["output"] == output)]
        return f.sort_values("frequency")["density"].to_numpy() ** 2

    loads = sorted(noise["load"].unique())
    biases = sorted(noise["bias"].unique())
    middle = float(noise.loc[noise["bias"] > 0, "load"].iloc[0])

    def amplifier_parts(load: float) -> tuple[Array, Array]:
        current, voltage = amplifier_response(frequency, load, gain, r, spec.c_feedback_f, spec.c_input_f)
        return np.abs(voltage) ** 2, 4 * BOLTZMANN * kelvin * r * np.abs(current) ** 2

    below = frequency <= FIT_TOP_HZ
    top, bottom = [], []
    for load in loads[0::2]:
        voltage, thermal = amplifier_parts(load)
        weight = 1 / measured(load, 0.0, "v")[below]
        top.append(voltage[below] * weight)
        bottom.append((measured(load, 0.0, "v") - thermal)[below] * weight)
    x, y = np.concatenate(top), np.concatenate(bottom)
    en2 = float(x @ y / (x @ x))

    def slope(bias: float) -> float:
        f = response[(response["signal"] == "z") & (response["bias"] == bias) & (response["load"] == middle)]
        return float(f.sort_values("frequency")["re"].iloc[0] * spec.v_unit_v / spec.z_unit_v)

    slopes = {bias: slope(bias) for bias in biases}

    def from_amplifiers(load: float, bias: float) -> Array:
        voltage, thermal = amplifier_parts(load)
        return np.asarray(2 * (en2 * voltage + thermal) * (slopes[bias] / spec.v_unit_v) ** 2 * pair * driver)

    chosen = [biases[0], biases[len(biases) // 2], biases[-1]]
    rows, target = [], []
    for k, bias in enumerate(chosen):
        seen = measured(middle, bias, "z") / spec.z_unit_v**2
        own = np.zeros((len(frequency), 2 * len(chosen) + 1))
        own[:, k], own[:, len(chosen) + k], own[:, -1] = pair * driver, pair * driver / frequency, driver
        rows.append((own / seen[:, None])[below])
        target.append(((seen - from_amplifiers(middle, bias)) / seen)[below])
    scale = np.array([1e-14] * len(chosen) + [1e-9] * len(chosen) + [1e-14])
    solution = nnls(np.concatenate(rows) * scale, np.concatenate(target))[0] * scale
    at = np.array([slopes[b] for b in chosen])
    powers = np.vander(at, 3, increasing=True)
    white, flicker = (np.linalg.solve(powers, solution[k * 3 : k * 3 + 3]) for k in (0, 1))
    values = {"en2_v2_per_hz": en2, "driver_white": float(solution[-1])}
    values |= {f"{name}_{k}": float(v[k]) for name, v in (("white", white), ("flicker", flicker)) for k in range(3)}

    def relative(load: float, bias: float, output: str) -> float:
        seen = measured(load, bias, output)
        if output == "v":
            voltage, thermal = amplifier_parts(load)
            model = en2 * voltage + thermal
        else:
            d = slopes[bias]
            own = pair * sum((white[k] + flicker[k] / frequency) * d**k for k in range(3)) + solution[-1]
            model = (from_amplifiers(load, bias) + own * driver) * spec.z_unit_v**2
        return float(abs(np.sqrt(np.trapezoid(model, frequency) / np.trapezoid(seen, frequency)) - 1))

    used = [(load, 0.0, "v") for load in loads[0::2]] + [(middle, bias, "z") for bias in chosen]
    held = [(load, 0.0, o) for load in loads[1::2] for o in "vz" if (load, o) != (middle, "z")]
    held += [(middle, bias, "z") for bias in biases if bias not in chosen]
    return Form(
        form="en through the noise gain; pair (w0 + w1 d + w2 d^2) and (f0 + f1 d + f2 d^2) / f; driver white",
        values=values, covariance=np.zeros((len(values), len(values))).tolist(),
        domain={"load_siemens": span(noise["load"]), "frequency_hz": span(noise["frequency"])},
        goodness=goodness_of(
            "noise", "relative, of the rms, worst", max(relative(*u) for u in used), max(relative(*u) for u in held),
            len(used), len(held),
        ),
    )  # fmt: skip
