"""When a plan was made, and by what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)


class Made(BaseModel):
    """When and by what a plan was made.

    Attributes:
        at: When, in UTC and to the second.
        command: The command line as it was typed, quoted as a shell needs it; None from Python.
        config: The config as it was named; None where there was none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    command: str | None = None
    config: str | None = None

    @classmethod
    def now(cls, command: str | None, config: str | None) -> Self:
        """Made at this moment."""
        return cls(at=datetime.now(UTC).replace(microsecond=0), command=command, config=config)

    @property
    def when(self) -> str:
        """The moment in UTC, as ISO 8601 writes it."""
        return self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @model_serializer(mode="wrap")
    def _without_what_there_was_not(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}
