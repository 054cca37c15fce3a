"""Figures of gradient estimators, without the noise of having drawn only so many, and tables of them.

Bias is the norm of (mean - truth) over the truth's; cosine and std are of single draws, std over the truth's norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from rows import Row, value_row
from torch import Tensor

GROUPS = 16
"""Groups of draws that the bias is estimated from."""

MARK = "reference_own_error_relative"


# --- statistics -----------------------------------------------------------------------------------------------------


def bias(estimates: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """Relative bias and its interval (two jackknife errors) of estimates (n, P) against draws of the truth (K, P).

    The noise of both means is no bias: the squared norm is estimated without it, from products of the differences of
    independent groups of draws, and reads 0 where that is negative. One row means exact.
    """
    size = reference.double().mean(0).norm()
    counts = [len(rows) for rows in (estimates, reference) if len(rows) > 1]
    if not counts:
        plain = float((estimates[0].double() - reference[0]).norm() / size)
        return plain, plain, plain
    groups = min(GROUPS, *counts)

    def means(rows: Tensor) -> Tensor:
        if len(rows) == 1:
            return rows.double().expand(groups, -1)
        return rows[: len(rows) // groups * groups].double().unflatten(0, (groups, -1)).mean(1)

    apart = means(estimates) - means(reference)

    def squared(rows: Tensor) -> Tensor:
        g = len(rows)
        return (rows.sum(0).square().sum() - rows.square().sum()) / (g * (g - 1)) / size**2

    whole = squared(apart)
    left_out = torch.stack([squared(torch.cat([apart[:k], apart[k + 1 :]])) for k in range(groups)])
    error = ((groups - 1) / groups * (left_out - left_out.mean()).square().sum()).sqrt()
    value, low, high = (float(v.clamp(min=0.0).sqrt()) for v in (whole, whole - 2.0 * error, whole + 2.0 * error))
    return value, low, high


def cosine(estimates: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """Mean cosine of single estimates (n, P) to the mean of the truth (K, P), and its 95 % interval."""
    each = torch.nn.functional.cosine_similarity(estimates.double(), reference.double().mean(0, keepdim=True))
    error = 1.96 * float(each.std()) / len(each) ** 0.5 if len(each) > 1 else 0.0
    mean = float(each.mean())
    return mean, mean - error, mean + error


def spread(estimates: Tensor, reference: Tensor) -> float:
    """Standard deviation of one estimate over the norm of the truth."""
    size = float(reference.double().mean(0).norm())
    return float(estimates.double().var(0, correction=1).sum().sqrt()) / size if len(estimates) > 1 else 0.0


def estimate_rows(
    name: str, machine: str, estimates: Tensor, reference: Tensor, bar: float | None = None
) -> Iterator[Row]:
    """Bias, single-draw cosine and std of one estimator."""
    n = len(estimates)
    value, low, high = bias(estimates, reference)
    yield value_row(f"{name}.bias_relative", machine, value, n, bar=bar, interval=(low, high))
    value, low, high = cosine(estimates, reference)
    yield value_row(f"{name}.cosine", machine, value, n, interval=(low, high))
    yield value_row(f"{name}.std_relative", machine, spread(estimates, reference), n)


# --- tables ---------------------------------------------------------------------------------------------------------


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Readable tables of the rows: one a part, an estimator a line."""
    figures = {row.id.removeprefix("estimators."): row for row in rows}

    def cell(key: str, form: str = ".3f") -> str:
        row = figures.get(key)
        return "" if row is None else f"{row.ours:{form}}"

    def names(prefix: str, suffix: str) -> list[str]:
        found = [k.removeprefix(prefix).removesuffix(suffix) for k in figures if k.startswith(prefix)]
        return list(dict.fromkeys(k for k in found if f"{prefix}{k}{suffix}" in figures))

    marks = [key.removesuffix(f".{MARK}").split(".", 2)[1:] for key in figures if key.endswith(MARK)]
    for kind in dict.fromkeys(kind for kind, _ in marks):
        levels = [level for k, level in marks if k == kind]
        yield f"\nnoisy cell, {kind}, state noise {' / '.join(levels)}: bias, single-draw cosine, std"
        for estimator in names(f"noisy.{kind}.{levels[0]}.", ".bias_relative"):
            parts = [
                " / ".join(cell(f"noisy.{kind}.{level}.{estimator}.{figure}", form) for level in levels)
                for figure, form in (("bias_relative", ".3f"), ("cosine", ".4f"), ("std_relative", ".3f"))
            ]
            yield f"  {estimator:40s} {'   '.join(parts)}"
    for name in dict.fromkeys(key.split(".")[1] for key in figures if key.startswith("circuit.")):
        yield f"\ncircuit, {name}: bias, cosine, bias in conductances, bias over ift's"
        for estimator in names(f"circuit.{name}.", ".cosine"):
            parts = [
                cell(f"circuit.{name}.{estimator}.{figure}", form)
                for figure, form in (
                    ("bias_relative", ".4f"), ("cosine", ".5f"), ("conductances_bias_relative", ".3f"),
                    ("bias_over_ift", ".3g"),
                )
            ]  # fmt: skip
            yield f"  {estimator:40s} {'   '.join(parts)}"
    scans = [key.removeprefix("scan.").rsplit(".beta_", 1) for key in figures if key.startswith("scan.")]
    for side in dict.fromkeys(side for side, _ in scans):
        betas = [rest for found, rest in scans if found == side]
        values = [f"{rest.removesuffix('.bias_relative')}: {cell(f'scan.{side}.beta_{rest}', '.2g')}" for rest in betas]
        yield f"\nnudge, {side}, bias at beta\n  {'  '.join(values)}"
