"""Finding the shipped files in a checkout and in an installed wheel."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from analog_deq import resources
from analog_deq.errors import SpecError
from analog_deq.resources import KINDS, shipped


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_folder(kind: str) -> None:
    assert shipped(kind).is_dir()


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="netlists/cells"):
        shipped("cells")


def test_a_wheel_uses_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "analog_deq"
    (package / "_shipped" / "data" / "limits").mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert shipped("data/limits") == package / "_shipped" / "data" / "limits"


def test_a_folder_beside_an_installed_package_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "limits").mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "analog_deq")
    with pytest.raises(SpecError, match="reinstall"):
        shipped("data/limits")


def test_examples() -> None:
    assert doctest.testmod(resources).failed == 0
