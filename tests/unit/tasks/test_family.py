"""Splits are what they say: told from the sentences and texts, not from the builder's variables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError
from sglora_fed.tasks import load_family
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.local import local_family
from sglora_fed.tasks.splits import seeded_roles
from sglora_fed.tasks.styles import STYLES
from sglora_fed.tasks.topics import PlainIntent, PlainTopic
from sglora_fed.tasks.types import Task, TaskFamily

CONFIG = FamilyConfig()
FAMILY = load_family(CONFIG)
TOPICS = {topic.key: topic for topic in load_topics()}
TOPIC_OF = {
    text: topic.key
    for topic in TOPICS.values()
    for intent in topic.intents
    for text in intent.train + intent.test
}
TOPIC_OF_LABELS = {tuple(i.name for i in topic.intents): topic.key for topic in TOPICS.values()}


def split(name: str, family: TaskFamily = FAMILY) -> list[Task]:
    return [task for task in family.tasks if task.id.startswith(f"{name}-")]


def named_topics(task: Task) -> frozenset[str]:
    """Topics of all labels but the last: those that the rule names."""
    last = list(task.labels)[-1]
    return frozenset(TOPIC_OF[e.item] for e in task.train if e.label != last)


def style_pair(task: Task) -> tuple[str, str]:
    topic = TOPIC_OF_LABELS[tuple(task.labels.values())]
    intents = TOPICS[topic].intents
    for style, change in STYLES.items():
        typed = [{change(text) for text in intent.train} for intent in intents]
        if all(e.item in typed[int(e.label[1:])] for e in task.train):
            return topic, style
    raise AssertionError(task.id)


def test_sizes_roles_and_ids() -> None:
    assert [t.id for t in split("rule-expert")] == [
        f"rule-expert-{n:03d}" for n in range(CONFIG.rule_experts)
    ]
    assert len(split("style-expert")) == CONFIG.style_experts
    for name in ("new_rule", "new_topic", "new_words", "combo", "new_domain"):
        tasks = split(name)
        assert len(tasks) == CONFIG.clients_per_split
        assert {(t.role, t.split) for t in tasks} == {("client", name)}
    experts = FAMILY.of_role("expert")
    assert len(experts) == CONFIG.rule_experts + CONFIG.style_experts
    assert {t.split for t in experts} == {"expert"}


def test_no_client_has_an_experts_rule() -> None:
    experts = [named_topics(task) for task in split("rule-expert")]
    assert len(set(experts)) == len(experts), "each expert has a set of its own"
    known = frozenset().union(*experts)
    for task in split("new_rule"):
        assert named_topics(task) not in experts
        assert named_topics(task) <= known


def test_new_topics_are_known_to_no_expert() -> None:
    shown = {TOPIC_OF[e.item] for task in split("rule-expert") for e in task.train + task.test}
    held_out = set(TOPICS) - shown
    assert len(held_out) == 3
    assert not held_out & {style_pair(task)[0] for task in split("style-expert")}
    for task in split("new_topic"):
        assert len(named_topics(task) & held_out) == 1
    assert held_out == {t for task in split("new_topic") for t in named_topics(task)} - shown
    for task in split("new_topic"):
        everything = {TOPIC_OF[e.item] for e in task.train}
        assert everything == set(TOPICS), "the rest holds the other unknown topics too"


def test_styles_of_clients() -> None:
    experts = {style_pair(task) for task in split("style-expert")}
    topics, styles = {t for t, _ in experts}, {s for _, s in experts}
    combos = [style_pair(task) for task in split("combo")]
    domains = [style_pair(task) for task in split("new_domain")]
    assert len(set(combos)) == len(combos)
    assert len(set(domains)) == len(domains)
    assert not experts & set(combos)
    assert all(t in topics and s in styles for t, s in combos)
    assert all(t not in topics and s in styles for t, s in domains)


def test_all_clients_can_train_and_are_tested_on_other_texts() -> None:
    for task in FAMILY.tasks:
        assert len(task.train) >= 120
        assert len(task.test) == CONFIG.test_per_client
        assert not {e.item for e in task.train} & {e.item for e in task.test}


def test_the_seed_decides_and_nothing_else() -> None:
    assert build_family("assistant", load_topics(), CONFIG) == FAMILY
    other = build_family("assistant", load_topics(), replace(CONFIG, seed=1))
    assert other.tasks != FAMILY.tasks
    # More test examples must not move anybody to another split.
    bigger = build_family("assistant", load_topics(), replace(CONFIG, test_per_client=60))
    assert [named_topics(t) for t in split("new_rule", bigger)] == [
        named_topics(t) for t in split("new_rule")
    ]


def test_it_survives_the_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("x") / "assistant"
    write_family(FAMILY, folder)
    assert local_family(folder, seed=0) == FAMILY
    config = FamilyConfig(name="local", path=str(folder))
    assert load_family(config) == FAMILY


def plain_topics(count: int) -> list[PlainTopic]:
    return [
        PlainTopic(
            f"t{t}",
            (f"topic {t}",),
            tuple(
                PlainIntent(f"{t} intent {i}", "h", (f"a {t} {i}", f"b {t} {i}"), (f"c {t} {i}",))
                for i in range(3)
            ),
        )
        for t in range(count)
    ]


def test_few_topics_hold_out_fewer() -> None:
    """Ten topics: two held out leave 56 rules, one leaves 84; 64 experts and 20 clients need 84."""
    config = FamilyConfig(rule_experts=64, style_experts=0, clients_per_split=20)
    family = build_family("ten", plain_topics(10), config)
    assert len(split("rule-expert", family)) == 64
    seen = {e.item.split()[1] for task in split("rule-expert", family) for e in task.train}
    assert len(seen) == 9
    assert {task.split for task in family.tasks} == {"expert", "new_rule", "new_topic"}


def test_too_much_is_refused_with_the_numbers() -> None:
    with pytest.raises(TaskError, match=r"10 topics are too few for family.rule_experts=64"):
        build_family("ten", plain_topics(10), FamilyConfig(rule_experts=64, clients_per_split=30))
    with pytest.raises(TaskError, match="4 topics are too few"):
        build_family("four", plain_topics(4), FamilyConfig(rule_experts=1, clients_per_split=1))


def test_clients_need_topics_that_experts_know() -> None:
    config = FamilyConfig(rule_experts=2, style_experts=0, clients_per_split=24)
    with pytest.raises(TaskError, match=r"new_rule: the experts' rules name . topics"):
        build_family("assistant", load_topics(), config)
    config = FamilyConfig(rule_experts=0, style_experts=3, clients_per_split=24)
    with pytest.raises(TaskError, match=r"combo: . pairs of topic and style"):
        build_family("assistant", load_topics(), config)


@pytest.mark.parametrize("rule_experts", [6, 8, 12])
def test_small_families_keep_their_promise(rule_experts: int) -> None:
    config = FamilyConfig(rule_experts=rule_experts, style_experts=0, clients_per_split=4)
    for seed in range(5):
        family = build_family("assistant", load_topics(), replace(config, seed=seed))
        known = frozenset().union(*(named_topics(t) for t in split("rule-expert", family)))
        assert all(named_topics(t) <= known for t in split("new_rule", family))
        assert all(len(named_topics(t) - known) == 1 for t in split("new_topic", family))


# A split for tasks that say nothing themselves


def test_seeded_roles_do_not_depend_on_the_order() -> None:
    ids = [f"t{n}" for n in range(20)]
    roles = seeded_roles(ids, 3)
    assert roles == seeded_roles(ids[::-1], 3)
    clients = [name for name, (role, _) in roles.items() if role == "client"]
    assert len(clients) == 5
    assert {roles[name] for name in clients} == {("client", "unseen")}
    assert {roles[n] for n in ids if n not in clients} == {("expert", "expert")}
    assert any(seeded_roles(ids, seed) != roles for seed in range(3))


def test_two_tasks_give_one_of_each_role() -> None:
    assert sorted(role for role, _ in seeded_roles(["a", "b"], 0).values()) == ["client", "expert"]
    with pytest.raises(TaskError, match="need 2"):
        seeded_roles(["a"], 0)
