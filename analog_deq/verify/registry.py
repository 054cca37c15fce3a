"""Every check of the sheet beyond the base campaign, in the order in which they run: one line each."""

from __future__ import annotations

from analog_deq.verify.checks.attribution import AttributionCheck
from analog_deq.verify.checks.cells import CELLS, SYNAPSES
from analog_deq.verify.checks.corner_network import CornerNetworks
from analog_deq.verify.checks.coverage import Coverage
from analog_deq.verify.checks.integrator import Integrator
from analog_deq.verify.checks.moving_rails import MovingRails
from analog_deq.verify.checks.noise_flips import NoiseFlips
from analog_deq.verify.checks.reproducible import Reproducible
from analog_deq.verify.checks.stability import Stability
from analog_deq.verify.checks.starts import Starts
from analog_deq.verify.checks.trajectory import Trajectory
from analog_deq.verify.found import Found
from analog_deq.verify.sheet import SheetCheck, SheetRun

CHECKS: tuple[SheetCheck, ...] = (
    Trajectory(),
    Starts(),
    Stability(),
    MovingRails(),
    AttributionCheck(),
    CELLS,
    SYNAPSES,
    Integrator(),
    Coverage(),
    CornerNetworks(),
    NoiseFlips(),
    Reproducible(),
)


def run_checks(run: SheetRun) -> list[Found]:
    """What each check found whose ids the limits file lists, in the order of ``CHECKS``."""
    found = []
    for check in CHECKS:
        wanted = [name for name in check.ids if run.listed(name) is not None]
        if wanted:
            run.progress.note(f"checks {', '.join(wanted)}")
            found.append(check.measure(run))
    return found
