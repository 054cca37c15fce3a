"""Run folders: ``root/<stage>/<12 hex of the input hash>``, written under a temporary name and renamed when whole.

A folder under its final name is finished by construction, so an interrupted stage resumes and a finished one is
reused, after the hashes of its files were checked again. The temporary name begins with a dot and names the host; its
writer holds a lock on the folder, so what a killed process left behind can be told from what is being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import SchemaError
from analog_deq.provenance import file_sha256

INPUTS_FILE = "inputs.json"
OUTPUTS_FILE = "outputs.json"


def canonical_json(mapping: Mapping[str, object]) -> str:
    """JSON text that is equal for equal content: sorted keys, no spaces. SchemaError for what JSON cannot hold."""
    try:
        return json.dumps(mapping, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"run inputs must be plain, finite JSON values: {error}") from error


def hash_inputs(mapping: Mapping[str, object]) -> str:
    """Hex sha256 of the canonical JSON of ``mapping``; the order of keys does not matter.

    >>> hash_inputs({"a": 1, "b": 2.5}) == hash_inputs({"b": 2.5, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(mapping).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one stage for one set of inputs; it may not exist yet."""

    path: Path
    inputs: str

    @property
    def finished(self) -> bool:
        """Whether the folder is there, was made from these inputs, and every listed file still has its hash."""
        try:
            if (self.path / INPUTS_FILE).read_text() != self.inputs:
                return False
            listed = json.loads((self.path / OUTPUTS_FILE).read_text())["files"]
            return all(file_sha256(self.path / name) == digest for name, digest in listed.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    @contextlib.contextmanager
    def build(self) -> Iterator[Path]:
        """A new, empty folder to write the stage's files in; it becomes ``path`` when the block ends well.

        An exception, Ctrl-C included, leaves nothing behind. An earlier folder under ``path`` is replaced.
        """
        sweep(self.path.parent)
        with scratch_folder(self.path) as folder:
            yield folder
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            listed = {p.relative_to(folder).as_posix(): file_sha256(p) for p in files}
            (folder / INPUTS_FILE).write_text(self.inputs)
            (folder / OUTPUTS_FILE).write_text(json.dumps({"files": listed}, indent=1, sort_keys=True) + "\n")
            publish(folder, self.path)


def open_stage(root: Path, stage: str, inputs: Mapping[str, object]) -> StageFolder:
    """The folder of ``stage`` for ``inputs`` under ``root``: look at ``finished``, then read it or ``build`` it.

    ``inputs`` must name everything that decides the result: file hashes, options, seed, versions. Raises
    SchemaError when they are not plain JSON values.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     stage = open_stage(Path(name), "fit", {"seed": 1})
    ...     with stage.build() as folder:
    ...         _ = (folder / "proxy.json").write_text("{}")
    ...     stage.finished, sorted(p.name for p in stage.path.iterdir())
    (True, ['inputs.json', 'outputs.json', 'proxy.json'])
    """
    return StageFolder(root / stage / hash_inputs(inputs)[:12], canonical_json(inputs) + "\n")


@contextlib.contextmanager
def scratch_folder(final: Path) -> Iterator[Path]:
    """A new, empty, hidden folder beside ``final``, to be published from; an exception, Ctrl-C included, removes it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{final.name}-{_host()}-", dir=final.parent))
        with _locked(folder, wait=True):
            if not folder.is_dir():
                continue  # swept between its making and its locking
            try:
                yield folder
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return


def sweep(parent: Path) -> None:
    """Nothing is left in ``parent`` of writers on this host that were killed; folders being written stay.

    Where the file system has no locks on folders (NFS), everything stays: a leftover is hidden and never read.
    """
    for folder in parent.glob(f".*-{_host()}-*"):
        with _locked(folder, wait=False) as locked:
            if locked:
                shutil.rmtree(folder, ignore_errors=True)
    for folder in parent.glob(".old-*"):  # replaced by publish, wanted by nobody
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether the lock on ``folder`` was obtained. The kernel frees it when this process ends, however it ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _host() -> str:
    # Some shared file systems grant locks that hold on one host only; another host's folders are left alone.
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())


def publish(folder: Path, final: Path) -> None:
    """``folder`` is now called ``final``, whatever was there before; no moment shows a half-written folder."""
    while True:
        try:
            folder.replace(final)
            return
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        # A folder cannot replace one with files in it: move that one aside first. Another process may have done
        # so already, or have published its own in between; then the next round sees it.
        aside = Path(tempfile.mkdtemp(prefix=f".old-{final.name}-", dir=final.parent))
        with contextlib.suppress(FileNotFoundError):
            final.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)
