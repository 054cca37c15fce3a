"""Every netlist of the hostile corpus is refused before a simulator sees it, with its line quoted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.corpus import ATTACKS, HERE, Attack, lay_out

from analog_deq.errors import NetlistError
from analog_deq.netlists.includes import read_netlist


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("hostile"))


def test_the_corpus_lists_every_file_once() -> None:
    assert sorted(a.name for a in ATTACKS) == sorted(path.stem for path in HERE.glob("*.cir"))
    assert {a.ngspice for a in ATTACKS} == {
        "runs", "runs alone", "runs since 44", "runs with code models", "never ends", "harmless"
    }  # fmt: skip


@pytest.mark.parametrize("subckt", [None, "cell"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_each_is_refused_with_its_line_quoted(cells: Path, attack: Attack, subckt: str | None) -> None:
    path = cells / f"{attack.name}.cir"
    with pytest.raises(NetlistError) as caught:
        read_netlist(path, cells, cells / "cell.toml", subckt)
    message = str(caught.value)
    assert attack.says in message
    assert "; " in message, "the mend is missing"
    if attack.line:
        file = cells / (attack.file or path.name)
        assert message.startswith(f"{file}:{attack.line}: ")
        raw = file.read_bytes().decode().replace("\r\n", "\n").split("\n")[attack.line - 1]
        assert repr(raw.strip(" \t"))[1:-1][:150] in message
