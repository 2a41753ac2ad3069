"""Where tasks come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import Group, at_least, one_of, option, where
from sglora_fed.errors import TaskError
from sglora_fed.registry import Registry

FAMILIES = Registry(
    "family",
    TaskError,
    {
        "assistant": "sglora_fed.tasks.assistant.family:assistant_family",
        "cameras": "sglora_fed.tasks.cameras.family:cameras_family",
        "local": "sglora_fed.tasks.local:configured_family",
        "hub": "sglora_fed.tasks.hub:hub_family",
    },
)
"""``register_family`` adds to them."""


PICTURE_SETS: Mapping[str, str] = {
    "coco": "jxie/coco_captions",
    "flickr30k": "lmms-lab/flickr30k",
    "oxford_pets": "timm/oxford-iiit-pet",
    "flowers102": "dpdl-benchmark/oxford_flowers102",
}
"""Data sets of the SG-LoRA paper -> id on the hub; no revision of them is pinned."""


@dataclass(frozen=True)
class FamilyConfig(Group):
    """Where tasks come from."""

    prefix: ClassVar[str] = "family."

    name: str = option(
        "assistant",
        "`cameras` or `assistant` (embedded), `local` (a folder), `hub`, or a registered one",
        one_of(FAMILIES),
    )
    path: str | None = option(None, "folder of a `local` family, or of a saved `hub` data set")
    seed: int = option(0, "of the family's splits; fixed before any result is seen", at_least(0))
    experts: int = option(48, "`cameras` only: experts, each with a camera", at_least(2))
    rule_experts: int = option(96, "experts with a personal rule", at_least(0))
    style_experts: int = option(24, "experts with a writing style", at_least(0))
    clients_per_split: int = option(26, "unseen clients in each split", at_least(1))
    clients_per_camera: int = option(
        1, "`cameras` only: unseen clients with a camera of the same condition", at_least(1)
    )
    train_per_client: int = option(
        128, "training examples of a task, evenly over its labels", at_least(1)
    )
    test_per_client: int = option(
        48, "test examples of a task, evenly over its labels", at_least(1)
    )
    unseen_forms: bool = option(
        False,
        "experts' rules are sets of three topics; rules of other forms are splits of their own",
    )
    unseen_styles: int = option(
        0, "writing styles that no expert has; they make split `new_style`", at_least(0)
    )
    several_ways: bool = option(
        False,
        "candidate texts say each topic of a rule in every way, not in one; not for `local`",
    )
    dataset: str = option(
        "clinc_oos",
        "`hub` only: `clinc_oos` or `banking77` (text); `coco`, `flickr30k`, `oxford_pets` or"
        " `flowers102` (pictures)",
        one_of(("clinc_oos", "banking77", *PICTURE_SETS)),
    )
    revision: str | None = option(
        None,
        "`hub` only: commit of the data set; null: the pinned one, which pictures have not",
        where(lambda value: bool(re.fullmatch("[0-9a-f]{40}", value)), "must be 40 digits 0-9a-f"),
    )

    def contradictions(self) -> list[str]:
        """A folder that is missing, a data set that may change, and too few experts."""
        found = []
        if self.name == "local" and not self.path:
            found.append("family.path=None: family=local needs the folder of the task family")
        if self.name == "hub" and self.dataset in PICTURE_SETS and not (self.path or self.revision):
            found.append(
                f"family.revision=None: family.dataset={self.dataset} has no pinned commit; give"
                " the first word that git ls-remote"
                f" https://huggingface.co/datasets/{PICTURE_SETS[self.dataset]} main prints, or"
                " family.path"
            )
        if self.rule_experts + self.style_experts < 2:
            found.append(
                f"family.rule_experts={self.rule_experts}, style_experts={self.style_experts}:"
                " must be at least 2 together"
            )
        return found
