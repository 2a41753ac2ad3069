"""A family of rules and styles over topics, with splits fixed by the seed before any result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import comb

import numpy as np

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.other_author import OTHER_AUTHOR
from sglora_fed.tasks.rules import Form, Rule, reworded_rule, rule_task
from sglora_fed.tasks.styles import STYLES, reworded_style, style_task
from sglora_fed.tasks.topics import Part, Slot, TopicLike
from sglora_fed.tasks.types import EXPERT_SPLIT, Role, Task, TaskFamily

HELD_OUT = 3
"""Topics that no expert knows; fewer when the others would not give enough tasks."""

IN_RULE = 3
"""Topics that a rule names."""

SHARES: Mapping[Form, float] = {"set": 0.6, "exception": 0.2, "priority": 0.2}
"""How often a rule has each form."""

UNSEEN_FORMS: Mapping[str, tuple[Form, int]] = {
    "one_topic": ("set", 1),
    "five_topics": ("set", 5),
    "exception": ("exception", IN_RULE),
    "priority": ("priority", IN_RULE),
}
"""Split -> form and number of topics of rules that no expert has; see ``family.unseen_forms``."""

NEW_WORDS = "new_words"
"""Split of tasks in the words of another author."""

Pair = tuple[TopicLike, str]


def build_family(name: str, topics: Sequence[TopicLike], config: FamilyConfig) -> TaskFamily:
    """Experts and unseen clients of all splits.

    ``new_rule``: a set of seen topics that no expert's rule has. ``new_topic``: a rule that names
    a held-out topic. ``combo``: topic and style each seen, never together. ``new_domain``: a
    held-out topic in a seen style. ``new_words``, where the topics have names by another author:
    the tasks of ``new_rule`` (of ``combo`` in a family without rules) in that author's words, so
    that whatever differs is due to the words.

    Args:
        name: of the family.
        topics: at least five, else a rule has no rest.
        config: sizes and seed; without experts of a kind, the family has none of that kind.

    Raises:
        TaskError: when the topics allow fewer different tasks than asked for.
    """
    count = _held_out(name, len(topics), config)
    rng = np.random.default_rng(derive_seed(config.seed, "family", name))
    order = rng.permutation(len(topics))
    held_out = [topics[i] for i in order[:count]]
    seen = [topics[i] for i in order[count:]]
    rules = _rule_tasks(seen, held_out, config, rng)
    styles = _style_tasks(seen, held_out, config, rng) if config.style_experts else []
    return TaskFamily(name, (*rules, *styles))


def _held_out(name: str, topics: int, config: FamilyConfig) -> int:
    """How many topics to hold out: as many as leave enough different tasks."""
    for count in range(HELD_OUT, 0, -1):
        if _enough(topics - count, count, config):
            return count
    raise TaskError(
        f"{name}: {topics} topics are too few for family.rule_experts={config.rule_experts},"
        f" family.style_experts={config.style_experts} and"
        f" family.clients_per_split={config.clients_per_split}; ask for fewer"
    )


def _enough(seen: int, held_out: int, config: FamilyConfig) -> bool:
    clients = config.clients_per_split
    rules = seen > IN_RULE and (
        comb(seen, IN_RULE) >= config.rule_experts + clients and comb(seen, IN_RULE - 1) >= clients
    )
    known = len(STYLES) - config.unseen_styles
    styles = seen * known >= config.style_experts + clients and held_out * known >= clients
    return (rules or not config.rule_experts) and (styles or not config.style_experts)


def _rule_tasks(
    seen: list[TopicLike], held_out: list[TopicLike], config: FamilyConfig, rng: np.random.Generator
) -> list[Task]:
    if not config.rule_experts:
        return []
    sets = list(combinations(range(len(seen)), IN_RULE))
    rng.shuffle(sets)
    named = {index for chosen in sets[: config.rule_experts] for index in chosen}
    experts = [_rule([seen[i] for i in c], seen, config, rng) for c in sets[: config.rule_experts]]
    known_sets = _of(named, sets[config.rule_experts :], "new_rule", config)
    fresh = [_rule([seen[i] for i in chosen], seen, config, rng) for chosen in known_sets]
    pairs = list(combinations(range(len(seen)), IN_RULE - 1))
    rng.shuffle(pairs)
    foreign = [
        _rule(
            [held_out[n % len(held_out)], *(seen[i] for i in pair)],
            [*seen, *held_out],
            config,
            rng,
        )
        for n, pair in enumerate(_of(named, pairs, "new_topic", config))
    ]
    clients = _numbered_rules("new_rule", fresh, "client", "new_rule", config)
    return [
        *_numbered_rules("rule-expert", experts, "expert", EXPERT_SPLIT, config),
        *clients,
        *_numbered_rules("new_topic", foreign, "client", "new_topic", config),
        *(_reworded_rules(clients, fresh, config) if _other_names(seen) else ()),
        *_unseen_forms(seen, config),
    ]


def _other_names(topics: Sequence[TopicLike]) -> bool:
    return all(topic.names_test for topic in topics)


def _reworded_rules(
    tasks: Sequence[Task], rules: Sequence[Rule], config: FamilyConfig
) -> list[Task]:
    return [
        reworded_rule(task, rule, OTHER_AUTHOR, _new_words(number, config), config.several_ways)
        for number, (task, rule) in enumerate(zip(tasks, rules, strict=True))
    ]


def _unseen_forms(seen: list[TopicLike], config: FamilyConfig) -> list[Task]:
    """Clients whose rules have a form or a number of topics that no expert's rule has."""
    tasks = []
    for split in UNSEEN_FORMS if config.unseen_forms else ():
        rng = np.random.default_rng(derive_seed(config.seed, "form", split))
        form, count = UNSEEN_FORMS[split]
        rules = []
        for _ in range(config.clients_per_split):
            order = rng.permutation(len(seen))[:count]
            rules.append(_rule_of(form, [seen[i] for i in order], seen, rng))
        tasks += _numbered_rules(split, rules, "client", split, config)
    return tasks


def _of(
    named: set[int], sets: Sequence[tuple[int, ...]], split: str, config: FamilyConfig
) -> list[tuple[int, ...]]:
    """The split's sets: of topics that some expert's rule names, the rest would be new topics."""
    known = [chosen for chosen in sets if named.issuperset(chosen)]
    if len(known) < config.clients_per_split:
        raise TaskError(
            f"{split}: the experts' rules name {len(named)} topics, which leaves {len(known)}"
            f" rules; family.clients_per_split is {config.clients_per_split}:"
            " take more family.rule_experts or fewer clients"
        )
    return known[: config.clients_per_split]


def _rule(
    chosen: list[TopicLike],
    known: Sequence[TopicLike],
    config: FamilyConfig,
    rng: np.random.Generator,
) -> Rule:
    """A rule about some topics; its form is drawn, unless other forms are to stay unseen."""
    forms: list[Form] = ["set"] if config.unseen_forms else list(SHARES)
    shares = np.array([SHARES[form] for form in forms])
    form = forms[int(rng.choice(len(forms), p=shares / shares.sum()))]
    return _rule_of(form, chosen, known, rng)


def _rule_of(
    form: Form, chosen: list[TopicLike], known: Sequence[TopicLike], rng: np.random.Generator
) -> Rule:
    keys = {topic.key for topic in chosen}
    others = tuple(topic for topic in known if topic.key not in keys)
    if form == "priority":
        return Rule(form, (chosen[0],), others, second=tuple(chosen[1:]))
    excluded = int(rng.integers(len(chosen[0].intents)))
    return Rule(form, tuple(chosen), others, excluded=excluded)


def _numbered_rules(
    prefix: str, rules: Sequence[Rule], role: Role, split: str, config: FamilyConfig
) -> list[Task]:
    return [
        rule_task(rule, _slot(prefix, number, role, split, config), config.several_ways)
        for number, rule in enumerate(rules)
    ]


def _style_tasks(
    seen: list[TopicLike], held_out: list[TopicLike], config: FamilyConfig, rng: np.random.Generator
) -> list[Task]:
    names = [list(STYLES)[i] for i in rng.permutation(len(STYLES))]
    unseen, known = names[: config.unseen_styles], names[config.unseen_styles :]
    experts, rest = _cover(seen, known, config.style_experts, rng)
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
    fresh = list(product(seen, unseen))
    rng.shuffle(fresh)
    count = config.clients_per_split
    clients = _numbered_styles("combo", combos[:count], "client", "combo", config)
    reworded = _other_names(seen) and not config.rule_experts
    return [
        *_numbered_styles("style-expert", experts, "expert", EXPERT_SPLIT, config),
        *clients,
        *(_reworded_styles(clients, combos, config) if reworded else ()),
        *_numbered_styles("new_domain", foreign[:count], "client", "new_domain", config),
        *_numbered_styles("new_style", fresh[:count], "client", "new_style", config),
    ]


def _cover(
    seen: list[TopicLike], styles: list[str], count: int, rng: np.random.Generator
) -> tuple[list[Pair], list[Pair]]:
    """Expert pairs that use topics and styles as evenly as possible, and all other pairs.

    Diagonals of the table topics x styles: each holds every topic once.
    """
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
        style_task(topic, style, _slot(prefix, number, role, split, config))
        for number, (topic, style) in enumerate(pairs)
    ]


def _reworded_styles(
    tasks: Sequence[Task], pairs: Sequence[Pair], config: FamilyConfig
) -> list[Task]:
    return [
        reworded_style(task, topic, style, OTHER_AUTHOR, _new_words(number, config))
        for number, (task, (topic, style)) in enumerate(zip(tasks, pairs, strict=False))
    ]


def _slot(prefix: str, number: int, role: Role, split: str, config: FamilyConfig) -> Slot:
    sizes: dict[Part, int] = {"train": config.train_per_client, "test": config.test_per_client}
    return Slot(f"{prefix}-{number:03d}", role, split, sizes, config.seed)


def _new_words(number: int, config: FamilyConfig) -> Slot:
    return _slot(NEW_WORDS, number, "client", NEW_WORDS, config)
