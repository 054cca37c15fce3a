"""Stage folders: atomic, reused only when whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from analog_deq.errors import SchemaError
from analog_deq.provenance import Provenance, file_sha256, require_schema
from analog_deq.runs import StageFolder, hash_inputs, open_stage, publish, scratch_folder, sweep


def built(root: Path, text: str = "1.0") -> StageFolder:
    stage = open_stage(root, "fit", {"seed": 3, "table": "ab"})
    with stage.build() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "numbers.txt").write_text(text)
    return stage


def leftovers(root: Path) -> list[str]:
    return [p.name for p in (root / "fit").iterdir() if p.name.startswith(".")]


def test_a_built_stage_is_finished_and_lists_its_files(tmp_path: Path) -> None:
    stage = built(tmp_path)
    assert stage.finished
    assert len(stage.path.name) == 12
    assert stage.path.name == hash_inputs({"table": "ab", "seed": 3})[:12]
    assert json.loads((stage.path / "inputs.json").read_text()) == {"seed": 3, "table": "ab"}
    listed = json.loads((stage.path / "outputs.json").read_text())["files"]
    assert listed == {"sub/numbers.txt": file_sha256(stage.path / "sub" / "numbers.txt")}
    assert leftovers(tmp_path) == []
    assert open_stage(tmp_path, "fit", {"table": "ab", "seed": 3}).finished


def test_other_inputs_are_another_folder(tmp_path: Path) -> None:
    built(tmp_path)
    assert not open_stage(tmp_path, "fit", {"seed": 4, "table": "ab"}).finished


@pytest.mark.parametrize("damage", ["changed", "absent", "inputs", "outputs"])
def test_a_damaged_stage_is_not_finished_and_can_be_rebuilt(tmp_path: Path, damage: str) -> None:
    stage = built(tmp_path)
    target = {
        "changed": stage.path / "sub" / "numbers.txt",
        "absent": stage.path / "sub" / "numbers.txt",
        "inputs": stage.path / "inputs.json",
        "outputs": stage.path / "outputs.json",
    }[damage]
    if damage == "absent":
        target.unlink()
    else:
        target.write_text("[1]")
    assert not stage.finished
    assert built(tmp_path, "2.0").finished
    assert (stage.path / "sub" / "numbers.txt").read_text() == "2.0"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    stage = open_stage(tmp_path, "fit", {"seed": 3})

    def build_half() -> None:
        with stage.build() as folder:
            (folder / "half.txt").write_text("half")
            raise error

    with pytest.raises(error):
        build_half()
    assert list((tmp_path / "fit").iterdir()) == []


def test_an_interrupted_rebuild_keeps_the_earlier_result(tmp_path: Path) -> None:
    stage = built(tmp_path)
    with pytest.raises(RuntimeError), stage.build():
        raise RuntimeError
    assert stage.finished


@pytest.mark.parametrize("value", [math.nan, math.inf, Path("x"), {1, 2}])
def test_inputs_must_be_plain(value: object) -> None:
    with pytest.raises(SchemaError, match="plain, finite JSON"):
        hash_inputs({"value": value})


def test_what_a_killed_process_left_is_swept_and_what_is_being_written_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "fit" / "ab") as live:
        left = live.with_name(live.name[:-8] + "killed__")  # the same name but for the random part, and no lock
        left.mkdir()
        (left / "half.txt").write_text("half")
        (live.parent / ".old-ab-12345678").mkdir()
        elsewhere = live.parent / ".ab-another_host-12345678"
        elsewhere.mkdir()
        built(tmp_path)
        assert sorted(leftovers(tmp_path)) == sorted([live.name, elsewhere.name])
        publish(live, tmp_path / "fit" / "ab")
    sweep(tmp_path / "fit")
    assert leftovers(tmp_path) == [elsewhere.name]
    sweep(tmp_path / "absent")


def test_publish_into_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "a", tmp_path / "no" / "b")


def test_provenance_is_closed_and_frozen() -> None:
    block = Provenance(schema_name="analog_deq.proxy", schema_version=1, inputs={"table": "ab"}, units={"a0": "V/V"})
    assert Provenance.model_validate_json(block.model_dump_json()) == block
    with pytest.raises(ValidationError, match="frozen"):
        block.seed = 1
    with pytest.raises(ValidationError, match="extra"):
        Provenance.model_validate({**block.model_dump(), "colour": "red"})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "expected 'analog_deq.proxy/2'"),
        (2, "is this a file of analog-deq"),
        ("analog_deq.proxy", "is this a file of analog-deq"),
        ("analog_deq.report/2", "another kind of file"),
        ("analog_deq.proxy/1", "make it again"),
        ("analog_deq.proxy/3", "upgrade analog-deq"),
    ],
)
def test_unknown_schemas_are_refused(found: object, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        require_schema(found, "analog_deq.proxy/2", Path("proxy.json"))
    assert "proxy.json" in str(caught.value)


def test_a_newer_minor_is_read() -> None:
    require_schema("analog_deq.proxy/2.7", "analog_deq.proxy/2", Path("proxy.json"))
