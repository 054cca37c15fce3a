"""``net.flip_rate_noise``: how often the label of an input changes from read to read, by the noise of the circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from analog_deq.draws import Stream, generator
from analog_deq.records import OK
from analog_deq.statistics import Interval, clopper_pearson
from analog_deq.verify.found import Found
from analog_deq.verify.noise_reads import ReadNoise, predicted_covariance, scaled_covariance, simulated_noise
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0
READS = 200
FRAGILE, RANDOM = 2, 2
"""Images whose noise is simulated: those nearest to another label in units of their noise, and some drawn at random."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class NoiseFlips:
    """Reads of every test image that give another label than the noiseless one, and the noise they hang on.

    Every read is the equilibrium in ngspice plus noise of the covariance of :mod:`analog_deq.verify.noise_reads`,
    through the ADC and the readout. Reads are nested in images: the interval comes from resampling images.
    """

    ids: tuple[str, ...] = ("net.flip_rate_noise", "net.margin_noise_ratio")

    def measure(self, run: SheetRun) -> Found:
        absent = _absent(run)
        if absent is not None:
            units = ("%", "")
            return Found(tuple(
                Measurement(name, None, unit, 0, detail=absent[1], unjudged=absent[0])
                for name, unit in zip(self.ids, units, strict=True) if run.listed(name) is not None
            ))  # fmt: skip
        predicted = predicted_covariance(run)
        weights, margins = _margins(run)
        sd = np.sqrt(np.einsum("ki,kij,kj->k", weights, predicted, weights))
        chosen = _chosen(run, np.divide(margins, sd, out=np.full_like(sd, np.inf), where=sd > 0))
        noises = simulated_noise(run, chosen, weights[chosen])
        failed = sum(noise.status != OK for noise in noises)
        table = _noise_table(predicted, weights, noises)
        found = [_ratio(table)]
        tables = {"margin_noise": table}
        if failed < len(noises):
            reads = _reads(run, scaled_covariance(predicted, noises))
            tables["noise_reads"] = reads
            found.append(_rate(run, reads, noises))
        else:
            found.append(Measurement("net.flip_rate_noise", None, "%", len(noises), detail=noises[0].status,
                                     failed_samples=failed))  # fmt: skip
        listed = tuple(m for m in found if run.listed(m.id) is not None)
        return Found(listed, tables, simulated=len(noises), failed=failed)


def _absent(run: SheetRun) -> tuple[Literal["info", "not_modelled"], str] | None:
    """Why there is nothing to measure: (status, reason)."""
    if run.task.regression:
        return "info", "a regression has no labels"
    reason = run.proxy.not_modelled.get("noise")
    return None if reason is None else ("not_modelled", f"not modelled: {reason}")


def _margins(run: SheetRun) -> tuple[Array, Array]:
    """Weights of the readings (images, N) in the lead of the first label over the second, and that lead (images,)."""
    z = torch.as_tensor(np.nan_to_num(run.equilibria.states.z))
    scores, weight = run.readout.outputs(z).numpy(), run.readout.weight.numpy()
    first, second = np.argsort(-scores, axis=1)[:, :2].T
    lead = np.take_along_axis(scores, np.stack([first, second], 1), axis=1)
    return weight[first] - weight[second], lead[:, 0] - lead[:, 1]


def _chosen(run: SheetRun, distance: Array) -> Array:
    """Images whose noise is simulated."""
    usable = np.flatnonzero(run.equilibria.ok)
    order = usable[np.argsort(distance[usable])]
    rest = order[FRAGILE:]
    rng = generator(run.design.seed, Stream.CORNERS, 3)
    drawn = rng.choice(rest, min(RANDOM, len(rest)), replace=False)
    return np.concatenate([order[:FRAGILE], np.sort(drawn)])


def _noise_table(predicted: Array, weights: Array, noises: list[ReadNoise]) -> pd.DataFrame:
    """One row an image simulated: rms noise of the lead in ngspice, and as the scaled covariance has it."""
    rows = []
    for noise in noises:
        model = float("nan")
        if noise.status == OK:
            covariance = scaled_covariance(predicted, [noise])[noise.image]
            model = float(np.sqrt(weights[noise.image] @ covariance @ weights[noise.image]))
        rows.append(
            {
                "image": noise.image, "status": noise.status, "margin_rms": noise.sum_rms, "margin_rms_model": model,
                "reading_rms": float(np.mean(noise.rms)), "ratio": model / noise.sum_rms,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _ratio(table: pd.DataFrame) -> Measurement:
    ok = (table["status"] == OK).to_numpy()
    failed = int(np.sum(~ok))
    if not ok.any():
        return Measurement("net.margin_noise_ratio", None, "", len(table), failed_samples=failed)
    valid = table[ok]
    row = valid.iloc[int(np.argmax(np.abs(np.log(valid["ratio"]))))]
    detail = "rms noise of the lead of one label over the next: covariance used for reads over .noise of that very sum"
    worst = Worst("nominal", None, int(row["image"]), "noise")
    return Measurement(
        "net.margin_noise_ratio", float(row["ratio"]), "", len(table), None, worst, detail, failed
    )  # fmt: skip


def _reads(run: SheetRun, covariance: Array) -> pd.DataFrame:
    """One row a test image: reads that gave another label, of ``READS``; -1 where its equilibrium failed."""
    rng = generator(run.design.seed, Stream.CORNERS, 4)
    ok = run.equilibria.ok
    rows = []
    for image, z in enumerate(run.equilibria.states.z):
        normal = rng.standard_normal((READS, len(z)))  # drawn for a failed image too: the others keep their reads
        if not ok[image]:
            rows.append({"image": image, "status": str(run.equilibria.status[image]), "label": -1, "flips": -1})
            continue
        values, vectors = np.linalg.eigh(covariance[image])
        noise = normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        label = int(run.readout.predict(torch.as_tensor(z[None]))[0])
        read = run.readout.predict(torch.as_tensor(z + noise)).numpy()
        rows.append({"image": image, "status": OK, "label": label, "flips": int(np.sum(read != label))})
    return pd.DataFrame(rows).assign(reads=READS)


def flip_interval(shares: Array, rng: np.random.Generator) -> Interval:
    """95 % interval of the mean flip share (images,): images resampled, widened to what is known of images at all.

    When only k of n images ever flip, the mean cannot be known better than the share of such images times the mean
    share among them: the exact interval of k in n, scaled so (with k = 0: as if one such image flipped every read).
    """
    n, flipping = len(shares), shares[shares > 0]
    picks = rng.integers(0, n, size=(RESAMPLES, n))
    low, high = np.quantile(shares[picks].mean(axis=1), [0.025, 0.975])
    exact = clopper_pearson(len(flipping), n)
    size = float(flipping.mean()) if len(flipping) else 1.0
    return min(float(low), size * exact[0]), max(float(high), size * exact[1])


def _rate(run: SheetRun, reads: pd.DataFrame, noises: list[ReadNoise]) -> Measurement:
    valid = reads[reads["status"] == OK]
    shares = valid["flips"].to_numpy() / READS
    low, high = flip_interval(shares, generator(run.design.seed, Stream.STATISTICS, 18))
    row = valid.iloc[int(np.argmax(shares))]
    ratio = [float(np.mean(noise.rms)) for noise in noises if noise.status == OK]
    detail = (
        f"{READS} reads of each of {len(valid)} images, {int((shares > 0).sum())} of which ever change their label; "
        f"noise {PERCENT * float(np.mean(ratio)):.2g} %FS rms a read, from .noise at {len(ratio)} images"
    )
    failed = len(reads) - len(valid) + sum(noise.status != OK for noise in noises)
    worst = Worst("nominal", None, int(row["image"]), "noise") if row["flips"] > 0 else None
    return Measurement(
        "net.flip_rate_noise", PERCENT * float(shares.mean()), "%", len(reads) + len(noises),
        (PERCENT * low, PERCENT * high), worst, detail, failed,
    )  # fmt: skip
