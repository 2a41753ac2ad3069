"""Errors of sglora-fed: one base class, a stable code each, listed in the docs.

Every error names the offending value and what is allowed. Codes never change their meaning;
hundreds group them by part: 1xx configuration, 2xx tasks, 3xx backbones, 4xx adapters, 5xx zoo,
6xx generators, 7xx privacy, 8xx federation, 9xx results on disk.
"""

from __future__ import annotations

from typing import ClassVar


class SgloraError(Exception):
    """Base of all errors raised by sglora-fed; ``str()`` starts with the code."""

    code: ClassVar[int] = 0
    title: ClassVar[str] = "unspecified"

    def __str__(self) -> str:
        return f"[SGL-{self.code}] {self.args[0] if self.args else self.title}"


class ConfigError(SgloraError):
    """An override or a configuration value is wrong; ``problems`` lists all of them."""

    code = 100
    title = "configuration is wrong"

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class TaskError(SgloraError):
    """A task is unusable: empty or duplicate labels, one class only, unknown label, no examples."""

    code = 200
    title = "task is unusable"


class TaskFileError(SgloraError):
    """A task family on disk or hub cannot be read: missing file, bad JSON line, unknown field."""

    code = 201
    title = "task file cannot be read"


class BackboneMissingError(SgloraError):
    """The backbone's weights are in none of the places that were searched."""

    code = 300
    title = "backbone weights not found"


class BackboneHashError(SgloraError):
    """The backbone's weights are there, but their sha256 is not the expected one."""

    code = 301
    title = "backbone weights have another hash"


class BackboneInputError(SgloraError):
    """An item cannot be encoded: unreadable image, empty text."""

    code = 302
    title = "item cannot be encoded"


class BackboneFileError(SgloraError):
    """A checkpoint is there but cannot be used: truncated, of another architecture, incomplete."""

    code = 303
    title = "backbone checkpoint cannot be read"


class LayoutError(SgloraError):
    """A layout does not fit the model or the vector: unknown module, other size, other rank."""

    code = 400
    title = "adapter layout does not fit"


class AdapterValueError(SgloraError):
    """An adapter holds a value that may not be used: NaN, infinity, or a norm beyond the bound."""

    code = 401
    title = "adapter values are unusable"


class AdapterFileError(SgloraError):
    """An adapter directory cannot be read as a PEFT LoRA of the expected layout."""

    code = 402
    title = "adapter directory cannot be read"


class ZooDamagedError(SgloraError):
    """A zoo on disk is truncated, has another checksum, or misses a file."""

    code = 500
    title = "zoo is damaged"


class ZooForeignError(SgloraError):
    """A zoo on disk belongs to another backbone, layout, encoder or configuration."""

    code = 501
    title = "zoo belongs to another configuration"


class ZooSizeError(SgloraError):
    """The zoo holds too few experts for what is asked of it."""

    code = 502
    title = "zoo holds too few experts"


class GeneratorError(SgloraError):
    """A generator cannot be fitted or used: wrong dimensions, not fitted, unknown name."""

    code = 600
    title = "generator cannot be used"


class GeneratorFileError(SgloraError):
    """A generator file is damaged, or was made for another layout, backbone or encoder."""

    code = 601
    title = "generator file cannot be used"


class PrivacyError(SgloraError):
    """Privacy parameters are impossible, or a vector is not fit for release."""

    code = 700
    title = "privacy mechanism cannot be used"


class MessageError(SgloraError):
    """A message from the network is not what was agreed: names, shapes, types, or finite values."""

    code = 800
    title = "message is not what was agreed"


class RepliesError(SgloraError):
    """Fewer usable replies arrived than the run needs."""

    code = 801
    title = "too few replies"


class ClientTaskError(SgloraError):
    """Work on a client failed; only this code crosses the network, never the reason."""

    code = 802
    title = "a client failed"


class LaunchError(SgloraError):
    """Flower could not be started, or the run ended with an error."""

    code = 803
    title = "the Flower run failed"


class ResultsError(SgloraError):
    """Results cannot be written or read: no space, no permission, or another schema."""

    code = 900
    title = "results cannot be written or read"
