"""Reading a record from JSON: errors name the file and what is wrong with it."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Record = TypeVar("Record", bound=BaseModel)


def read_record(
    kind: type[Record], text: str | bytes, newest: int, schema: str, is_none: str, is_wrong: str
) -> Record:
    """A record from JSON, checked to agree with itself.

    Args:
        kind: Its class.
        text: JSON.
        newest: The newest ``schema_version`` that is read.
        schema: Which schema of which file, for the message about a newer one.
        is_none: What to say of text that is no such record.
        is_wrong: What to say of one that is wrong.

    Raises:
        ValueError: If it is no such record, is of a newer schema or contradicts itself.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{is_none}: not JSON ({error})") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{is_none}: it has no schema_version")
    if version > newest:
        raise ValueError(
            f"{schema} {version}, this version reads up to {newest}: upgrade terratorch-simpler"
        )
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{is_wrong}: {where + ': ' if where else ''}{reason}") from error
