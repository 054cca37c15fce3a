"""Every command that README.md shows exists and takes its options, and the files it quotes are right."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from analog_deq.cli import cli
from analog_deq.command import find_input
from analog_deq.netlists.library import load_cell
from analog_deq.resources import shipped

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```", README)
SHIPPED = {"design": "data/designs", "limits": "data/limits", "source": "data/designs"}


def shell_lines() -> list[str]:
    """Command lines of the shell blocks, continuations joined, and of inline code."""
    lines = []
    for language, body in BLOCKS:
        if language in {"sh", "bash", "console"}:
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                lines += [shlex.join(words)] if words else []
    outside = re.sub(r"(?ms)^```.*?^```", "", README)
    return lines + [code for code in re.findall(r"`([^`\n]+)`", outside) if code.startswith(("analog-deq ", "make "))]


COMMANDS = [line for line in shell_lines() if re.match(r"(\S*/)?analog-deq |python3? cli\.py ", line)]


def test_the_readme_shows_the_flow() -> None:
    text = "\n".join(COMMANDS)
    for name in ("run", "calibrate", "fit", "train", "verify", "netlist", "doctor"):
        assert f"analog-deq {name}" in text, name


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line)
    words = words[2:] if words[0].startswith("python") else words[1:]
    if words[0].startswith("-"):
        assert CliRunner().invoke(cli, words).exit_code == 0
        return
    name, arguments = words[0], [word for word in words[1:] if word != "..."]
    command = cli.commands[name]
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
    if isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    context = click.Context(command, info_name=name)
    values, left, _ = command.make_parser(context).parse_args(arguments)  # NoSuchOption when there is none
    assert left == []
    for parameter in command.params:
        value = values.get(parameter.name)
        if value is None or value is getattr(click.core, "UNSET", None):
            assert not parameter.required or not arguments, f"{line}: {parameter.name} is required"
            continue
        if isinstance(parameter.type, click.Choice | click.IntRange):
            for one in value if parameter.multiple else (value,):
                parameter.type.convert(one, parameter, context)
        if parameter.name in SHIPPED and name != "replay" and not str(value).endswith(".toml"):
            assert find_input(str(value), SHIPPED[parameter.name]).is_file()
        if parameter.name == "cells":
            for role, _, cell in (text.partition("=") for text in value):
                if not cell.endswith(".toml"):
                    assert load_cell(cell).role == role


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    shown = {line.split()[1] for line in shell_lines() if line.startswith("make ")}
    assert {"demo", "test"} <= shown <= targets


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_the_contract_in_the_readme_fits_a_netlist(tmp_path: Path) -> None:
    contracts = [body for language, body in BLOCKS if language == "toml" and "[cell]" in body]
    assert contracts
    for body in contracts:
        contract = tomllib.loads(body)
        pins, cell = contract["pins"], contract["cell"]
        # the shipped op-amp under the pin names and in the folder the README speaks of
        text = (shipped("netlists/cells") / "opamp_macro.cir").read_text()
        header = "inp inn out vdd vss"
        names = {"inp": "in_p", "inn": "in_n", "out": "out", "vdd": "vdd", "vss": "vss"}
        for old, role in names.items():
            text = re.sub(rf"\b{old}\b", pins[role], text)
        assert header not in text
        text = text.replace("opamp_macro", cell["subckt"])
        (tmp_path / cell["netlist"]).write_text(text)
        (tmp_path / "contract.toml").write_text(body)
        loaded = load_cell(tmp_path / "contract.toml")
        assert loaded.role == cell["role"] == "opamp"
        assert loaded.header.pins == tuple(pins[role].lower() for role in names.values())
