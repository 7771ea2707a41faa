"""What every part of the configuration is made of, and what node and client share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Every section is frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is written; none ever has addresses, targets, keys or payload."""
    format: Literal["text", "json"] = "text"


class PluggableProgram(Section):
    """A program that speaks Tor's pluggable-transport protocol."""

    transports: tuple[str, ...]
    program: str
    arguments: tuple[str, ...] = ()
