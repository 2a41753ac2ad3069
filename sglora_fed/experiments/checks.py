"""What can be told before anything starts: from a client only a code would come back."""

from __future__ import annotations

from collections.abc import Sequence

from sglora_fed.config.schema import (
    GENERATORS,
    ITEMS,
    POLICY_METHOD,
    PRIVATE_METHODS,
    TRAINED_METHODS,
    RunConfig,
)
from sglora_fed.errors import BackboneInputError, ConfigError, TaskError
from sglora_fed.experiments.tracking import check_tracking
from sglora_fed.tasks import Task, load_family
from sglora_fed.tasks.drawn import Drawn
from sglora_fed.tasks.public import LIST, public_captions
from sglora_fed.tasks.types import Kind, Planned, untrained

NAMED = 5
"""Files that one message names."""


def check_runnable(config: RunConfig) -> None:
    """Refuse a run whose tasks and settings do not fit one another.

    Raises:
        TaskFileError, TaskError: when the family cannot be read, or has too few tasks for a run.
        ConfigError: naming everything else that does not fit.
        CatalogueError: when the list that descriptions refer to is missing, or too short.
        VocabularyError, TextsAlikeError: when a model does not know the words of the tasks, or
            cannot tell them apart.
        BackboneInputError: naming picture files that cannot be read.
        TrackingError: when the tracker is not installed.
    """
    check_tracking(config.tracking)
    family = load_family(config.family)
    experts, clients = family.of_role("expert"), family.of_role("client")
    if len(experts) < 2 or not clients:
        raise TaskError(
            f"family {family.name!r} has {len(experts)} experts and {len(clients)} clients; a run"
            " needs two experts and a client"
        )
    problems, first = [], family.tasks[0]
    wanted = ITEMS[config.backbone.name]
    if first.modality != wanted:  # a family has one
        problems.append(
            f"backbone={config.backbone.name}: takes {wanted} items; {len(family.tasks)} tasks,"
            f" first {first.id!r}, have others"
        )
    if lacking := untrained(experts):
        problems.append(f"family: experts without training examples: {lacking[:5]}")
    bare = untrained(clients)
    own = (*TRAINED_METHODS, *PRIVATE_METHODS)
    needs = {*own, *([POLICY_METHOD] if first.kind == "retrieval" else [])}
    trained = [name for name in config.experiment.methods if name in needs]
    if bare and trained:
        problems.append(
            f"experiment.methods has {trained}, but {len(bare)} clients, first {bare[0]!r}, have no"
            " training examples; leave these methods out"
        )
    problems += _private_problems(config, first.kind)
    if problems:
        raise ConfigError(problems)
    # Each costs more than all above, which has to be well first.
    from sglora_fed.experiments.words import check_words
    from sglora_fed.federation.readings import check_catalogue

    check_catalogue(config)
    check_words(config.family, config.backbone)
    _check_pictures(family.tasks)
    _check_device(config.backbone.device)


def _private_problems(config: RunConfig, kind: Kind) -> list[str]:
    """What training with noise needs of the tasks and the generators."""
    if config.privacy.training.epsilon is None:
        return []
    given, found = f"privacy.training.epsilon={config.privacy.training.epsilon!r}", []
    if kind == "retrieval" and not public_captions(config.family):
        found.append(
            f"{given}: a pair is compared with a public list of captions, which family="
            f"{config.family.name} lacks; write {LIST} into a folder for family=local"
        )
    from sglora_fed.generators import is_federated, make_generator

    names = dict.fromkeys((*config.experiment.methods, config.generator.name))
    learning = [
        name
        for name in names
        if name in GENERATORS and is_federated(make_generator(config.generator, name))
    ]
    if len(learning) > 1:
        found.append(
            f"{given}: covers the rounds of one generator, not of {learning}; leave one out"
        )
    return found


def _check_device(name: str) -> None:
    if name != "cpu":
        from sglora_fed.backbones.device import available_device

        available_device(name)


def _check_pictures(tasks: Sequence[Task]) -> None:
    """Thousands of files: all that cannot be read are counted, a few named."""
    from sglora_fed.backbones.pictures import check_picture

    if isinstance(tasks, Planned) or tasks[0].modality != "image":
        return
    parts = [part for task in tasks for part in (task.train, task.test)]
    # What is drawn is in no file.
    items = [e.item for part in parts if not isinstance(part, Drawn) for e in part]
    paths = {item for item in items if isinstance(item, str)}
    failed = []
    for path in sorted(paths):
        try:
            check_picture(path)
        except BackboneInputError as error:
            failed.append(str(error.args[0]))
    if failed:
        named = "; ".join(failed[:NAMED])
        raise BackboneInputError(f"{len(failed)} of {len(paths)} pictures are unusable: {named}")
