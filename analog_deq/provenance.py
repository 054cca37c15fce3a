"""Where a file came from: the block every file of ours carries, and the checks readers make of it."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from analog_deq.errors import SchemaError

_SCHEMA = re.compile(r"(?P<name>[a-z_][a-z0-9_.]*)/(?P<major>\d+)(\.\d+)*\Z")


def package_version() -> str:
    """Version of the installed analog-deq; ``unknown`` when it runs from a bare source tree."""
    try:
        return version("analog-deq")
    except PackageNotFoundError:
        return "unknown"


@cache
def package_sha256() -> str:
    """Hash of the package's own source files: what a finished stage was made by, whatever its version says."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.j2"), *root.rglob("*.css")]):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Provenance(BaseModel):
    """Origin of one file: schema, versions, hashes of the inputs, seed, and the unit of each column.

    ``inputs`` maps a name to a sha256, ``units`` a column to its unit. ``ngspice_version`` and ``solver`` are None
    for a file no simulator had a part in, ``seed`` for one without randomness.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: str
    schema_version: int = Field(ge=1)
    package_version: str = Field(default_factory=package_version)
    ngspice_version: str | None = None
    solver: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    units: dict[str, str] = Field(default_factory=dict)
    command: str | None = None

    @property
    def schema_id(self) -> str:
        """Text such as ``analog_deq.proxy/1``, the value of the ``schema`` key in JSON files.

        >>> Provenance(schema_name="analog_deq.proxy", schema_version=1).schema_id
        'analog_deq.proxy/1'
        """
        return f"{self.schema_name}/{self.schema_version}"


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes. OSError when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_schema(found: object, expected: str, path: Path) -> None:
    """Nothing, when ``found`` is the schema ``expected``, such as ``analog_deq.proxy/1``; minor parts may differ.

    Raises SchemaError, naming ``path``, for a missing or malformed schema, another schema, or an unknown major.

    >>> require_schema("analog_deq.proxy/1.2", "analog_deq.proxy/1", Path("proxy.json"))
    """
    wanted = _SCHEMA.match(expected)
    if wanted is None:
        raise ValueError(f"{expected!r} is no schema; write name/major")
    match = _SCHEMA.match(found) if isinstance(found, str) else None
    if match is None:
        raise SchemaError(f"{path}: schema is {found!r}, expected {expected!r}; is this a file of analog-deq?")
    if match["name"] != wanted["name"]:
        raise SchemaError(f"{path}: schema is {found!r}, expected {expected!r}; this is another kind of file")
    if match["major"] != wanted["major"]:
        newer = int(match["major"]) > int(wanted["major"])
        mend = "upgrade analog-deq" if newer else "make it again with this version"
        raise SchemaError(f"{path}: schema is {found!r}, this version reads {expected!r}; {mend}")
