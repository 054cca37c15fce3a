"""Finding ngspice and what it can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import SimulatorNotFoundError

ENVIRONMENT_VARIABLE = "ANALOG_DEQ_NGSPICE"
INSTALL_HINT = (
    "install it with: sudo apt-get install ngspice\n"
    "(Debian 12: enable bookworm-backports, then sudo apt-get install -t bookworm-backports ngspice; that version has\n"
    f"the KLU solver, which is several times faster on crossbars). An ngspice elsewhere: set {ENVIRONMENT_VARIABLE}."
)


@dataclass(frozen=True, slots=True)
class Simulator:
    """An ngspice that answered: where it is, its version such as ``46`` or ``44.2``, and whether KLU is built in."""

    executable: Path
    version: str
    klu: bool

    @property
    def solver(self) -> str:
        """``KLU`` when decks may ask for it, else ``Sparse``."""
        return "KLU" if self.klu else "Sparse"


def find_simulator(executable: str | None = None) -> Simulator:
    """The ngspice named by ``executable``, else by ANALOG_DEQ_NGSPICE, else the one on PATH.

    A name that was asked for and does not work is an error: the next candidate is not tried. Raises
    SimulatorNotFoundError, with the install command, when nothing is there or it does not answer ``-v``.

    >>> find_simulator("/no/such/ngspice")
    Traceback (most recent call last):
        ...
    analog_deq.errors.SimulatorNotFoundError: '/no/such/ngspice' is not an executable; ...
    """
    wanted = executable or os.environ.get(ENVIRONMENT_VARIABLE) or "ngspice"
    found = shutil.which(wanted)
    if found is None:
        raise SimulatorNotFoundError(f"{wanted!r} is not an executable; {INSTALL_HINT}")
    try:
        answer = subprocess.run(
            [found, "-n", "-v"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SimulatorNotFoundError(f"{found} -v does not answer ({error}); {INSTALL_HINT}") from error
    text = (answer.stdout + answer.stderr).decode("latin-1")
    match = re.search(r"ngspice-(\d[\w.+]*)", text)
    if match is None:
        raise SimulatorNotFoundError(f"{found} -v does not name an ngspice version; {INSTALL_HINT}")
    return Simulator(Path(found).absolute(), match[1], "KLU" in text)
