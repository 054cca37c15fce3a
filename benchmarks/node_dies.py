"""Mismatched dies of the node mappings, each predicted by a proxy made of measurements at that die's own terminals.

Every neuron's curves and every cell's conductance are measured alone in ngspice; nothing of what was drawn is read. The
extracted proxy and the nominal one are then held against the whole die in ngspice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rows import Row, machine_name, note, parser, show, value_row

from analog_deq.mappings.node.family import NodeFamily
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import load_family_inputs, read_family_proxy
from analog_deq.records import Progress
from analog_deq.spec import read_design
from analog_deq.spice.simulator import find_simulator
from analog_deq.statistics import rms_interval
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.verify.sweeps import Bed

ROOT = Path(__file__).resolve().parents[1]
DESIGNS = ("rc16", "rc16_diode", "gmc16")
BAR = 0.3
PERCENT = 100.0


def rows(name: str, dies: int, images: int, bed: Bed, machine: str) -> Iterator[Row]:
    """Distance of dies' states from the nominal and from their own proxies, %FS rms, and the largest of the latter."""
    path = ROOT / f"data/designs/{name}.toml"
    inputs, progress = load_family_inputs(read_design(path), path), Progress()
    family = inputs.family
    assert isinstance(family, NodeFamily)
    tables = families.calibrate(inputs, bed, None, progress).outputs["tables"]
    proxy_path = families.fit(inputs, tables, bed.root, None, progress).outputs["proxy"]
    proxy = read_family_proxy(proxy_path, inputs)
    trained = families.train(inputs, proxy_path, bed.root, None, True, progress)
    checkpoint = read_checkpoint(trained.outputs["checkpoint"])
    programmed, x = np.stack([checkpoint.g_pos, checkpoint.g_neg]), inputs.task().x_test[:images]
    nominal = family.deploy(proxy, programmed)
    expected, seen = nominal.solve(x), nominal.inputs(x).numpy()
    from_nominal, from_own, lost = [], [], 0
    for die in range(dies):
        note(f"{name}: die {die}")
        drawn = family.draw(die)
        own = family.extract(proxy, programmed, drawn, bed, progress).solve(x).reading.numpy()
        found = family.lower(proxy, programmed, bed.simulator.klu, drawn).run_equilibria(seen, expected, bed, progress)
        lost += int(np.sum(~found.ok))
        from_nominal.append(PERCENT * (found.z - expected.reading.numpy())[found.ok])
        from_own.append(PERCENT * (found.z - own)[found.ok])
    for what, parts, bar in (("nominal", from_nominal, None), ("extracted", from_own, BAR)):
        error = np.concatenate(parts)
        interval = rms_interval(error, np.random.default_rng(0))
        rms = float(np.sqrt(np.mean(error**2)))
        label = f"node_dies.{name}.{what}"
        yield value_row(f"{label}.rms_percent_fs", machine, rms, dies, bar=bar, interval=interval)
        yield value_row(f"{label}.max_percent_fs", machine, float(np.abs(error).max()), dies)
    yield value_row(f"node_dies.{name}.images_lost", machine, lost, dies * images, bar=0)


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser(__doc__ or "", "python benchmarks/node_dies.py --only rc16")
    made.add_argument("--only", action="append", choices=DESIGNS, help="these designs only")
    made.add_argument("--dies", type=int, default=20, metavar="N", help="dies of each design (20)")
    made.add_argument("--images", type=int, default=50, metavar="N", help="test images on each die (50)")
    made.add_argument("--runs", type=Path, default=ROOT / "runs", help="where stages are kept and reused")
    options = made.parse_args(arguments)
    bed = Bed(find_simulator(), options.runs, jobs=1)
    machine = machine_name(bed.simulator)
    found = (row for name in options.only or DESIGNS for row in rows(name, options.dies, options.images, bed, machine))
    return show(found, options.json)


if __name__ == "__main__":
    sys.exit(main())
