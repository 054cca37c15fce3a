"""Writes docs/cli.md from the commands' own --help. ``make docs`` runs it; a unit test checks that it was run."""

from __future__ import annotations

from pathlib import Path

import click

from analog_deq.cli import cli
from analog_deq.command import PROGRAM

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100
HEADER = """# Command line

Written by `make docs` from the commands' own `--help`; edit the help texts in `analog_deq/cli.py`, not this file.

Stdout carries the result and stderr the talk. With `--json`, stdout is one JSON object
`{"schema": "analog_deq.command/1", "command", "exit_code", "stages": [{"stage", "outputs", "summary", "reused",
"seconds", "exit_code", "checks"}]}`; `verify` and `run` add `"verdict"`; a command that ends in an error has
`"error": {"type", "message"}` instead of `stages`; `doctor` has its findings, among them
`"ok"` and `"problems"`. The commands on single cells have theirs at the top, in place of `stages`: `characterise`
`"quantities"`, `"over_dies"`, `"sensitivity"`, `"correlation"` and `"failures"`, a list of objects each.

`make demo` is `analog-deq run` on the shipped digits. Make turns every failure into its own exit code 2; where the code
matters (a build server, a script), call `analog-deq run` itself.
"""


def reference() -> str:
    """Markdown of the help of the group and of every command, in the order of --help."""
    layout = {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}
    group = click.Context(cli, info_name=PROGRAM, **layout)
    sections = [HEADER, f"## {PROGRAM}\n\n```text\n{cli.get_help(group)}\n```\n"]
    for name in cli.list_commands(group):
        command = cli.commands[name]
        context = click.Context(command, info_name=name, parent=group, **layout)
        sections.append(f"## {PROGRAM} {name}\n\n```text\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                inner = click.Context(command.commands[part], info_name=part, parent=context, **layout)
                sections.append(f"### {PROGRAM} {name} {part}\n\n```text\n{inner.get_help()}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    print(f"wrote {TARGET}")
