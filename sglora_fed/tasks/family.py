"""A family of rules and styles over topics, with splits fixed by the seed before any result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.rules import Form, Rule, rule_task
from sglora_fed.tasks.styles import STYLES, style_task
from sglora_fed.tasks.topics import Part, TopicLike
from sglora_fed.tasks.types import EXPERT_SPLIT, Role, Task, TaskFamily

HELD_OUT = 3
"""Topics that no expert knows."""

IN_RULE = 3
"""Topics that a rule names."""

FORMS: tuple[tuple[Form, float], ...] = (("set", 0.6), ("exception", 0.2), ("priority", 0.2))
"""Form of a rule -> share of the rules."""

Pair = tuple[TopicLike, str]


def build_family(name: str, topics: Sequence[TopicLike], config: FamilyConfig) -> TaskFamily:
    """Experts and unseen clients of all four splits.

    ``new_rule``: a set of seen topics that no expert's rule has. ``new_topic``: a rule that names
    a held-out topic. ``combo``: topic and style each seen, never together. ``new_domain``: a
    held-out topic in a seen style.

    Args:
        name: of the family.
        topics: at least seven, else a rule has no rest.
        config: sizes and seed.

    Raises:
        TaskError: when the topics allow fewer different tasks than asked for.
    """
    if len(topics) < HELD_OUT + IN_RULE + 1:
        raise TaskError(f"{name}: {len(topics)} topics; at least {HELD_OUT + IN_RULE + 1}")
    rng = np.random.default_rng(derive_seed(config.seed, "family", name))
    order = rng.permutation(len(topics))
    held_out = [topics[i] for i in order[:HELD_OUT]]
    seen = [topics[i] for i in order[HELD_OUT:]]
    rules = _rule_tasks(seen, held_out, config, rng)
    styles = _style_tasks(seen, held_out, config, rng) if config.style_experts else []
    return TaskFamily(name, (*rules, *styles))


def _rule_tasks(
    seen: list[TopicLike], held_out: list[TopicLike], config: FamilyConfig, rng: np.random.Generator
) -> list[Task]:
    if not config.rule_experts:
        return []
    sets = list(combinations(range(len(seen)), IN_RULE))
    rng.shuffle(sets)
    needed = config.rule_experts + config.clients_per_split
    if needed > len(sets):
        raise TaskError(
            f"{len(seen)} seen topics give {len(sets)} rules; family.rule_experts +"
            f" family.clients_per_split is {needed}"
        )
    known = [_rule([seen[i] for i in chosen], seen, rng) for chosen in sets[:needed]]
    experts, fresh = known[: config.rule_experts], known[config.rule_experts :]
    pairs = list(combinations(range(len(seen)), IN_RULE - 1))
    rng.shuffle(pairs)
    foreign = [
        _rule([held_out[n % HELD_OUT], *(seen[i] for i in pair)], [*seen, *held_out], rng)
        for n, pair in enumerate(pairs[: config.clients_per_split])
    ]
    return [
        *_numbered_rules("rule-expert", experts, "expert", EXPERT_SPLIT, config),
        *_numbered_rules("new_rule", fresh, "client", "new_rule", config),
        *_numbered_rules("new_topic", foreign, "client", "new_topic", config),
    ]


def _rule(chosen: list[TopicLike], known: Sequence[TopicLike], rng: np.random.Generator) -> Rule:
    """A rule about some topics; its form is drawn."""
    keys = {topic.key for topic in chosen}
    others = tuple(topic for topic in known if topic.key not in keys)
    form = FORMS[int(rng.choice(len(FORMS), p=[share for _, share in FORMS]))][0]
    if form == "priority":
        return Rule(form, (chosen[0],), others, second=tuple(chosen[1:]))
    excluded = int(rng.integers(len(chosen[0].intents)))
    return Rule(form, tuple(chosen), others, excluded=excluded)


def _numbered_rules(
    prefix: str, rules: Sequence[Rule], role: Role, split: str, config: FamilyConfig
) -> list[Task]:
    return [
        rule_task(f"{prefix}-{number:03d}", rule, role, split, _sizes(config), config.seed)
        for number, rule in enumerate(rules)
    ]


def _style_tasks(
    seen: list[TopicLike], held_out: list[TopicLike], config: FamilyConfig, rng: np.random.Generator
) -> list[Task]:
    experts, rest = _cover(seen, config.style_experts, rng)
    known_topics = {topic.key for topic, _ in experts}
    known_styles = {style for _, style in experts}
    combos = [(t, s) for t, s in rest if t.key in known_topics and s in known_styles]
    foreign = list(product(held_out, sorted(known_styles)))
    rng.shuffle(foreign)
    for split, pairs in (("combo", combos), ("new_domain", foreign)):
        if len(pairs) < config.clients_per_split:
            raise TaskError(
                f"{split}: {len(pairs)} pairs of topic and style;"
                f" family.clients_per_split is {config.clients_per_split}"
            )
    count = config.clients_per_split
    return [
        *_numbered_styles("style-expert", experts, "expert", EXPERT_SPLIT, config),
        *_numbered_styles("combo", combos[:count], "client", "combo", config),
        *_numbered_styles("new_domain", foreign[:count], "client", "new_domain", config),
    ]


def _cover(
    seen: list[TopicLike], count: int, rng: np.random.Generator
) -> tuple[list[Pair], list[Pair]]:
    """Expert pairs that use topics and styles as evenly as possible, and all other pairs.

    Diagonals of the table topics x styles: each holds every topic once.
    """
    styles = [list(STYLES)[i] for i in rng.permutation(len(STYLES))]
    pairs = [
        (topic, styles[(row + shift) % len(styles)])
        for shift in range(len(styles))
        for row, topic in enumerate(seen)
    ]
    if count >= len(pairs):
        raise TaskError(f"family.style_experts={count}: at most {len(pairs) - 1} pairs exist")
    rest = pairs[count:]
    rng.shuffle(rest)
    return pairs[:count], rest


def _numbered_styles(
    prefix: str, pairs: Sequence[Pair], role: Role, split: str, config: FamilyConfig
) -> list[Task]:
    return [
        style_task(f"{prefix}-{n:03d}", topic, style, role, split, _sizes(config), config.seed)
        for n, (topic, style) in enumerate(pairs)
    ]


def _sizes(config: FamilyConfig) -> dict[Part, int]:
    return {"train": config.train_per_client, "test": config.test_per_client}
