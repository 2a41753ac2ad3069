"""Composition: overrides in, a frozen configuration or all mistakes out."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sglora_fed.config import (
    RunConfig,
    compose,
    config_folder,
    config_sha256,
    config_yaml,
    home,
)
from sglora_fed.config.groups import groups
from sglora_fed.config.schema import GENERATORS, PICTURE_SETS
from sglora_fed.errors import ConfigError
from sglora_fed.generators import register_generator
from sglora_fed.generators.ridge import Ridge

# The name `compose` in the package is the function, so the module is taken from where modules are.
compose_module: Any = sys.modules["sglora_fed.config.compose"]

GROUPS = groups(config_folder())


ASSISTANT = ["experiment=assistant"]
"""The groups' own defaults, without the main job's choices."""


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose([*ASSISTANT, *overrides])
    return caught.value.problems


class TestOverrides:
    def test_no_override_gives_the_documented_defaults(self) -> None:
        assert compose(ASSISTANT) == RunConfig()

    def test_no_override_is_the_main_job(self) -> None:
        config = compose()
        assert config == compose(["experiment=cameras"])
        assert (config.family.name, config.backbone.name) == ("cameras", "clip")

    def test_groups_and_values(self) -> None:
        config = compose(["generator=topk", "privacy=gaussian", "privacy.epsilon=4", "seeds=[3,5]"])
        assert config.generator.name == "topk"
        assert (config.privacy.mechanism, config.privacy.epsilon) == ("gaussian", 4.0)
        assert config.seeds == (3, 5)

    def test_a_group_file_changes_only_what_it_names(self) -> None:
        config = compose([*ASSISTANT, "federation=deployment", "generator.latent=8"])
        assert (config.federation.nodes, config.federation.min_replies) == (2, 0.8)
        assert config.generator == dataclasses.replace(RunConfig().generator, latent=8)

    @pytest.mark.parametrize("group", sorted(GROUPS))
    def test_every_file_of_every_group_composes(self, group: str) -> None:
        needs = {"family=local": ["family.path=x"], "backbone=clip": ["backbone.path=x"]}
        for name in GROUPS[group]:
            choice = f"{group}={name}"
            assert compose([choice, *needs.get(choice, [])])

    @pytest.mark.parametrize("path", sorted(config_folder().glob("*/*.yaml")), ids=str)
    def test_no_file_repeats_a_default(self, path: Path) -> None:
        chosen = yaml.safe_load(path.read_text()) or {}
        usual: dict[str, Any] = yaml.safe_load(config_yaml(RunConfig()))
        if not path.read_text().startswith("# @package _global_"):
            usual = usual[path.parent.name]
        for option in ("name", "mechanism", "defaults"):  # what the file is called after, and takes
            chosen.pop(option, None)
        assert {option for option in chosen if chosen[option] == usual[option]} == set()

    def test_the_papers_protocol_is_what_the_paper_says(self) -> None:
        """Li et al. 2025 (arXiv 2509.10535): LoRA, checkpoints, K, lambda and baselines."""
        config = compose(["experiment=paper"])
        adapter, generator = config.adapter, config.generator
        assert (adapter.rank, adapter.layers) == (2, ())
        assert adapter.targets == ("q_proj", "k_proj", "v_proj")
        assert adapter.train.checkpoints == 100 < adapter.train.steps
        assert (generator.name, generator.neighbours, generator.kl_weight) == ("sglora", 4, 1.0)
        baselines = {"zero_shot", "soup", "adapter_soup", "topk", "oracle"}
        assert set(config.experiment.methods) == {*baselines, "sglora"}
        assert config.experiment.tuning.oracle.steps == adapter.train.steps

    def test_lists_become_tuples_and_nothing_can_be_changed(self) -> None:
        config = compose(["adapter.layers=[]", "adapter.targets=[query]"])
        assert (config.adapter.layers, config.adapter.targets) == ((), ("query",))
        hash(config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.adapter.rank = 8  # type: ignore[misc]

    def test_whole_numbers_serve_as_numbers(self) -> None:
        assert repr(compose(["adapter.alpha=8"]).adapter.alpha) == "8.0"

    def test_the_last_of_two_overrides_counts(self) -> None:
        assert compose(["adapter.rank=2", "adapter.rank=8"]).adapter.rank == 8
        assert compose(["family=hub", "family=local", "family.path=x"]).family.name == "local"

    def test_quoted_text_keeps_special_characters(self) -> None:
        assert compose(["family=local", "family.path='/a=b, c'"]).family.path == "/a=b, c"


class TestMistakes:
    def test_all_at_once(self) -> None:
        found = problems(
            "privacy.epsilonn=4",
            "generatr=ridge",
            "generator=magic",
            "adapter.rank=many",
            "federation.min_replies=1.5",
            "seeds=[0,0]",
            "experiment.methods=[topk,guess]",
        )
        assert len(found) == 7
        text = "\n".join(found)
        for wanted in (
            "did you mean privacy.epsilon?",
            "did you mean generator?",
            "generator must be one of adapter_soup, functional, nearest, ridge, sglora, soup, topk",
            "adapter.rank='many': must be an integer",
            "federation.min_replies=1.5: must lie in (0, 1]",
            "seeds=[0, 0]",
            "['guess']",
        ):
            assert wanted in text

    @pytest.mark.parametrize(
        ("override", "allowed"),
        [
            ("seeds=3", "a list"),
            ("seeds=[]", "at least one"),
            ("seeds=[-1]", ">= 0"),
            ("seeds=[1.5]", "integer"),
            ("seeds=1,2", "a list is written [a,b]"),
            ("name=''", "empty"),
            ("name=???", "name"),
            ("name=a b(", "quotes"),
            ("name=range(1,3)", "one value only"),
            ("name=${oc.env:SGLORA_FED_NOT_SET}", "SGLORA_FED_NOT_SET"),
            ("adapter.rank=4.0", "an integer"),
            ("adapter.rank=true", "an integer"),
            ("adapter.rank=0", ">= 1"),
            ("adapter.alpha=nan", "> 0"),
            ("adapter.alpha=inf", "> 0"),
            ("adapter.targets=[]", "at least one"),
            ("adapter.layers=[1,1]", "distinct"),
            ("adapter.train.steps=9", "at most adapter.train.steps (9)"),
            ("adapter.train.lr=0", "> 0"),
            ("adapter.train={steps: 3}", "unknown option"),
            ("experiment.controls=1", "true or false"),
            ("experiment.methods=[topk,topk]", "each once"),
            ("experiment.methods=[topk,shared_full]", "start from shared_lora: add it"),
            ("experiment.tuning.oracle.lr=0", "> 0"),
            ("experiment.tuning.shared_full.steps=0", ">= 1"),
            ("experiment.tuning.oracle=20", "unknown option"),
            ("adapter.hints=words", "one of none, whole, phrases"),
            ("generator.name=magic", "one of soup, nearest, adapter_soup, topk, ridge, sglora"),
            ("generator.temperature=0", "> 0"),
            ("generator.kl_weight=-1", ">= 0"),
            ("generator.readings=65", "from 1 to 64"),
            ("family=local", "family.path"),
            ("family.name=cloud", "assistant, cameras, local, hub"),
            ("family.clients_per_split=0", ">= 1"),
            ("backbone=clip", "backbone.path"),
            ("backbone.device=tpu", "cpu, cuda, auto"),
            ("backbone.sha256=abc", "64 digits"),
            ("backbone.scale=0", "> 0"),
            ("federation.min_replies=0", "(0, 1]"),
            ("federation.min_replies=nan", "(0, 1]"),
            ("federation.timeout=-1", "> 0"),
            ("federation.shared_momentum=1", "[0, 1)"),
            ("federation.shared_momentum=-0.1", "[0, 1)"),
            ("federation.shared_momentum=nan", "[0, 1)"),
            ("federation.respelt=1.5", "[0, 1]"),
            ("federation.respelt=-0.1", "[0, 1]"),
            ("federation.respelt=nan", "[0, 1]"),
            ("privacy.mechanism=magic", "none, gaussian"),
            ("privacy.epsilon=4", "choose privacy=gaussian"),
            ("privacy={epsilon: 4}", "gaussian, krr, local, none"),
            ("+privacy.epsilon=4", "did you mean privacy.epsilon?"),
            ("~privacy", "KEY=VALUE"),
            ("hydra.run.dir=/x", "unknown option"),
            ("=4", "KEY=VALUE"),
            ("", "KEY=VALUE"),
        ],
    )
    def test_each_names_its_value_and_what_is_allowed(self, override: str, allowed: str) -> None:
        (found,) = problems(override)
        assert allowed in found
        assert override.partition("=")[0].lstrip("+").split(".")[0] in found

    @pytest.mark.parametrize(
        ("override", "key"),
        [
            ("privacy.epsilon=null", "privacy.epsilon=None"),
            ("privacy.epsilon=0", "privacy.epsilon=0.0"),
            ("privacy.epsilon=1001", "privacy.epsilon=1001.0"),
            ("privacy.epsilon=strong", "privacy.epsilon='strong'"),
            ("privacy.delta=null", "privacy.delta=None"),
            ("privacy.delta=1", "privacy.delta=1.0"),
            ("privacy.delta=1e-13", "privacy.delta=1e-13"),
        ],
    )
    def test_gaussian_needs_possible_parameters(self, override: str, key: str) -> None:
        (found,) = problems("privacy=gaussian", override)
        assert found.startswith(key)

    @pytest.mark.parametrize("name", PICTURE_SETS)
    def test_pictures_of_the_hub_need_a_commit(self, name: str) -> None:
        pictures = ("family=hub", f"family.dataset={name}")
        (found,) = problems(*pictures)
        assert found.startswith(f"family.revision=None: family.dataset={name} has no pinned commit")
        assert f"git ls-remote https://huggingface.co/datasets/{PICTURE_SETS[name]} main" in found
        assert "40 digits" in "".join(problems(*pictures, "family.revision=main"))
        compose([*pictures, f"family.revision={'0a' * 20}"])
        compose([*pictures, "family.path=x"])
        compose(["family=hub", "family.dataset=banking77"])

    def test_only_a_clip_has_the_text_tower_of_one(self) -> None:
        compose(["backbone=clip", "backbone.path=x", "backbone.describer=clip"])
        (found,) = problems("backbone=minilm", "backbone.describer=clip")
        assert found.startswith("backbone.describer='clip': backbone=minilm has no text tower")
        assert problems("backbone.describer=bert")

    def test_images_cannot_be_respelt(self) -> None:
        clip = ("backbone=clip", "backbone.path=x", "adapter=clip")
        compose(clip)
        (found,) = problems(*clip, "federation.respelt=0.5")
        assert found.startswith("federation.respelt=0.5: backbone=clip")

    @pytest.mark.parametrize("hints", ["none", "whole"])
    def test_respelling_needs_the_labels_in_that_spelling(self, hints: str) -> None:
        (found,) = problems(f"adapter.hints={hints}", "federation.respelt=0.5")
        assert found.endswith(f"adapter.hints={hints}; need phrases")

    def test_one_error_with_the_code(self) -> None:
        with pytest.raises(ConfigError, match=r"^\[SGL-100\] name='': .*; seeds=\[\]: "):
            compose(["name=''", "seeds=[]"])


class TestGenerators:
    def test_a_registered_generator_is_a_method(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(GENERATORS, "_factories", dict(GENERATORS._factories))
        register_generator("mine", Ridge)
        config = compose(["generator.name=mine", "experiment.methods=[zero_shot,mine]"])
        assert config.generator.name in config.experiment.methods


class TestSurroundings:
    def test_from_many_threads(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            ranks = pool.map(lambda r: compose([f"adapter.rank={r}"]).adapter.rank, range(1, 33))
        assert list(ranks) == list(range(1, 33))

    def test_leaves_cwd_and_logging_alone(self) -> None:
        before = (os.getcwd(), logging.root.level, list(logging.root.handlers))
        compose(["generator=soup"])
        assert (os.getcwd(), logging.root.level, list(logging.root.handlers)) == before

    def test_leaves_a_callers_hydra_as_it_was(self, tmp_path: Path) -> None:
        (tmp_path / "theirs.yaml").write_text("colour: red\n")
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            compose(["generator=soup"])
            problems("generator=magic")
            assert hydra_compose("theirs").colour == "red"
        assert not GlobalHydra.instance().is_initialized()

    def test_configs_inside_an_installed_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside = tmp_path / "sglora_fed"
        (inside / "config").mkdir(parents=True)
        monkeypatch.setattr(compose_module, "__file__", str(inside / "config" / "compose.py"))
        with pytest.raises(ConfigError, match="reinstall"):
            config_folder()
        shutil.copytree(Path(__file__).parents[3] / "configs", inside / "configs")
        assert config_folder() == inside / "configs"
        assert compose(ASSISTANT) == RunConfig()

    def test_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))
        assert home() == tmp_path
        monkeypatch.delenv("SGLORA_FED_HOME")
        assert home() == Path.home() / ".sglora-fed"


class TestIdentity:
    def test_yaml_composes_to_the_same(self, tmp_path: Path) -> None:
        config = compose(["privacy=gaussian", "seeds=[2]", "family.path='a: b'"])
        read = yaml.safe_load(config_yaml(config))
        told = {"mechanism": "gaussian", "epsilon": 8.0, "delta": 1e-06}
        assert read["privacy"].items() >= told.items()
        assert (read["seeds"], read["family"]["path"]) == ([2], "a: b")

    def test_equal_configurations_hash_equally_and_others_do_not(self) -> None:
        config = RunConfig()
        assert config_sha256(config) == config_sha256(compose(ASSISTANT))
        changed = {
            config_sha256(compose([*ASSISTANT, override]))
            for override in (
                "seeds=[1]",
                "adapter.rank=2",
                "adapter.alpha=3",
                "zoo.path=x",
            )
        }
        assert len(changed | {config_sha256(config)}) == 5
        assert len(config_sha256(config)) == 64


def test_one_folder_cannot_hold_the_zoos_of_two_seeds() -> None:
    assert compose(["zoo.path=here"]).zoo.path == "here"
    with pytest.raises(ConfigError, match=r"zoo\.path='here': a zoo is of one seed"):
        compose(["zoo.path=here", "seeds=[0,1]"])
