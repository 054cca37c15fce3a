"""Writes docs/report.schema.json and docs/report.md from the model of report.json. ``make docs`` runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from analog_deq.verify.report_schema import (
    CheckFields,
    LimitFields,
    ProvenanceFields,
    ReportFile,
    SectionFields,
    WorstFields,
)

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEADER = """# report.json

Written by `make docs` from `analog_deq/verify/report_schema.py`. What `verify` states, for programs; a reader refuses
a file that lacks a field or has another. [report.schema.json](report.schema.json) says the same as JSON Schema. Numbers
that are not finite are null. `analog-deq verify --json` prints the checks on stdout too, and ends with the verdict's
exit code.

```python
import json

report = json.load(open("signoff/report.json"))
assert report["schema"] == "analog_deq.verify_report/2"
failed = [check["id"] for check in report["checks"] if check["status"] == "fail"]
```
"""


def schema_text() -> str:
    """The JSON Schema of report.json."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", **ReportFile.model_json_schema(by_alias=True)
    }  # fmt: skip
    return json.dumps(schema, indent=1) + "\n"


def page_text() -> str:
    """Markdown: one table for each object of report.json."""
    parts = [HEADER]
    for title, model in (
        ("The file", ReportFile), ("checks[]", CheckFields), ("checks[].limit", LimitFields),
        ("checks[].worst", WorstFields), ("sections[]", SectionFields), ("provenance", ProvenanceFields),
    ):  # fmt: skip
        rows = [
            f"| `{field.alias or name}` | {type_text(field.annotation)} | {field.description} |"
            for name, field in model.model_fields.items()
        ]
        parts.append(
            "\n".join([f"## {title}\n", f"{model.__doc__}\n", "| field | type | meaning |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def type_text(annotation: Any) -> str:
    """A JSON type as people say it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    names = {str: "text", int: "integer", float: "number", dict: "object", list: "list", type(None): "null"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in names or origin in names:
        inner = f" of {type_text(arguments[0])}s" if origin is list and arguments else ""
        return names.get(annotation) or f"{names[origin]}{inner}"
    if str(origin) == "typing.Literal":
        return " \\| ".join(f"`{word}`" for word in arguments)
    if hasattr(annotation, "__metadata__"):
        return type_text(arguments[0])
    return " or ".join(type_text(part) for part in arguments)


if __name__ == "__main__":
    for name, text in (("report.schema.json", schema_text()), ("report.md", page_text())):
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"wrote {DOCS / name}")
