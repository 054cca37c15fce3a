"""Raw files of ours load in ngspice itself, with their names, types and numbers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from analog_deq.records import Plot
from analog_deq.spice.rawfile import raw_bytes

pytestmark = pytest.mark.spice


def test_ngspice_loads_what_we_write(tmp_path: Path) -> None:
    t = np.linspace(0, 1e-6, 50)
    tran = Plot("Transient Analysis", ("time", "v(z0)", "i(vdd)"), np.column_stack([t, np.sin(1e7 * t), 2 * t]))
    ac = Plot("AC Analysis", ("frequency", "v(b)"), np.array([[1, 2 + 1j], [10, 3 - 4j]]))
    (tmp_path / "waves.raw").write_bytes(raw_bytes([tran, ac], title="ours"))
    lines = [
        "* load", "v1 a 0 1", ".control", "set numdgt=15", "load waves.raw", "setplot tran1", "display",
        "print v(z0)[10] i(vdd)[49] length(time)", "setplot ac1", "print mag(v(b))[1]", "quit 0", ".endc", ".end",
    ]  # fmt: skip
    (tmp_path / "load.cir").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["ngspice", "-n", "-b", "load.cir"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    values = dict(re.findall(r"^(\S+) = (\S+)", done.stdout, re.MULTILINE))
    assert float(values["v(z0)[10]"]) == pytest.approx(float(np.sin(1e7 * t[10])), rel=1e-13)
    assert float(values["i(vdd)[49]"]) == pytest.approx(2e-6, rel=1e-13)
    assert float(values["length(time)"]) == 50
    assert float(values["mag(v(b))[1]"]) == pytest.approx(5.0, rel=1e-13)
    assert re.search(r"i\(vdd\)\s*: current, real, 50 long", done.stdout)
    assert re.search(r"time\s*: time, real, 50 long", done.stdout)
