"""Tables to proxy: each part on some rows, checked on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares, nnls

from analog_deq.errors import FitError
from analog_deq.fit.forms import BOLTZMANN, hermite, monotone_slopes
from analog_deq.fit.parameters import (
    ConductanceSpread,
    Distribution,
    Form,
    Goodness,
    SynapseLaw,
    check_goodness,
    least_squares_covariance,
)
from analog_deq.fit.static import split_axis
from analog_deq.mappings.memristor.proxy import MemristorProxy, PairTable, amplifier_response, open_loop
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.contract_schema import NoiseSection
from analog_deq.records import OK
from analog_deq.spec import DesignSpec

Array = np.ndarray
DEGREE = 2
"""Powers of c in the pair's tables."""
TOLERANCES = {
    "amplifier": 1e-3, "loop": 0.01, "pair": 1e-3, "driver": 1e-3, "poles": 0.02, "noise": 0.05, "synapse": 1e-4,
    "law": 1e-4, "spread": 0.01, "mismatch": 0.01, "pair_mismatch": 0.01,
}  # fmt: skip
"""Largest held-out error of each part, in the unit that its goodness names."""
FIT_TOP_HZ = 3e8
"""Poles are fitted to responses below: what a network does above is noise two decades down."""
ZERO_CELSIUS = 273.15


def fit(
    tables: Mapping[str, pd.DataFrame], design: DesignSpec, spec: MemristorSpec, device_noise: NoiseSection
) -> MemristorProxy:
    """Proxy of the valid rows; FitError when a part has none, or misses its tolerance on held-out rows."""
    valid = {name: rows[rows["status"] == OK] for name, rows in tables.items()}
    for name, rows in valid.items():
        if rows.empty:
            raise FitError(f"table {name}: every sample failed; see its status column, nothing can be fitted")
    kelvin = design.operating.temperature_celsius + ZERO_CELSIUS
    amplifier = fit_amplifier(valid["transfer"], spec)
    loop = fit_loop(valid["response"], amplifier, spec)
    pair = fit_pair(valid["transfer"], spec)
    poles = fit_poles(valid["response"])
    synapse = fit_synapse(valid["synapse"], valid["synapse_noise"], spec, kelvin)
    spread = fit_spread(valid["conductance"], synapse)
    mismatch, pair_mismatch = fit_mismatch(valid["mismatch"], tables["mismatch"], amplifier, pair, spec)
    proxy = MemristorProxy(
        amplifier=amplifier, loop=loop, pair=pair, driver=fit_driver(valid["transfer"], spec), poles=poles,
        noise=fit_noise(valid["noise"], valid["response"], amplifier, loop, poles, spec, kelvin),
        synapse=synapse, law=fit_law(valid["synapse"], spec), spread=spread,
        read=fit_read(valid["synapse_noise"], spread.targets, spec, kelvin, device_noise),
        mismatch=mismatch, pair_mismatch=pair_mismatch,
    )  # fmt: skip
    for part, goodness in proxy.goodness().items():
        check_goodness(part, goodness)
    return proxy


def fit_amplifier(transfer: pd.DataFrame, spec: MemristorSpec) -> Form:
    """``s = s0 - v / A0``; held out: every second load, as the error of v in units of h."""
    rows = transfer[transfer["driver_load"] == 0]
    train, held = _by(rows, "load")

    def columns(part: pd.DataFrame) -> tuple[Array, Array]:
        return np.concatenate([part["sp"], part["sn"]]), np.concatenate([part["vp"], part["vn"]])

    s, v = columns(train)
    matrix = np.stack([np.ones(len(s)), -v], axis=1)
    (s0, inverse), *_ = np.linalg.lstsq(matrix, s, rcond=None)
    if inverse <= 0:
        raise FitError(f"amplifier: the fitted op-amp gain is {1 / inverse:.3g}; its inputs look swapped")

    def error(part: pd.DataFrame) -> float:
        r = spec.r_feedback_ohm
        worst = 0.0
        for side, sign in (("p", 1), ("n", -1)):
            amps = (part["common"] + sign * part["drive"] / 2) * spec.v_unit_v / r
            v = (s0 * (1 / r + part["load"]) - amps) / ((1 + inverse) / r + inverse * part["load"])
            worst = max(worst, float((v - part[f"v{side}"]).abs().max()) / spec.v_unit_v)
        return worst

    return Form(
        form="s = s0 - v / a0", values={"s0_v": float(s0), "inverse_a0": float(inverse)},
        covariance=least_squares_covariance(matrix, matrix @ [s0, inverse] - s).tolist(),
        domain={"load_siemens": _span(rows["load"])},
        goodness=_goodness("amplifier", "units of h", error(train), error(held), len(train), len(held)),
    )  # fmt: skip


def fit_loop(response: pd.DataFrame, amplifier: Form, spec: MemristorSpec) -> Form:
    """Gain-bandwidth product and second pole of the op-amp, from closed-loop responses below ``FIT_TOP_HZ``."""
    rows = response[(response["signal"] == "v") & (response["bias"] == 0) & (response["frequency"] <= FIT_TOP_HZ)]
    train, held = _by(rows, "load")

    def residual(p: Array, part: pd.DataFrame) -> Array:
        gain = open_loop(part["frequency"].to_numpy(), amplifier.values["inverse_a0"], p[0] * 1e8, p[1] * 1e8)
        model, _ = amplifier_response(
            part["frequency"].to_numpy(), part["load"].to_numpy(), gain, spec.r_feedback_ohm, spec.c_feedback_f,
            spec.c_input_f,
        )  # fmt: skip
        return _parts(model - (part["re"] + 1j * part["im"]).to_numpy())

    found = least_squares(residual, [1.0, 5.0], args=(train,), x_scale=[1.0, 5.0], bounds=([1e-3, 1e-2], np.inf))
    gbw, f2 = (float(v) * 1e8 for v in found.x)
    return Form(
        form="A = 1 / (1/a0 + j f / gbw) / (1 + j f / f2)", values={"gbw_hz": gbw, "f2_hz": f2},
        covariance=(least_squares_covariance(found.jac, found.fun) * 1e16).tolist(),
        domain={"load_siemens": _span(rows["load"]), "frequency_hz": _span(rows["frequency"])},
        goodness=_goodness(
            "loop", "share of the DC gain, rms", _rms(found.fun) * 2**0.5, _rms(residual(found.x, held)) * 2**0.5,
            len(train), len(held),
        ),
    )  # fmt: skip


def fit_pair(transfer: pd.DataFrame, spec: MemristorSpec) -> PairTable:
    """Tables of z(h, c) with the driver open.

    Every second mean c, and of those every second point, is fitted; other means, points and loads are held out.
    """
    rows = transfer[transfer["driver_load"] == 0].assign(
        h=lambda f: (f["vn"] - f["vp"]) / spec.v_unit_v,
        c=lambda f: -(f["vn"] + f["vp"]) / (2 * spec.v_unit_v),
        z=lambda f: f["zp"] / spec.z_unit_v,
    )
    middle = rows.loc[rows["common"] != 0, "load"].iloc[0]
    swept = rows[rows["load"] == middle]
    commons, _ = split_axis(swept["common"])
    curves = [swept[swept["common"] == c].sort_values("h").iloc[0::2] for c in commons]
    if any(np.any(np.diff(f["z"]) <= -1e-9) for f in curves):
        raise FitError("pair: z does not rise with h; check the polarity of the activation's pins")
    reach = min(min(-f["h"].iloc[0], f["h"].iloc[-1]) for f in curves)
    grid = np.linspace(-reach, reach, len(curves[0]))
    z = np.stack([PchipInterpolator(f["h"], f["z"])(grid) for f in curves])
    means = np.stack([PchipInterpolator(f["h"], f["c"])(grid) for f in curves])
    powers = [np.vander(means[:, k], DEGREE + 1, increasing=True) for k in range(len(grid))]
    tables = np.stack([np.linalg.lstsq(p, z[:, k], rcond=None)[0] for k, p in enumerate(powers)], axis=1)
    table = PairTable(
        start=float(grid[0]), step=float(grid[1] - grid[0]), tables=tables.tolist(), c_max=spec.c_max,
        goodness=_goodness("pair", "units of z, rms", 0.0, 0.0, 1, 1),
    )  # fmt: skip
    used = pd.concat(curves).index

    def error(part: pd.DataFrame) -> float:
        inside = part[part["h"].abs() <= reach]
        model = table.activation().evaluate(*(torch.as_tensor(inside[n].to_numpy(copy=True)) for n in ("h", "c")))[0]
        return _rms(model.numpy() - inside["z"].to_numpy())

    train, held = rows.loc[used], rows.drop(index=used)
    goodness = _goodness("pair", "units of z, rms", error(train), error(held), len(train), len(held))
    return table.model_copy(update={"goodness": goodness})


def fit_driver(transfer: pd.DataFrame, spec: MemristorSpec) -> Form:
    """Output resistance, ``z_open = z (1 + r G)``; the middle load is held out."""
    loads = sorted(g for g in transfer["driver_load"].unique() if g > 0)
    if len(loads) < 2:
        raise FitError("driver: at least two driver loads are needed to fit and check its output resistance")
    neuron = transfer.loc[transfer["driver_load"] > 0, "load"].iloc[0]
    base = transfer[(transfer["load"] == neuron) & (transfer["common"] == 0) & (transfer["driver_load"] == 0)]
    unloaded = base.sort_values("drive")["zp"].to_numpy()

    def columns(chosen: Sequence[float]) -> tuple[Array, Array]:
        parts = [transfer[transfer["driver_load"] == g].sort_values("drive") for g in chosen]
        amps = np.concatenate([(p["driver_load"] * p["zp"]).to_numpy() for p in parts])
        return amps, np.concatenate([unloaded - p["zp"].to_numpy() for p in parts])

    held = [loads[len(loads) // 2]]
    amps, drop = columns([g for g in loads if g not in held])
    r = float(amps @ drop / (amps @ amps))

    def error(part: tuple[Array, Array]) -> float:
        return _rms(r * part[0] - part[1]) / spec.z_unit_v

    return Form(
        form="z = z_open / (1 + r_out G)", values={"r_out_ohm": r},
        covariance=least_squares_covariance(amps[:, None], r * amps - drop).tolist(),
        domain={"driver_load_siemens": (0.0, loads[-1])},
        goodness=_goodness(
            "driver", "units of z, rms", error((amps, drop)), error(columns(held)), len(amps), len(columns(held)[0])
        ),
    )  # fmt: skip


def fit_poles(response: pd.DataFrame) -> Form:
    """Poles of pair and driver, ``z / v = slope / (1 + j w t1) / (1 + j w t2)``; held out: other bias points."""
    rows = response[(response["signal"] == "z") & (response["frequency"] <= FIT_TOP_HZ)]
    rows = rows[rows["load"] == rows.loc[rows["bias"] > 0, "load"].iloc[0]]
    usable = sorted(rows["bias"].unique())[:3]  # a pair driven hard has no slope left to see a pole by
    train, held = (rows[rows["bias"].isin(usable[k::2])] for k in (0, 1))

    def residual(p: Array, part: pd.DataFrame) -> Array:
        found = []
        for _, f in part.groupby("bias"):
            jw = 2j * np.pi * f["frequency"].to_numpy() * 1e-9
            measured = (f["re"] + 1j * f["im"]).to_numpy() / f["re"].iloc[0]
            found.append(1 / (1 + jw * p[0]) / (1 + jw * p[1]) - measured)
        return _parts(np.concatenate(found))

    found = least_squares(residual, [0.5, 0.3], args=(train,), bounds=([1e-4, 1e-4], np.inf))
    return Form(
        form="z / v = slope / (1 + j w t_pair) / (1 + j w t_driver)",
        values={"pair_s": float(found.x[0]) * 1e-9, "driver_s": float(found.x[1]) * 1e-9},
        covariance=(least_squares_covariance(found.jac, found.fun) * 1e-18).tolist(),
        domain={"frequency_hz": _span(rows["frequency"]), "bias_h": (0.0, usable[-1])},
        goodness=_goodness(
            "poles", "share of the slope, rms", _rms(found.fun) * 2**0.5, _rms(residual(found.x, held)) * 2**0.5,
            len(train), len(held),
        ),
    )  # fmt: skip


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
        domain={"load_siemens": _span(noise["load"]), "frequency_hz": _span(noise["frequency"])},
        goodness=_goodness(
            "noise", "relative, of the rms, worst", max(relative(*u) for u in used), max(relative(*u) for u in held),
            len(used), len(held),
        ),
    )  # fmt: skip


def fit_synapse(curve: pd.DataFrame, noise: pd.DataFrame, spec: MemristorSpec, kelvin: float) -> SynapseLaw:
    """Conductance at the read voltage over the programmed one; every second level is held out."""
    z = spec.z_unit_v
    at_read = curve[np.isclose(curve["v"], z)].sort_values("g")
    g, seen = (np.array(values) for values in (at_read["g"], at_read["current"] / z))
    table = torch.as_tensor(seen[0::2].copy())
    step = float(g[2] - g[0])
    model = hermite(torch.as_tensor(g), float(g[0]), step, table, monotone_slopes(table, step))[0].numpy()
    error = np.abs(model / seen - 1)
    full = np.repeat(seen, len(curve) // len(g))
    ordered = curve.sort_values(["g", "v"], kind="stable")
    bend = float(np.max(np.abs(ordered["current"] - full * ordered["v"]) / (full * z)))
    excess = 0.0
    for _, rows in noise.groupby("g"):
        thermal = 4 * BOLTZMANN * kelvin * float(np.interp(rows["g"].iloc[0], g, seen))
        excess = max(excess, float((rows["density"] ** 2 / thermal).max()) - 1)
    return SynapseLaw(
        form="conductance at the read voltage, a monotone cubic of the programmed one", start=float(g[0]), step=step,
        values=[float(v) for v in seen[0::2]], read_v=z, reach_v=z, bend=bend, excess_noise=excess,
        goodness=_goodness(
            "synapse", "relative", float(error[0::2].max()), float(error[1::2].max()), len(g[0::2]), len(g[1::2])
        ),
    )  # fmt: skip


def fit_law(curve: pd.DataFrame, spec: MemristorSpec) -> Form:
    """``i = G v (1 + a u^2 + b u^4) / (1 + a + b)``, u = v / v_read: one law for all levels, every second held out.

    What a device carries beyond its straight line is the same share of it at every level, or this fit fails.
    """
    z = spec.z_unit_v
    at = curve[np.abs(curve["v"]) > 0.1 * z].copy()
    read = curve[np.isclose(curve["v"], z)].set_index("g")["current"]
    ratio = (at["current"] / at["v"] / (at["g"].map(read) / z)).to_numpy()
    square = (at["v"].to_numpy() / z) ** 2
    levels = sorted(at["g"].unique())
    train = at["g"].isin(levels[0::2]).to_numpy()
    # (1 + a q + b q^2) = ratio (1 + a + b): linear in a and b
    matrix = np.stack([square - ratio, square**2 - ratio], axis=1)
    target = ratio - 1
    if float(np.abs(target).max()) < TOLERANCES["law"] / 10:
        a, b = 0.0, 0.0
    else:
        a, b = (float(v) for v in np.linalg.lstsq(matrix[train], target[train], rcond=None)[0])
    error = np.abs((1 + a * square + b * square**2) / (1 + a + b) - ratio)
    return Form(
        form="i = g v (1 + a u^2 + b u^4) / (1 + a + b), u = v / v_read", values={"a": a, "b": b},
        covariance=least_squares_covariance(matrix[train], matrix[train] @ [a, b] - target[train]).tolist(),
        domain={"v": (-z, z)},
        goodness=_goodness(
            "law", "share of the current", float(error[train].max()), float(error[~train].max()), int(train.sum()),
            int((~train).sum()),
        ),
    )  # fmt: skip


def fit_spread(conductance: pd.DataFrame, synapse: SynapseLaw) -> ConductanceSpread:
    """Mean and standard deviation over dies at each target, in siemens; the other half of the dies checks them."""
    targets = sorted(float(g) for g in conductance["target"].unique())
    nominal = dict(zip(targets, synapse.seen_arrays(np.array(targets))[0], strict=True))
    values: dict[str, float] = {}
    errors, counts = [], []
    low, high = min(nominal.values()), max(nominal.values())
    for k, target in enumerate(targets):
        off = conductance.loc[conductance["target"] == target, "measured"].to_numpy() - nominal[target]
        values |= {f"mean_{k}": float(off.mean()), f"sigma_{k}": float(off.std(ddof=1))}
        counts.append(len(off))
        errors.append((off[0::2].std(ddof=1) - off[1::2].std(ddof=1)) / (high - low))
    first = values.keys()
    return ConductanceSpread(
        form="mean and sigma of the conductance's error by target", values=values,
        covariance=np.diag([values[n] ** 2 / counts[0] for n in first]).tolist(),
        domain={"target_siemens": (targets[0], targets[-1])}, targets=targets,
        goodness=_goodness(
            "spread", "share of the range, sigma of one half of the dies less the other's, rms", 0.0,
            _rms(np.array(errors)),
            counts[0] // 2, counts[0] // 2,
        ),
    )  # fmt: skip


def fit_read(
    noise: pd.DataFrame, targets: Sequence[float], spec: MemristorSpec, kelvin: float, device: NoiseSection
) -> Form:
    """Relative noise of one read by target: 1/f from 1 / (wait + read) to 1 / (2 read), and the contract's extra.

    ``flicker_k`` is the density of the relative current squared times frequency, from the lowest measured frequency,
    above the thermal floor, which the amplifiers' noise holds already.
    """
    wait = device.wait_s if spec.age_s is None else spec.age_s
    octaves = np.log((wait + device.read_s) / (2 * device.read_s))
    known, level = [], []
    for _, rows in noise.groupby("g"):
        first = rows.sort_values("frequency").iloc[0]
        floor = rows["density"].min() ** 2
        known.append(float(first["g"]))
        level.append(max(float((first["density"] ** 2 - floor) * first["frequency"]), 0.0))
    currents = np.array(known) * spec.z_unit_v
    relative = np.interp(targets, known, np.array(level) / currents**2)
    extra = 0.0 if device.extra is None else device.extra.sigma
    values = {f"sigma_{k}": float(np.sqrt(q * octaves + extra**2)) for k, q in enumerate(relative)}
    values |= {f"flicker_{k}": float(q) for k, q in enumerate(relative)}
    return Form(
        form="relative rms of one read, and its 1/f density at 1 Hz, by target", values=values,
        covariance=np.zeros((len(values), len(values))).tolist(),
        domain={"target_siemens": (min(targets), max(targets)), "wait_s": (wait, wait)},
        goodness=Goodness(unit="taken over, not fitted", train=0, held_out=0, n_train=0, n_held_out=0, tolerance=1),
    )  # fmt: skip


AMPLIFIER_PARAMETERS = ("vos_v", "r_feedback")
PAIR_PARAMETERS = ("sat", "in_scale", "in_offset", "out_offset")


def fit_mismatch(
    rows: pd.DataFrame, measured: pd.DataFrame, amplifier: Form, pair: PairTable, spec: MemristorSpec
) -> tuple[Distribution, Distribution]:
    """Distributions over dies of an amplifier's offset and R_F, and of a pair with its driver.

    Held out: every second point of each die's curve, in units of z; of an amplifier in units of h.
    """
    s0, inverse = amplifier.values["s0_v"], amplifier.values["inverse_a0"]
    act = pair.activation()
    own, pairs = [], []
    residual: dict[str, list[Array]] = {"own_train": [], "own": [], "pair_train": [], "pair": []}
    for _, f in rows.groupby("die"):
        f = f.sort_values("drive")
        for side, sign in (("p", 1), ("n", -1)):
            s, v = f[f"s{side}"].to_numpy(), f[f"v{side}"].to_numpy()
            amps = (sign * f["drive"] / 2 * spec.v_unit_v / spec.r_feedback_ohm).to_numpy() - s * f["load"].to_numpy()
            vos = float(np.mean((s + inverse * v - s0)[0::2]))
            r = float(((s - v)[0::2] @ amps[0::2]) / (amps[0::2] @ amps[0::2]))
            own.append((vos, r / spec.r_feedback_ohm - 1))
            for name, part in (("own_train", slice(0, None, 2)), ("own", slice(1, None, 2))):
                residual[name].append((s - v - r * amps)[part] / spec.v_unit_v)
        h = torch.as_tensor((f["vn"] - f["vp"]).to_numpy(copy=True) / spec.v_unit_v)
        c = torch.as_tensor(-(f["vn"] + f["vp"]).to_numpy(copy=True) / (2 * spec.v_unit_v))
        z = f["zp"].to_numpy() / spec.z_unit_v

        def off(p: Array, part: slice, h: torch.Tensor = h, c: torch.Tensor = c, z: Array = z) -> Array:
            changed = act.varied(*(torch.tensor(float(v), dtype=torch.float64) for v in p))
            return np.asarray(changed.evaluate(h[part], c[part])[0].numpy() - z[part])

        found = least_squares(off, [1.0, 1.0, 0.0, 0.0], args=(slice(0, None, 2),), xtol=1e-12)
        pairs.append(tuple(float(v) for v in found.x))
        residual["pair_train"].append(found.fun)
        residual["pair"].append(off(found.x, slice(1, None, 2)))
    failed = measured["die"].nunique() - rows["die"].nunique()
    result = []
    for part_name, names, values, key, unit in (
        ("mismatch", AMPLIFIER_PARAMETERS, own, "own", "units of h, rms"),
        ("pair_mismatch", PAIR_PARAMETERS, pairs, "pair", "units of z, rms"),
    ):
        array = np.array(values)
        covariance = np.cov(array.T)
        train, held = (np.concatenate(residual[k]) for k in (f"{key}_train", key))
        result.append(
            Distribution(
                names=list(names), mean=[float(v) for v in array.mean(axis=0)], covariance=covariance.tolist(),
                mean_covariance=(covariance / len(array)).tolist(), dies=len(array), failed=failed,
                goodness=_goodness(part_name, unit, _rms(train), _rms(held), len(train), len(held)),
            )
        )  # fmt: skip
    return result[0], result[1]


def _by(rows: pd.DataFrame, axis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of every second value of an axis, the ends among them, and the other rows."""
    train, held = split_axis(rows[axis])
    return rows[rows[axis].isin(train)], rows[rows[axis].isin(held)]


def _parts(values: Array) -> Array:
    return np.concatenate([values.real, values.imag])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _span(values: pd.Series) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _goodness(part: str, unit: str, train: float, held_out: float, n_train: int, n_held_out: int) -> Goodness:
    return Goodness(
        unit=unit, train=train, held_out=held_out, n_train=n_train, n_held_out=n_held_out, tolerance=TOLERANCES[part]
    )
