"""Naming an executor and a memory limit: what is understood, and one clear error for the rest."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analog_deq.cli import cli
from analog_deq.command import memory_option
from analog_deq.errors import ExecutorError, SpecError
from analog_deq.spice import executors
from analog_deq.spice.executors import open_executor


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="analog-deq")


@pytest.mark.parametrize("text", [None, "local"])
def test_local_is_this_process(text: str | None) -> None:
    with open_executor(text) as executor:
        assert executor is None


@pytest.mark.parametrize(
    "text",
    [
        "", "threads", "dask", "dask://", "dask://host", "dask://host:", "dask://host:0", "dask://host:65536",
        "dask://host:x", "dask://host:1/path", "tcp://host:1", "ray://host:1", "dask://a b:1", "dask://:8786", "Local",
    ],
)  # fmt: skip
def test_any_other_text_is_one_error_with_the_mend(text: str) -> None:
    with pytest.raises(SpecError, match=r"use local, or dask://HOST:PORT") as caught, open_executor(text):
        pass
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_dask_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"pip install 'analog-deq\[dask\]'"), open_executor("dask://host:8786"):
        pass


class Teapot(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("there", ["nothing", "web server"])
def test_no_scheduler_is_one_error_and_no_noise(
    there: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "CONNECT_TIMEOUT_S", 0.5)
    with http.server.HTTPServer(("127.0.0.1", 0), Teapot) as server:
        port = server.server_address[1]
        if there == "nothing":
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        result = call("calibrate", "digits", "--executor", f"dask://127.0.0.1:{port}", "--json")
        if there == "web server":
            server.shutdown()
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: --executor dask://127.0.0.1:{port}: no Dask scheduler answers there")
    assert result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["error"]["type"] == "ExecutorError"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["calibrate", "verify", "run"])
def test_a_wrong_executor_ends_the_command_before_it_starts(command: str, tmp_path: Path) -> None:
    for name in ("net", "proxy"):
        (tmp_path / name).write_text("")
    rest = {"verify": [str(tmp_path / "net"), "--design", "digits", "--proxy", str(tmp_path / "proxy")]}
    runs = tmp_path / "runs"
    result = call(command, *rest.get(command, ["digits"]), "--executor", "pbs://x", "--runs", str(runs))
    assert result.exit_code == 2
    assert "not an executor" in result.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2G", 2 * 2**30), ("512M", 512 * 2**20), ("1.5g", 3 * 2**29), ("100k", 100 * 2**10), ("1T", 2**40),
        ("2GiB", 2 * 2**30), ("2 GB", 2 * 2**30),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse(text) == size


@pytest.mark.parametrize("text", ["2", "G", "2X", "-1G", "0G", "0.0000001K", "1e9", "2GG", "nan", "", "1,5G", "2Meg"])
def test_a_size_without_a_unit_or_a_meaning_is_refused(text: str) -> None:
    result = call("calibrate", "digits", "--memory-limit", text)
    assert result.exit_code == 2
    assert f"{text!r} is not a size" in result.stderr
    assert "such as 2G" in result.stderr


def parse(text: str) -> int:
    import click

    @click.command()
    @memory_option
    def command(memory_bytes: int) -> None:
        click.echo(memory_bytes)

    result = CliRunner().invoke(command, ["--memory-limit", text])
    assert result.exit_code == 0, result.output
    return int(result.output)
