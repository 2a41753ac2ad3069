"""The topics beside "everything else" were made without the family that they are used for."""

from __future__ import annotations

import re

from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS, EVERYTHING_ELSE, means_the_rest
from sglora_fed.tasks.phrases import phrases

FIRST_LEVEL = """
arts, culture, entertainment and media
conflict, war and peace
crime, law and justice
disaster, accident and emergency incident
economy, business and finance
education
environment
health
human interest
labour
lifestyle and leisure
politics and government
religion
science and technology
society
sport
weather
"""
"""IPTC Media Topics, the 17 headings of the first level (iptc.org/standards/media-topics)."""


def plain(name: str) -> str:
    return re.sub("^(the|my|our|a|an) ", "", name.lower())


def family_names() -> set[str]:
    """What a topic is called, as a whole and by its parts, without an article."""
    said = [name for topic in load_topics() for name in (*topic.names, *topic.names_test)]
    parts = {plain(part) for name in said for part in (name, *phrases(name))}
    return parts | {topic.key for topic in load_topics()}


def test_no_everyday_topic_is_a_name_of_a_topic_of_the_family() -> None:
    assert not family_names() & set(EVERYDAY_TOPICS)


def test_the_list_follows_from_the_scheme_by_its_rule() -> None:
    headings = re.findall(r"[^,\n]+?(?= and |,|\n)", FIRST_LEVEL.replace(" and ", ", "))
    cut = [heading.strip() for heading in headings]
    assert len(cut) == 31
    assert [topic for topic in cut if topic not in family_names()] == list(EVERYDAY_TOPICS)


def test_only_whole_phrases_mean_the_rest() -> None:
    assert all(means_the_rest(f" {phrase.upper()}! ") for phrase in EVERYTHING_ELSE)
    assert not any(means_the_rest(f"{phrase} of it") for phrase in EVERYTHING_ELSE)
