"""A design small enough to be taken through all four stages in seconds, with any cell in any slot."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import DESIGN, PLAN, Invoke, checks_of, write_limits

from analog_deq.fit.parameters import ProxyParameters, read_proxy
from analog_deq.resources import shipped

SMALL = {
    "states = 8": "states = 4", "steps = 60": "steps = 20", "test_fraction = 0.04": "test_fraction = 0.02",
    "transients = 4": "transients = 2\nnoise_images = 1", "\ndies = 3": "\ndies = 1",
    "images_per_die = 10": "images_per_die = 5", "trim_images = 10": "trim_images = 5",
}  # fmt: skip


def changed(text: str, changes: dict[str, str]) -> str:
    """``text`` with every key of ``changes`` replaced; each must be there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def write_small(folder: Path, design: dict[str, str] | None = None, plan: dict[str, str] | None = None) -> None:
    """``small.toml`` and its plan, with further ``design`` and ``plan`` text replaced."""
    (folder / "small.toml").write_text(changed(DESIGN, {**SMALL, **(design or {})}))
    (folder / "plan.toml").write_text(changed(PLAN, plan or {}))
    write_limits(folder)


def scaled(g_min: float, g_max: float, scale: float) -> tuple[dict[str, str], dict[str, str]]:
    """Changes of design and plan for conductances ``g_min`` to ``g_max``, everything ``scale`` times as resistive."""
    low, high = g_min, g_max
    levels = [low, low + 0.1 * (high - low), low + 0.5 * (high - low), high]
    loads = [load / scale for load in (0.05e-3, 0.15e-3, 0.5e-3, 1.0e-3, 2.0e-3, 4.0e-3)]
    design = {
        "g_min_siemens = 1e-6": f"g_min_siemens = {low!r}", "g_max_siemens = 100e-6": f"g_max_siemens = {high!r}",
        "10e3": repr(10e3 * scale), "20e-12": repr(20e-12 / scale),
    }  # fmt: skip
    plan = {
        "[0.1e-3, 0.5e-3, 1.0e-3, 2.0e-3, 4.0e-3]": repr(loads),
        "[0.1e-3, 0.5e-3, 1.0e-3, 4.0e-3]": repr([loads[0], *loads[2:5], loads[5]]),
        "[1e-6, 10e-6, 50e-6, 100e-6]": f"{levels!r}\nload_siemens = {loads[3]!r}",
    }  # fmt: skip
    return design, plan


@dataclass(frozen=True)
class Swapped:
    """A finished run of the small design."""

    folder: Path
    exit_code: int
    stderr: str

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        return checks_of(self.folder)

    @property
    def proxy(self) -> ProxyParameters:
        (path,) = self.folder.glob("runs/fit/*/proxy.json")
        return read_proxy(path)

    @property
    def report(self) -> dict[str, Any]:
        (path,) = self.folder.glob("runs/verify/*/report.json")
        return json.loads(path.read_text())

    def file(self, name: str) -> Path:
        (path,) = self.folder.glob(f"runs/verify/*/{name}")
        return path

    def decks(self, title: str, *, kept: bool = True) -> list[str]:
        """Decks that were simulated, by a part of their first line; without ``kept`` not those that lie by the report,
        which are simulated alone."""
        texts = [path.read_text() for path in self.folder.glob("runs/spice/*/deck.cir")]
        alone = [] if kept else [path.read_text() for path in self.folder.glob("runs/verify/*/decks/*/deck.cir")]
        return [text for text in texts if title in text.splitlines()[0] and text not in alone]


def run_swapped(folder: Path, invoke: Invoke, *arguments: str) -> Swapped:
    """``analog-deq run small.toml`` with further arguments; all four stages must have been reached."""
    done = invoke("run", "small.toml", *arguments, cwd=folder)
    assert done.exit_code in {0, 1, 4}, done.stderr
    for stage in ("calibrate", "fit", "train", "verify"):
        assert f"== {stage}\n" in done.stderr
    return Swapped(folder, done.exit_code, done.stderr)


def own_cell(folder: Path, base: str, name: str, netlist: dict[str, str], contract: dict[str, str]) -> Path:
    """A shipped cell copied beside a contract of one's own, with text of both replaced; the contract's path."""
    cells = shipped("netlists/cells")
    folder.mkdir(exist_ok=True)
    text = changed((cells / f"{base}.cir").read_text(), netlist)
    (folder / f"{name}.cir").write_text(re.sub(rf"(?m)^(\.(?:subckt|ends)) {base}\b", rf"\1 {name}", text))
    for included in re.findall(r"(?m)^\.include (\S+)", text):
        (folder / included).write_text((cells / included).read_text())
    text = (cells / f"{base}.toml").read_text()
    for key, old, new in (("netlist", f"{base}.cir", f"{name}.cir"), ("subckt", base, name), ("name", base, name)):
        text = changed(text, {f'{key} = "{old}"': f'{key} = "{new}"'})
    path = folder / f"{name}.toml"
    path.write_text(changed(text, contract))
    return path
