"""What a sign-off would simulate and what its claims need, without simulating."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from analog_deq.errors import SpecError
from analog_deq.pipeline.family_files import family_inputs
from analog_deq.pipeline.inputs import Inputs, find_limits, load_inputs, matching_checkpoint, matching_proxy
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.verify.campaign import NUMERIC_IMAGES
from analog_deq.verify.limits import Limits, read_limits
from analog_deq.verify.needed import Need, needs
from analog_deq.verify.registry import CHECKS
from analog_deq.verify.sweeps import BLOCK

SECONDS = {
    "equilibrium": (2.4e-3, 79e-3), "start": (0.05, 1.0), "transient": (0.18, 5.6), "noise": (0.14, 27.0),
}  # fmt: skip
"""Core seconds of an equilibrium, a deck's start, a transient and a noise output of the 32-state digits network with
2 ohm wires on a server of the 2020s, reduced and flat (README); other sizes by the square of the states."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Simulations of one kind: how many, in how many decks, and a guide to their core seconds."""

    what: str
    simulations: int
    decks: int
    core_s: float


@dataclass(frozen=True, slots=True)
class SignoffForecast:
    """What a sign-off would cost. ``checks`` are the ids of further checks, which simulate on top."""

    design: str
    kinds: tuple[Kind, ...]
    jobs: int
    seconds: float
    checks: tuple[str, ...]
    needs: tuple[Need, ...]

    @property
    def enough(self) -> bool:
        """Whether every claim can pass at all."""
        return all(need.enough for need in self.needs)

    def record(self) -> dict[str, Any]:
        """JSON-ready; each need says whether the run has enough."""
        content = asdict(self)
        content["needs"] = [{**asdict(need), "enough": need.enough} for need in self.needs]
        return content


def forecast_signoff(
    checkpoint: Path,
    *,
    design: Path,
    proxy: Path,
    limits: Path | None,
    jobs: int | None = None,
    cells: Mapping[str, str] | None = None,
    flat: bool = False,
    dies: int | None = None,
) -> SignoffForecast:
    """What ``verify`` with these arguments would simulate. Reads the files and checks that they match; runs nothing.

    SpecError for a design of another mapping than the op-amp integrator, whose campaign is its own.
    """
    if family_inputs(design) is not None:
        raise SpecError(f"{design}: only designs of the mapping 'opamp_integrator' can be forecast")
    inputs = load_inputs(design, cells or {})
    spec = inputs.design.verify if dies is None else inputs.design.verify.model_copy(update={"dies": dies})
    fitted = matching_proxy(proxy, inputs)
    found = matching_checkpoint(checkpoint, inputs, proxy)
    task, sheet = inputs.task(), read_limits(limits or find_limits(inputs))
    images, accuracy = len(task.x_test), None
    if not task.regression:
        model = DeployedNetwork.nominal(inputs.design, fitted, found.g_pos, found.g_neg, found.r_feedback_share)
        readout = Readout(
            torch.as_tensor(found.readout_weight),
            torch.as_tensor(found.readout_bias),
            inputs.design.converters.adc_bits,
        )
        labels = readout.predict(model.solve(task.x_test, domain_share=None).reading)
        accuracy = float((labels == task.y_test).double().mean())
    stated = needs(sheet, spec, images, accuracy)
    kinds = tuple(_kinds(inputs, images, spec.dies, flat))
    processes = jobs or os.cpu_count() or 1
    seconds = sum(kind.core_s for kind in kinds) / processes
    return SignoffForecast(inputs.design.name, kinds, processes, seconds, further_checks(sheet), stated)


def further_checks(limits: Limits) -> tuple[str, ...]:
    """Ids of the checks beyond the base campaign that a limits file asks for."""
    return tuple(name for check in CHECKS for name in check.ids if limits.row(name) is not None)


def _kinds(inputs: Inputs, images: int, dies: int, flat: bool) -> Iterable[Kind]:
    design = inputs.design
    spec = design.verify
    scale = (design.sizes.states / 32) ** 2

    def seconds(kind: str, on_flat: bool = flat) -> float:
        return scale * SECONDS[kind][on_flat]

    def sweeps(what: str, runs: int, each: int, on_flat: bool = flat) -> Kind:
        decks = runs * math.ceil(each / BLOCK)
        cost = runs * each * seconds("equilibrium", on_flat) + decks * seconds("start", on_flat)
        return Kind(what, runs * each, decks, cost)

    outputs = spec.noise_images * spec.noise_nodes
    yield sweeps("equilibria of test samples, nominal", 1, images)
    yield sweeps("equilibria at tight tolerance", 1, NUMERIC_IMAGES)
    yield sweeps("equilibria on the other deck, flat or reduced", 1, spec.anchor_images, not flat)
    yield Kind("transients from rest", spec.transients, spec.transients, spec.transients * seconds("transient"))
    yield Kind("noise outputs", outputs, spec.noise_images, outputs * seconds("noise"))
    yield sweeps(f"equilibria of {dies} dies, untrimmed and trimmed", 2 * dies, spec.images_per_die)
    yield sweeps(f"equilibria that trim {dies} dies", spec.trim_rounds * dies, spec.trim_images)
    yield Kind("measurements of one die", 2, 2, 2 * seconds("start"))
