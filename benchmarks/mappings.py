"""Five ways to build one network, compared on one task: digits, 64 inputs, 16 states, 10 classes.

Every mapping is calibrated, fitted, trained through its own proxy and verified in ngspice by the package's stages; what
is kept of a run is one JSON file (--write), of which docs/mappings.md shows the tables (--docs writes them there).
Stages under --runs are reused, so an interrupted campaign goes on where it stopped; --only runs some mappings and
keeps the others' last figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, machine_name, note, parser, show, value_row

from analog_deq.mappings.campaign import verify_family
from analog_deq.mappings.registry import MAPPINGS
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import FamilyInputs, load_family_inputs, read_family_proxy
from analog_deq.records import OK, Progress
from analog_deq.spec import read_design
from analog_deq.spice.simulator import find_simulator
from analog_deq.statistics import rms_interval
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.stage import OURS
from analog_deq.verify.sweeps import Bed

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/mappings.json", ROOT / "docs/mappings.md"
BEGIN, END = "<!-- tables: python benchmarks/mappings.py --docs -->", "<!-- end of tables -->"
DESIGNS = {
    "opamp_integrator": "opamp16", "rc": "rc16", "gmc": "gmc16", "memristor": "memristor16",
    "switched_cap": "switched_cap16",
}  # fmt: skip
WIRES_OHM = (0.0, 1.0, 2.0, 5.0)
WIRE_IMAGES = 100
FLAT_IMAGES = {"switched_cap": 5}
"""Mappings whose reduced deck leaves wires out (settled charge does not know them): images of the flat deck instead."""
RMS_BAR, MAX_BAR = 0.2, 0.5
PERCENT = 100.0


class Notes(Progress):
    """Sentences on stderr."""

    def note(self, text: str) -> None:
        note(text)


def measure(name: str, bed: Bed, images: int) -> dict[str, Any]:
    """Everything the tables say of one mapping, as JSON."""
    path = ROOT / f"data/designs/{DESIGNS[name]}.toml"
    inputs = load_family_inputs(read_design(path), path)
    progress = Notes()
    tables = families.calibrate(inputs, bed, None, progress).outputs["tables"]
    proxy_path = families.fit(inputs, tables, bed.root, None, progress).outputs["proxy"]
    proxy = read_family_proxy(proxy_path, inputs)
    trained = families.train(inputs, proxy_path, bed.root, None, True, progress)
    checkpoint = read_checkpoint(trained.outputs["checkpoint"])
    task = inputs.task()
    result = verify_family(inputs.family, proxy, checkpoint, task, bed, progress)
    programmed = np.stack([checkpoint.g_pos, checkpoint.g_neg])
    readout = Readout(
        torch.as_tensor(checkpoint.readout_weight), torch.as_tensor(checkpoint.readout_bias),
        inputs.design.converters.adc_bits,
    )  # fmt: skip
    checks = {
        m.id: {"value": m.value, "n": m.n, "interval": m.interval, "detail": m.detail} for m in result.measurements
    }
    ok = result.equilibria.ok
    return {
        "design": inputs.design.name, "seed": inputs.design.seed, "title": MAPPINGS[name].title,
        "cannot": MAPPINGS[name].cannot, "checks": checks, "elements": result.elements,
        "supply_w": float(np.mean(result.equilibria.supply_w[ok])),
        "software": checkpoint.scores["digital (ideal tanh)"].value, "proxy_score": checkpoint.scores[OURS].value,
        "naive": checkpoint.scores["naive deployment"].value,
        "die_accuracy": result.die_accuracy.tolist(),
        "noise_rms": float(np.sqrt(np.mean([np.mean(r.rms_spice**2) for r in result.noise if r.status == OK]))),
        "wires": {f"{r:g}": _at_wires(inputs, proxy, programmed, readout, r, images, bed) for r in WIRES_OHM},
    }  # fmt: skip


def _at_wires(
    inputs: FamilyInputs, proxy: Any, programmed: np.ndarray, readout: Readout, r_ohm: float, images: int, bed: Bed
) -> dict[str, Any]:
    """Fixed-point error and accuracy with wires of ``r_ohm`` a segment, the network programmed as trained."""
    note(f"{inputs.design.name}: wires of {r_ohm:g} ohm")
    array = inputs.design.crossbar.model_copy(update={"r_line_ohm": r_ohm})
    there = load_family_inputs(inputs.design.model_copy(update={"crossbar": array}), inputs.path)
    task = inputs.task()
    flat = FLAT_IMAGES.get(inputs.design.mapping) if r_ohm > 0 else None
    count = flat or min(images, inputs.design.verify.images or images)
    x, y = task.x_test[:count], task.y_test[:count].numpy()
    deployed = there.family.deploy(proxy, programmed)
    solved = deployed.solve(x, domain_share=None)
    lowered = there.family.lower(proxy, programmed, bed.simulator.klu)
    found = lowered.run_equilibria(deployed.inputs(x).numpy(), solved, bed, Progress(), flat=flat is not None)
    ok = found.ok
    error = PERCENT * (found.z - solved.reading.numpy())[ok]
    right = readout.predict(torch.as_tensor(np.nan_to_num(found.z))).numpy() == y
    interval = rms_interval(error, np.random.default_rng(0)) if ok.any() else None
    return {
        "rms": float(np.sqrt(np.mean(error**2))) if ok.any() else None,
        "max": float(np.abs(error).max()) if ok.any() else None, "interval": interval, "n": count,
        "failed": int(np.sum(~ok)), "accuracy": PERCENT * float(np.mean(right & ok)),
    }  # fmt: skip


def benchmark_rows(found: dict[str, Any], machine: str) -> Iterator[Row]:
    """A row for every figure that has a bar, and the others beside them."""
    for name, one in found.items():
        for r, at in one["wires"].items():
            if at["rms"] is not None:
                row = f"mappings.{name}.wires_{r}_ohm"
                yield value_row(
                    f"{row}.rms_percent_fs", machine, at["rms"], at["n"], bar=RMS_BAR, interval=at["interval"]
                )
                yield value_row(f"{row}.max_percent_fs", machine, at["max"], at["n"], bar=MAX_BAR)
        for check in ("net.accuracy", "net.settle_err", "net.noise_ratio", "net.energy", "net.settle_p95"):
            value = one["checks"][check]
            if value["value"] is not None:
                yield value_row(f"mappings.{name}.{check}", machine, value["value"], value["n"])


def tables(found: dict[str, Any]) -> Iterator[str]:
    """The comparison, and the fixed-point errors by wire resistance, in Markdown."""
    names = [name for name in DESIGNS if name in found]
    yield "| | " + " | ".join(found[n]["title"] for n in names) + " |"
    yield "|---|" + "---|" * len(names)
    for label, text in _LINES:
        yield f"| {label} | " + " | ".join(text(found[n]) for n in names) + " |"
    yield ""
    yield "Proxy against the whole network in ngspice at rest, %FS rms / largest (accuracy in ngspice, %):"
    yield ""
    yield "| wires, ohm a segment | " + " | ".join(n for n in names) + " |"
    yield "|---|" + "---|" * len(names)
    for r in (f"{r:g}" for r in WIRES_OHM):
        cells = [found[n]["wires"][r] for n in names]
        yield f"| {r} | " + " | ".join(_wire_cell(c) for c in cells) + " |"


def _wire_cell(at: dict[str, Any]) -> str:
    if at["rms"] is None:
        return f"none of {at['n']} converged"
    lost = f", {at['failed']} failed" if at["failed"] else ""
    return f"{at['rms']:.3g} / {at['max']:.3g} ({at['accuracy']:.0f}; n {at['n']}{lost})"


def _check(one: dict[str, Any], name: str, scale: float = 1.0, digits: int = 3) -> str:
    check = one["checks"][name]
    return "not valid" if check["value"] is None else f"{scale * check['value']:.{digits}g}"


def _span(one: dict[str, Any], name: str) -> str:
    low, high = one["checks"][name]["interval"] or (float("nan"), float("nan"))
    return f"{low:.3g} to {high:.3g}"


def _parts(one: dict[str, Any]) -> str:
    order = ("transistors", "resistors", "capacitors", "switches", "diodes", "behavioural sources")
    parts = [f"{one['elements'][kind]:g} {kind}" for kind in order if one["elements"].get(kind)]
    return ", ".join(parts) + f"; {1e12 * one['elements'].get('capacitance_f', 0.0):.4g} pF"


_LINES = (
    ("accuracy in ngspice, % (95 % interval, n)", lambda o: f"{_check(o, 'net.accuracy')} "
     f"({_span(o, 'net.accuracy')}, {o['checks']['net.accuracy']['n']})"),
    ("trained through the proxy / deployed naively, on the proxy, %",
     lambda o: f"{PERCENT * o['proxy_score']:.1f} / {PERCENT * o['naive']:.1f}"),
    ("proxy error at rest, %FS rms / largest", lambda o: f"{_check(o, 'net.fixed_point_err')} / "
     f"{_check(o, 'net.fixed_point_max')}"),
    ("labels equal in proxy and ngspice, %", lambda o: _check(o, "net.class_agreement")),
    ("settling from rest, p95, us", lambda o: _check(o, "net.settle_p95", 1e6)),
    ("largest error of a predicted settling time, %", lambda o: _check(o, "net.settle_err")),
    ("noise of a reading, % of a unit rms", lambda o: f"{PERCENT * o['noise_rms']:.3g}"),
    ("predicted over simulated noise, range", lambda o: _span(o, "net.noise_ratio")),
    ("mismatch dies: accuracy mean / worst, %",
     lambda o: f"{np.mean(o['die_accuracy']):.1f} / {np.min(o['die_accuracy']):.1f} (n {len(o['die_accuracy'])})"),
    ("mismatch dies: state error, %FS rms", lambda o: _check(o, "net.die_err")),
    ("supply power, mW", lambda o: f"{1e3 * o['supply_w']:.3g}"),
    ("energy to settle one input, nJ", lambda o: _check(o, "net.energy", 1e9)),
    ("parts", _parts),
    ("cannot", lambda o: o["cannot"]),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser(__doc__ or "", "python benchmarks/mappings.py --only rc")
    made.add_argument("--only", action="append", choices=list(DESIGNS), help="measure these mappings only")
    made.add_argument("--images", type=int, default=WIRE_IMAGES, metavar="N", help=f"images by wires ({WIRE_IMAGES})")
    made.add_argument("--runs", type=Path, default=ROOT / "runs", help="where stages are kept and reused")
    made.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.relative_to(ROOT)}")
    made.add_argument("--docs", action="store_true", help="write the tables of the kept figures into docs/mappings.md")
    options = made.parse_args(arguments)
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.docs:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN, 1)
        after = rest.split(END, 1)[1]
        PAGE.write_text(before + "\n".join([BEGIN, "", *tables(kept["mappings"]), "", END]) + after)
        return 0
    simulator = find_simulator()
    torch.set_num_threads(1)
    machine, bed = machine_name(simulator), Bed(simulator, options.runs)

    def rows() -> Iterator[Row]:
        for name in options.only or DESIGNS:
            one = measure(name, bed, options.images)
            if options.write:
                kept.setdefault("mappings", {})[name] = {**one, "machine": machine}
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
            yield from benchmark_rows({name: one}, machine)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
