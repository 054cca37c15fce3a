"""Measurements of a verdict: each a value with its n, interval, worst sample and the way to replay it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.certificate import Certificate
from analog_deq.statistics import PairedDrop, mean_interval, paired_drop, rms_interval, wilson
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.verify.dies import DieResult
from analog_deq.verify.dynamics import NoiseResult, Settling
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import SweepResult
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0


def fixed_points(result: SweepResult, reading: Array, seed: int) -> list[Measurement]:
    """Proxy against ngspice equilibria, in % of full scale (1 unit of z); failed images count as failed samples."""
    ok = result.ok
    error = PERCENT * (result.states.z - reading)
    n, failed = len(ok), int(np.sum(~ok))
    lost = Worst("nominal, failed", None, int(np.flatnonzero(~ok)[0]), "equilibrium") if failed else None
    share = _percent(wilson(n - failed, n))
    converged = Measurement("net.converged", PERCENT * float(ok.mean()), "%", n, share, lost, "", failed)
    if failed == n:
        names = ("net.fixed_point_err", "net.fixed_point_p90", "net.fixed_point_max")
        return [*(Measurement(name, None, "%FS", n, failed_samples=failed) for name in names), converged]
    per_image = np.sqrt(np.mean(error[ok] ** 2, axis=1))
    worst_image = int(np.flatnonzero(ok)[np.argmax(np.abs(error[ok]).max(axis=1))])
    worst = Worst("nominal", None, worst_image, "equilibrium")
    interval = rms_interval(error[ok], generator(seed, Stream.STATISTICS, 1))
    rms = float(np.sqrt(np.mean(error[ok] ** 2)))
    return [
        Measurement("net.fixed_point_err", rms, "%FS", n, interval, worst, "RMS over images and nodes", failed),
        Measurement("net.fixed_point_p90", float(np.quantile(per_image, 0.9)), "%FS", n, None, worst, "", failed),
        Measurement("net.fixed_point_max", float(np.abs(error[ok]).max()), "%FS", n, None, worst, "", failed),
        converged,
    ]


def residual(result: SweepResult, model: DeployedNetwork, x: torch.Tensor) -> Measurement:
    """RMS residual of z = act(W z + u) at ngspice's own state, in % of full scale: is it a fixed point at all?"""
    ok = result.ok
    h = torch.as_tensor(-result.states.v[ok] / model.design.neuron.v_unit_v)
    z = model.act.value(h)
    again = model.act.value(z @ model.w_state.T + model.drive(x[torch.as_tensor(ok)]))
    rms = PERCENT * float((again - z).square().mean().sqrt()) if ok.any() else None
    return Measurement("net.residual", rms, "%FS", len(ok), failed_samples=int(np.sum(~ok)))


def labels(result: SweepResult, reading: Array, readout: Readout, y: Array, seed: int) -> list[Measurement]:
    """Label agreement, accuracy in ngspice, and the paired drop from software; a failed image is a wrong label."""
    ok = result.ok
    spice = np.where(ok, readout.predict(torch.as_tensor(np.nan_to_num(result.states.z))).numpy(), -1)
    software = readout.predict(torch.as_tensor(reading)).numpy()
    n, failed = len(y), int(np.sum(~ok))
    agree, correct = int(np.sum(spice == software)), int(np.sum(spice == y))
    drop = paired_drop(software == y, spice == y, generator=generator(seed, Stream.STATISTICS, 2))
    differ = np.flatnonzero(spice != software)
    image = int(differ[0]) if len(differ) else None
    worst = None if image is None else Worst("nominal", None, image, "equilibrium")
    return [
        Measurement(
            "net.class_agreement", PERCENT * agree / n, "%", n, None, worst, f"{agree} of {n} labels equal", failed
        ),
        Measurement("net.accuracy", PERCENT * correct / n, "%", n, _percent(wilson(correct, n)), None, "", failed),
        Measurement(
            "net.acc_drop",
            PERCENT * drop.drop,
            "points",
            n,
            _percent(drop.interval),
            worst,
            _labels_that_differ(drop),
            failed,
        ),
    ]


def certificate(found: Certificate, weight_class: str) -> list[Measurement]:
    """What is certified of the mapped, quantised matrix: the bound of A and B, the margin of C, of free none."""
    where = f"of the mapped, quantised matrix: {found.statement()}"
    if weight_class == "C":
        return [Measurement("net.margin", 1.0 - found.gamma, "", 1, detail=where)]
    return [] if weight_class == "free" else [Measurement("net.gamma", found.gamma, "", 1, detail=where)]


def settling(results: Sequence[Settling], tolerance: float) -> list[Measurement]:
    """Settling times, their prediction, the distance of each end from its equilibrium, and energy."""
    good = [r for r in results if r.status == "ok"]
    failed = len(results) - len(good)
    n = len(results)
    if not good:
        names = (("net.settle_p95", "s"), ("net.settle_err", "%"), ("net.settle_end", "%FS"), ("net.energy", "J"))
        return [Measurement(name, None, unit, n, failed_samples=failed) for name, unit in names]
    spice, proxy = np.array([r.t_spice_s for r in good]), np.array([r.t_proxy_s for r in good])
    relative = PERCENT * np.abs(proxy / spice - 1)
    energy = np.array([r.energy_j + r.dac_energy_j for r in good])
    ends = PERCENT * np.array([r.end_error for r in good])

    def worst(values: Array) -> Worst:
        image = good[int(np.argmax(values))].image
        return Worst("nominal, from rest", None, image, "transient")

    return [
        Measurement(
            "net.settle_p95",
            float(np.quantile(spice, 0.95)),
            "s",
            n,
            (float(spice.min()), float(spice.max())),
            worst(spice),
            f"to {100 * tolerance:g} %FS; range shown",
            failed,
        ),
        Measurement(
            "net.settle_err", float(relative.max()), "%", n, None, worst(relative), "largest over images", failed
        ),
        Measurement("net.settle_end", float(ends.max()), "%FS", n, None, worst(ends), "", failed),
        Measurement(
            "net.energy",
            float(energy.mean()),
            "J",
            n,
            mean_interval(energy) if n > 1 else None,
            worst(energy),
            "mean, supply rails and DAC lines, until settled",
            failed,
        ),
    ]


def noise(results: Sequence[NoiseResult]) -> Measurement:
    """Proxy over ngspice of the integrated noise, at the image and node where it is farthest from 1."""
    good = [r for r in results if r.status == "ok"]
    n = sum(len(r.nodes) for r in results)
    lost = n - sum(len(r.nodes) for r in good)
    if not good:
        return Measurement("net.noise_ratio", None, "", n, detail=results[0].status, failed_samples=lost)
    ratio = np.stack([r.rms_proxy / r.rms_spice for r in good])
    image, node = np.unravel_index(np.argmax(np.abs(np.log(ratio))), ratio.shape)
    worst = Worst(f"node {good[image].nodes[node]}", None, good[image].image, "noise")
    spread = (float(ratio.min()), float(ratio.max()))
    detail = f"{len(good)} images x {ratio.shape[1]} nodes, range shown"
    return Measurement("net.noise_ratio", float(ratio[image, node]), "", n, spread, worst, detail, lost)


def die_accuracy(results: Sequence[DieResult], readout: Readout, y: Array) -> tuple[Array, Array]:
    """Accuracy in % of each die without and with trim, (dies,); a failed image counts as wrong."""
    columns = []
    for pick in ("untrimmed", "trimmed"):
        rows = []
        for result in results:
            sweep: SweepResult = getattr(result, pick)
            predicted = readout.predict(torch.as_tensor(np.nan_to_num(sweep.states.z))).numpy()
            rows.append(PERCENT * np.mean(np.where(sweep.ok, predicted == y[result.images], False)))
        columns.append(np.array(rows))
    return columns[0], columns[1]


def software_accuracy(results: Sequence[DieResult], readout: Readout, y: Array, reading: Array) -> Array:
    """Accuracy in % of the proxy's readings (images, N) on each die's own test images, (dies,)."""
    software = readout.predict(torch.as_tensor(reading)).numpy()
    return np.array([PERCENT * np.mean(software[r.images] == y[r.images]) for r in results])


def passing_dies(
    results: Sequence[DieResult], readout: Readout, y: Array, reading: Array, max_drop: float
) -> dict[str, Array]:
    """Which dies pass, (dies,) by yield row: accuracy within ``max_drop`` of software's on the same images."""
    untrimmed, trimmed = die_accuracy(results, readout, y)
    allowed = software_accuracy(results, readout, y, reading) - PERCENT * max_drop - 1e-9
    return {"net.yield_mismatch": trimmed >= allowed, "net.yield_untrimmed": untrimmed >= allowed}


def accuracy_dies(
    results: Sequence[DieResult], readout: Readout, y: Array, nominal: Array, reading: Array, max_drop: float
) -> list[Measurement]:
    """Yield over dies: a die passes when its accuracy is within ``max_drop`` of software's on the same images.

    ``nominal`` are the nominal circuit's ngspice states, ``reading`` the proxy's, both of all test images.
    """
    untrimmed, trimmed = die_accuracy(results, readout, y)
    own = software_accuracy(results, readout, y, reading)
    n = len(results)
    failed = sum(not r.trimmed.ok.all() for r in results)  # dies, as n counts dies

    def share(row: str) -> tuple[float, tuple[float, float]]:
        passing = int(np.sum(passes[row]))
        return PERCENT * passing / n, _percent(wilson(passing, n))

    passes = passing_dies(results, readout, y, reading, max_drop)
    low = results[int(np.argmin(trimmed - own))]
    distance = np.abs(np.nan_to_num(low.trimmed.states.z) - nominal[low.images]).max(axis=1)
    worst = Worst("mismatch die, trimmed", low.die, int(low.images[np.argmax(distance)]), "equilibrium")
    rule = f"a die passes within {PERCENT * max_drop:g} points of software on its {len(low.images)} images"
    clipped = f"{rule}; {sum(r.clipped for r in results)} trims clipped"
    means = f"mean {trimmed.mean():.2f} %, untrimmed mean {untrimmed.mean():.2f} %"
    with_trim, without = share("net.yield_mismatch"), share("net.yield_untrimmed")
    return [
        Measurement("net.yield_mismatch", with_trim[0], "%", n, with_trim[1], worst, clipped),
        Measurement("net.yield_untrimmed", without[0], "%", n, without[1], None, rule),
        Measurement("net.acc_trimmed_min", float(trimmed.min()), "%", n, None, worst, means, failed),
    ]


def die_states(results: Sequence[DieResult], nominal: Array, worst: Worst | None) -> Measurement:
    """RMS distance of the trimmed dies' states from the nominal circuit's ngspice states (images, N)."""
    before, after = _rms_to(nominal, results, "untrimmed"), _rms_to(nominal, results, "trimmed")
    against = "untrimmed: no valid state" if before is None else f"untrimmed {before:.3g} %FS"
    failed = sum(not r.trimmed.ok.all() for r in results)
    return Measurement("net.die_err_trimmed", after, "%FS", len(results), None, worst, against, failed)


def drop_over_dies(results: Sequence[DieResult], readout: Readout, y: Array, reading: Array, seed: int) -> Measurement:
    """Accuracy lost from software to the trimmed dies on the same images, in points; whole dies are resampled."""
    software = readout.predict(torch.as_tensor(reading)).numpy() == y
    states = [torch.as_tensor(np.nan_to_num(result.trimmed.states.z)) for result in results]
    right = [r.trimmed.ok & (readout.predict(z).numpy() == y[r.images]) for r, z in zip(results, states, strict=True)]
    own = np.concatenate([software[result.images] for result in results])
    die = np.repeat(np.arange(len(results)), [len(result.images) for result in results])
    clusters = die if len(results) > 1 else None
    drop = paired_drop(own, np.concatenate(right), die=clusters, generator=generator(seed, Stream.STATISTICS, 5))
    failed = sum(not r.trimmed.ok.all() for r in results)
    told = f"{drop.n} images on {len(results)} dies, {_labels_that_differ(drop)}"
    return Measurement(
        "net.acc_drop_dies", PERCENT * drop.drop, "points", len(results), _percent(drop.interval), None, told, failed
    )  # fmt: skip


def _labels_that_differ(drop: PairedDrop) -> str:
    """How many are right on one side only, McNemar's test of them, and where the interval is from."""
    return f"{drop.a_only} lost, {drop.b_only} gained; McNemar p = {drop.p_value:.2g}; {drop.method}"


def _rms_to(nominal: Array, results: Sequence[DieResult], which: str) -> float | None:
    """RMS distance in % of full scale of every die's valid states from the nominal circuit's; None without any."""
    errors = []
    for result in results:
        sweep: SweepResult = getattr(result, which)
        valid = sweep.ok & np.isfinite(nominal[result.images]).all(axis=1)
        errors.append((sweep.states.z - nominal[result.images])[valid].ravel())
    flat = np.concatenate(errors)
    return PERCENT * float(np.sqrt(np.mean(flat**2))) if flat.size else None


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return PERCENT * interval[0], PERCENT * interval[1]
