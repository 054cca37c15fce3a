"""Waveform files: what ngspice measured, in volts, typical and worst chosen by settling time; raw files read back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analog_deq.errors import MissingPlotError
from analog_deq.records import OK, Plot
from analog_deq.spice.rawfile import raw_bytes, read_plots
from analog_deq.verify.dynamics import NoiseResult, Settling
from analog_deq.verify.waves import waves_of, write_waves

DESIGN: Any = SimpleNamespace(neuron=SimpleNamespace(z_unit_v=0.2))
TIME = np.linspace(0, 12e-6, 30)


def settling(image: int, t_s: float, status: str = OK) -> Settling:
    z = (1 - np.exp(-TIME[:, None] / t_s)) * np.array([0.5, -0.25])
    return Settling(image, status, t_s, t_s, trace=(TIME, z, z + 1e-3))


def equilibria(*z: tuple[float, float]) -> Any:
    values = np.array(z)
    return SimpleNamespace(ok=np.isfinite(values).all(axis=1), states=SimpleNamespace(z=values))


def spectrum(image: int, rms: float) -> NoiseResult:
    return NoiseResult(image, (0, 7), OK, np.array([1e3, 1e6]), np.full((2, 2), rms), np.full(2, rms), np.ones(2))


def test_typical_is_the_median_and_worst_the_slowest_of_those_that_settled() -> None:
    runs = [settling(k, t) for k, t in enumerate((3e-6, 1e-6, 2e-6))] + [settling(9, 9e-6, "timeout")]
    found = {w.name: w for w in waves_of(runs, [spectrum(4, 1e-3), spectrum(5, 2e-3)], equilibria((1, 0)), DESIGN)}
    assert list(found) == ["settling_typical", "settling_worst", "noise", "equilibria"]
    assert "image 2 " in found["settling_typical"].what
    assert "image 0 " in found["settling_worst"].what
    plot = found["settling_worst"].plot
    assert plot.variables == ("time", "v(z0)", "v(z1)", "v(proxy0)", "v(proxy1)")
    np.testing.assert_allclose(plot["v(z0)"], 0.4 * 0.5 * (1 - np.exp(-TIME / 3e-6)))  # 2 x 0.2 V a unit
    np.testing.assert_allclose(plot["v(proxy0)"] - plot["v(z0)"], 0.4e-3)
    assert "image 5" in found["noise"].what
    np.testing.assert_allclose(found["noise"].plot["onoise(z7)"], 0.4 * 2e-3)


def test_failed_equilibria_are_left_out_and_images_keep_their_numbers() -> None:
    wave = waves_of([], [], equilibria((0.1, 0.2), (np.nan, np.nan), (0.3, 0.4)), DESIGN)[0]
    assert wave.plot.sweep.tolist() == [0, 2]
    assert waves_of([settling(0, 1e-6, "timeout")], [], equilibria((np.nan, 0)), DESIGN) == ()


def test_files_read_back_to_the_same_numbers(tmp_path: Path) -> None:
    waves = waves_of([settling(0, 1e-6)], [spectrum(1, 1e-3)], equilibria((0.5, -0.5)), DESIGN)
    written = write_waves(waves, tmp_path)
    assert sorted(p.name for p in (tmp_path / "waves").iterdir()) == sorted(p.name for p in written)
    for wave in waves:
        plot = read_plots(tmp_path / "waves" / f"{wave.name}.raw")[0]
        assert (plot.name, plot.variables) == (wave.plot.name, wave.plot.variables)
        np.testing.assert_array_equal(plot.data, wave.plot.data)  # to the last bit
        frame = pd.read_csv(tmp_path / "waves" / f"{wave.name}.csv")
        assert tuple(frame.columns) == wave.plot.variables
        np.testing.assert_allclose(frame.to_numpy(), wave.plot.data, rtol=1e-8)


def test_a_raw_file_cut_short_is_refused(tmp_path: Path) -> None:
    content = raw_bytes([Plot("AC Analysis", ("frequency", "v(a)"), np.array([[1, 2 + 1j], [10, 3 - 1j]]))])
    (tmp_path / "whole.raw").write_bytes(content)
    assert read_plots(tmp_path / "whole.raw")[0]["v(a)"].tolist() == [2 + 1j, 3 - 1j]
    (tmp_path / "cut.raw").write_bytes(content[:-8])
    with pytest.raises(MissingPlotError, match="announces 2 points"):
        read_plots(tmp_path / "cut.raw")


@pytest.mark.parametrize("names", [("time", "a b"), ("time", "a\n"), ("time",)])
def test_names_a_header_cannot_hold_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="plot 'x'"):
        raw_bytes([Plot("x", names, np.zeros((2, 2)))])
