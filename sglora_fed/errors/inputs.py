"""What a user gives: configuration, plug-ins and tasks (1xx, 2xx)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class ConfigError(SgloraError):
    """An override or a configuration value is wrong; ``problems`` lists all of them."""

    code = 100
    title = "configuration is wrong"
    resolve = (
        "Each line names one value and what is allowed. Correct them all and run again; "
        "docs/reference/configuration.md lists every option."
    )

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class HomeMissingError(SgloraError):
    """There is no home directory to keep zoos in, as for a container's user without an entry."""

    code = 101
    title = "no home directory"
    resolve = "Set SGLORA_FED_HOME to a folder that you may write to, or set HOME."


class PluginError(SgloraError):
    """A plug-in cannot be loaded: its file is not there, or its code raises an error."""

    code = 102
    title = "plug-in cannot be loaded"
    resolve = (
        "The message names the file or the entry point, and what its code raised. Correct it, take "
        "it out of SGLORA_FED_PLUGINS, or uninstall the package that brings it."
    )


class TaskError(SgloraError):
    """A task is unusable: empty or duplicate labels, one class only, unknown label, no examples."""

    code = 200
    title = "task is unusable"
    resolve = (
        "Correct the task that the message names: at least two labels with different, non-empty "
        "texts, and at least one example of every label in each part."
    )


class TaskFileError(SgloraError):
    """A task family on disk or hub cannot be read: missing file, bad JSON line, unknown field."""

    code = 201
    title = "task file cannot be read"
    resolve = (
        "Open the file at the line that the message names and correct it; docs/how-to/own-data.md "
        "describes the format. For a hub data set install the extra `hub` or give family.path."
    )


class TextsAlikeError(SgloraError):
    """Different words that the model reads as one text: nothing could tell what they name apart."""

    code = 202
    title = "different texts are one to the model"
    resolve = (
        "Say what the message names in words that the model knows: emoji, scripts and accents that "
        "its vocabulary lacks all look the same to it. Labels and hints of a task must differ; "
        "descriptions of two tasks may be alike only where they are the same words."
    )
