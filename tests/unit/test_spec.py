"""Designs and plans: what a person gets wrong is one SpecError naming file, key, value and mend."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from analog_deq.errors import SpecError
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec, read_design, read_plan

DESIGN = """
schema = 1
name = "mine"
seed = 3

[sizes]
inputs = 64
states = 8
classes = 10

[neuron]
r_feedback_ohm = 10e3
c_feedback_f = 20e-12

[crossbar]
g_min_siemens = 1e-6
g_max_siemens = 100e-6
r_line_ohm = 2.0
"""

PLAN = """
schema = 1
name = "mine"
[transfer]
loads_siemens = [1e-3, 2e-3, 3e-3]
[settling]
steps_h = [0.25]
window_s = 3e-6
loads_siemens = [1e-3, 2e-3, 3e-3]
[noise]
loads_siemens = [1e-3, 2e-3, 3e-3]
[mismatch]
conductances_siemens = [1e-6, 1e-5]
"""


@pytest.fixture
def design_file(tmp_path: Path) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(DESIGN)
    return path


def refused(path: Path, old: str, new: str) -> str:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_design(path)
    return str(caught.value)


def test_a_design_reads_with_its_defaults(design_file):
    design = read_design(design_file)
    assert (design.name, design.seed, design.sizes.states) == ("mine", 3, 8)
    assert design.neuron.r_feedback_ohm == 10e3
    assert design.operating.vdd_v == 0.9
    assert design.certificate.gamma == 0.9


def test_every_shipped_design_and_plan_reads():
    designs = sorted(shipped("data/designs").glob("*.toml"))
    plans = sorted(shipped("calibration/plans").glob("*.toml"))
    assert designs
    assert plans
    for path in designs:
        design = read_design(path)
        assert (shipped("calibration/plans") / f"{design.plan}.toml") in plans
    for path in plans:
        assert read_plan(path).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "key", "value"),
    [
        ("r_feedback_ohm = 10e3", "r_feedback_ohm = -10e3", "neuron.r_feedback_ohm", "-10000.0"),
        ("r_feedback_ohm = 10e3", "r_feedback_ohm = 0", "neuron.r_feedback_ohm", "0"),
        ("r_feedback_ohm = 10e3", "r_feedback_ohm = nan", "neuron.r_feedback_ohm", "nan"),
        ("r_feedback_ohm = 10e3", "r_feedback_ohm = inf", "neuron.r_feedback_ohm", "inf"),
        ("r_feedback_ohm = 10e3", 'r_feedback_ohm = "10k"', "neuron.r_feedback_ohm", "'10k'"),
        ("r_line_ohm = 2.0", "r_line_ohm = -2.0", "crossbar.r_line_ohm", "-2.0"),
        ("r_line_ohm = 2.0", "r_line_ohm = nan", "crossbar.r_line_ohm", "nan"),
        ("r_line_ohm = 2.0", "r_dac_ohm = 0.0", "crossbar.r_dac_ohm", "0.0"),
        ("g_max_siemens = 100e-6", "g_max_siemens = 1e-7", "crossbar", "g_max_siemens (1e-07) must exceed"),
        ("r_line_ohm = 2.0", "levels = 1", "crossbar", "levels = 1 cannot hold a weight"),
        ("states = 8", "states = 1", "sizes.states", "1"),
        ("states = 8", "states = 8.5", "sizes.states", "8.5"),
        ("schema = 1", "schema = 2", "schema", "2"),
        ('name = "mine"', 'name = "../mine"', "name", "'../mine'"),
        ("seed = 3", "seed = -3", "seed", "-3"),
    ],
)
def test_a_wrong_value_names_file_key_and_value(design_file, old, new, key, value):
    message = refused(design_file, old, new)
    assert message.startswith(f"{design_file}: {key} = ")
    assert value in message
    assert len(message.splitlines()) == 1


def test_an_unknown_key_is_refused_with_the_known_ones(design_file):
    message = refused(design_file, "r_feedback_ohm = 10e3", "r_feedback_ohm = 10e3\nr_feedbck = 1.0")
    assert message == (
        f"{design_file}: neuron.r_feedbck: unknown key; known here: "
        "r_feedback_ohm, c_feedback_f, c_input_f, z_unit_v, v_unit_v"
    )
    message = refused(design_file, "r_feedbck = 1.0\n", "[neurons]\n")
    assert f"{design_file}: neurons: unknown key; known here: schema, name," in message


def test_a_missing_key_and_a_missing_section_are_named(design_file):
    assert refused(design_file, "c_feedback_f = 20e-12\n", "") == f"{design_file}: neuron.c_feedback_f: missing; add it"
    assert f"{design_file}: neuron: missing; add it" in refused(design_file, "[neuron]\nr_feedback_ohm = 10e3\n", "")


def test_all_wrong_keys_are_reported_at_once(design_file):
    message = refused(design_file, "r_feedback_ohm = 10e3", "r_feedback_ohm = -1.0\nbogus = 1")
    assert len(message.splitlines()) == 2
    assert "neuron.r_feedback_ohm" in message
    assert "neuron.bogus" in message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.toml: no such file; check the path"):
        read_design(tmp_path / "absent.toml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_design(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"binary\.toml: cannot be read"):
        read_design(binary)


def test_malformed_toml_names_the_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("schema = 1\nname = \n")
    with pytest.raises(SpecError, match=r"broken\.toml: not valid TOML \(.*line 2"):
        read_plan(path)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (
            "loads_siemens = [1e-3, 2e-3, 3e-3]\n[settling]",
            "loads_siemens = [1e-3, -2e-3, 3e-3]\n[settling]",
            "transfer.loads_siemens.1",
        ),
        ("steps_h = [0.25]", "steps_h = [nan]", "settling.steps_h.0"),
        ("[mismatch]", "[mismatch]\ndies = 4", "mismatch.dies"),
        ("[mismatch]", "[mismatch]\npoint = 33", "mismatch.point"),
    ],
)
def test_a_wrong_plan_names_the_place(tmp_path, old, new, key):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    assert read_plan(path).mismatch.dies == 256
    path.write_text(PLAN.replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: {key}")


def test_a_design_cannot_be_changed_in_place():
    design = DesignSpec.model_validate(tomllib.loads(DESIGN))
    with pytest.raises(ValueError, match="frozen"):
        design.seed = 4
    with pytest.raises(ValueError, match="frozen"):
        design.neuron.r_feedback_ohm = 1.0


def test_hardware_holds_what_calibration_measures_and_nothing_else():
    design = DesignSpec.model_validate(tomllib.loads(DESIGN))
    trained_differently = design.model_copy(
        update={"seed": 9, "training": design.training.model_copy(update={"steps": 7})}
    )
    assert design.hardware() == trained_differently.hardware()
    colder = design.model_copy(update={"operating": design.operating.model_copy(update={"temperature_celsius": 0.0})})
    assert design.hardware() != colder.hardware()
    both = DesignSpec.model_validate(tomllib.loads(DESIGN.replace("[crossbar]", "[crossbar]\nboth_word_ends = true")))
    assert both.hardware() == design.hardware()
    assert (both.crossbar.both_word_ends, "both_word_ends" in design.model_dump()["crossbar"]) == (True, False)


@pytest.mark.parametrize("mapping", ["memristor", "switched_cap"])
def test_a_mapping_that_feeds_its_rows_from_one_end_says_so(design_file: Path, mapping: str) -> None:
    content = DESIGN.replace("[crossbar]", "[crossbar]\nboth_word_ends = true")
    design_file.write_text(content.replace('name = "mine"', f'name = "mine"\nmapping = "{mapping}"'))
    with pytest.raises(SpecError, match=f'crossbar.both_word_ends: the mapping "{mapping}" feeds its rows from one'):
        read_design(design_file)


# --- outputs, classes and certificates ------------------------------------------------------------------------------


def test_outputs_may_be_called_classes_but_not_both(design_file: Path) -> None:
    old = read_design(design_file)
    design_file.write_text(DESIGN.replace("classes", "outputs"))
    assert read_design(design_file) == old
    assert old.sizes.outputs == 10
    assert "outputs" in old.model_dump()["sizes"]
    assert "unknown key" in refused(design_file, "outputs = 10", "outputs = 10\nclasses = 10")


@pytest.mark.parametrize(
    ("weight_class", "bound", "other"),
    [("A", "gamma = 0.8", "margin = 0.1"), ("B", "gamma = 0.8", "margin = 0.1"), ("C", "margin = 0.1", "gamma = 0.8")],
)
def test_a_weight_class_has_its_own_bound(design_file: Path, weight_class: str, bound: str, other: str) -> None:
    section = f'{DESIGN}\n[certificate]\nweight_class = "{weight_class}"\n'
    design_file.write_text(section + bound)
    spec = read_design(design_file).certificate
    assert spec.weight_class == weight_class
    assert getattr(spec, bound.split(" = ")[0]) == float(bound.split(" = ")[1])
    design_file.write_text(section + other)
    with pytest.raises(SpecError, match=f"weight_class '{weight_class}' has no {other.split(' = ')[0]}; use"):
        read_design(design_file)


def test_free_weights_have_no_bound(design_file: Path) -> None:
    design_file.write_text(f'{DESIGN}\n[certificate]\nweight_class = "free"\ngamma = 0.9\n')
    with pytest.raises(SpecError, match="has no gamma; leave it out"):
        read_design(design_file)


@pytest.mark.parametrize("name", ["digits", "qp16", "net16"])
def test_a_shipped_design_names_its_plan_and_limits(name: str) -> None:
    found = read_design(shipped("data/designs") / f"{name}.toml")
    assert found.name == found.task == name
    assert (shipped("calibration/plans") / f"{found.plan}.toml").is_file()
    assert (shipped("data/limits") / f"{found.limits}.toml").is_file()
    neuron = found.neuron
    assert neuron.r_feedback_ohm * neuron.c_feedback_f == pytest.approx(200e-9, rel=1e-3)
