"""The corpus of hostile netlists: what each is, and a folder laid out as an attacker would."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Attack:
    """One netlist. ``line`` 0: refused while it is expanded, on no line of its own."""

    name: str
    line: int
    says: str
    ngspice: str
    file: str = ""


ATTACKS = tuple(
    Attack(name, **entry) for name, entry in tomllib.loads((HERE / "corpus.toml").read_text("utf-8")).items()
)


def lay_out(folder: Path) -> Path:
    """Folder of the cells: a copy of the corpus, with links to files one level up, where an attacker may not reach."""
    cells = folder / "cells"
    shutil.copytree(HERE, cells, ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    (cells / "parts" / "evil.sh").chmod(0o755)
    for original, outside in (("control.inc", "outside.inc"), ("evil.lib", "outside.lib")):
        shutil.copy(cells / "parts" / original, folder / outside)
        (cells / "parts" / f"link{Path(outside).suffix}").symlink_to(folder / outside)
    return cells
