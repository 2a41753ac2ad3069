"""The whole loop: what a run leaves behind, what it may depend on, what travels."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.common.serde import message_to_proto

from sglora_fed.adapters.candidates import candidate_texts
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config import compose
from sglora_fed.config.schema import TRAINED_METHODS
from sglora_fed.federation.calibrate import CALIBRATE
from sglora_fed.federation.codec import wire_bytes
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.rounds import ROUND
from sglora_fed.federation.shared import SHARED
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.types import TaskFamily
from sglora_fed.zoo import read_store
from tests.integration.comparing import (
    InterruptionError,
    assert_equal_where_settings_are,
    assert_same_accuracies,
    assert_same_but_for_rounding,
    assert_same_confidence,
    contents,
    elsewhere,
    ending_at,
    home_of,
    means_of,
    private_texts,
    requests_of,
    tasks_of,
    unseen,
    values_of,
    written,
    zoo_in,
)
from tests.integration.conftest import TINY

MakeLoop = Callable[..., Any]

QUICK = ("generator=ridge", "experiment.methods=[zero_shot,topk]", "experiment.controls=false")
"""Nothing that is trained on a client or takes turns."""

ORDERLESS = ("zero_shot", "described", "soup", "nearest", "topk", "ridge")
"""Methods without any randomness after the experts."""

DETERMINISTIC = (*QUICK, f"experiment.methods=[{','.join(ORDERLESS)}]")


class TestResults:
    def test_the_summary_is_the_mean_of_the_clients(self, first: Any) -> None:
        means = means_of(first.rows)
        summary = {(e["split"], e["method"], e["metric"]): e for e in first.summary["results"]}
        assert set(summary) == set(means)
        for key, entry in summary.items():
            assert entry["mean"] == pytest.approx(means[key], abs=1e-6), key
            assert entry["ci95"][0] <= entry["mean"] <= entry["ci95"][1]

    def test_the_share_of_the_gap_is_that_of_the_means(self, first: Any) -> None:
        means, checked = means_of(first.rows), 0
        for entry in first.summary["results"]:
            split, method, metric = entry["split"], entry["method"], entry["metric"]
            floor, ceiling = (means[split, name, metric] for name in ("zero_shot", "oracle"))
            if entry["gap_closed"] is not None:
                share = (means[split, method, metric] - floor) / (ceiling - floor)
                assert entry["gap_closed"] == pytest.approx(share, abs=1e-5)
                checked += 1
        assert checked

    def test_every_client_is_measured_with_every_method(self, first: Any) -> None:
        clients = {task.id: task.split for task in unseen(first)}
        wanted = {*written(first)["experiment"]["methods"], "shuffled"}
        assert len(wanted) == 17
        assert {(r["client"], r["method"]) for r in first.rows} == {
            (client, method) for client in clients for method in wanted
        }
        assert all(r["split"] == clients[r["client"]] for r in first.rows)
        assert {e["clients"] for e in first.summary["results"]} == {2}
        assert first.summary["counts"] == {
            "experts": 6,
            "clients": 6,
            "virtual_clients_per_node": 3,
            "refused_replies": 0,
            "distrusted_experts": 0,
            "incomplete_clients": 0,
        }

    def test_the_policy_adopts_where_confidence_is_one_half_or_more(
        self, make_loop: MakeLoop, first: Any
    ) -> None:
        without = make_loop("experiment.methods=[functional,described,policy]").run()
        for run, fallback in ((first, "shared_lora"), (without, "described")):
            values, sure = values_of(run.rows), run.summary["confidence"]
            for task in unseen(first):
                similarity, entropy, probability, adopted = sure[task.id]
                assert -1 <= similarity <= 1
                assert entropy >= 0
                assert 0 < probability < 1
                assert adopted == (probability >= 0.5)
                chosen = "functional" if adopted else fallback
                key = (task.id, "0", chosen, "accuracy")
                assert values[task.id, "0", "policy", "accuracy"] == values[key]

    def test_fine_tuning_starts_where_its_method_says(self, make_loop: MakeLoop) -> None:
        """With a rate that moves nothing each of them measures its start."""
        still = (f"experiment.tuning.{name}.lr=1e-12" for name in TRAINED_METHODS)
        values = values_of(make_loop(*still).run().rows)
        starts = {
            "local_1shot": "described", "local_5shot": "described", "oracle": "described",
            "shared_5shot": "shared_lora", "shared_full": "shared_lora",
            "generated_5shot": "functional",
        }  # fmt: skip
        assert set(starts) == set(TRAINED_METHODS)
        for (client, seed, method, metric), value in values.items():
            if method in starts:
                assert value == values[client, seed, starts[method], metric], (client, method)

    def test_each_fine_tuned_method_has_a_rate_of_its_own(
        self, make_loop: MakeLoop, first: Any
    ) -> None:
        run = make_loop("experiment.tuning.oracle.lr=1e-12").run()
        before, after = values_of(first.rows), values_of(run.rows)
        assert {key[2] for key, value in after.items() if value != before[key]} == {"oracle"}

    def test_an_accuracy_is_a_number_of_examples(self, first: Any) -> None:
        # Rules with three labels have 6 examples, two of each; the others 8.
        sizes = {task.id: len(task.test) for task in unseen(first)}
        for row in first.rows:
            right = float(row["value"]) * sizes[row["client"]]
            assert right == pytest.approx(round(right), abs=1e-9)

    def test_described_scores_a_label_by_all_its_phrases(self, first: Any) -> None:
        """Against the mean exponential of similarities, in double precision."""
        config, values = compose(TINY), values_of(first.rows)
        backbone = load_backbone(config.backbone, config.adapter)

        def rows(texts: Sequence[str]) -> np.ndarray:
            with torch.no_grad():
                found = backbone.encode_texts(backbone.prepare_texts(texts), 1).numpy()
            return np.asarray(found, np.float64)

        for task in unseen(first):
            items = rows([example.item for example in task.test])
            said, owners = candidate_texts(backbone, task, "phrases")
            assert len(said) > len(task.labels)
            exponentials = np.exp(backbone.scale * items @ rows(said).T)
            scores = [exponentials[:, owners == n].mean(axis=1) for n in range(len(task.labels))]
            guessed = np.array([*task.labels])[np.stack(scores).argmax(axis=0)]
            right = np.mean([g == e.label for g, e in zip(guessed, task.test, strict=True)])
            assert values[task.id, "0", "described", "accuracy"] == pytest.approx(right)

    def test_the_files_name_the_same_configuration(self, first: Any) -> None:
        config = written(first)
        # Who is told of a run changes nothing in it.
        text = json.dumps({k: v for k, v in config.items() if k != "tracking"}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert first.summary["run"]["config_sha256"] == digest
        assert config["family"]["rule_experts"] == 6
        assert config["name"] == first.summary["run"]["name"] == 'it\'s a "tiny" run'
        lines = (first.output / "progress.jsonl").read_text().splitlines()
        last = {line["stage"]: line for line in map(json.loads, lines)}
        # A quarter of six experts judge.
        totals = {"experts": 6, "shared LoRA": 2, "functional": 2, "confidence": 1, "evaluate": 6}
        assert {stage: last[stage]["done"] for stage in totals} == totals
        assert all(line["done"] == line["total"] for line in last.values())

    def test_nothing_is_left_half_done(self, first: Any) -> None:
        assert not list(first.output.parent.rglob("*.tmp"))
        assert not (first.output / "error.json").exists()
        named = "clients.csv config.yaml figures progress.jsonl report.html summary.json"
        assert sorted(e.name for e in first.output.iterdir()) == named.split()


class TestTraffic:
    def test_a_request_fits_two_kilobytes(self, make_loop: MakeLoop, first: Any) -> None:
        run = make_loop(*QUICK, nodes=6).run()
        sizes = [wire_bytes(e.reply.content) for e in run.of_kind(DESCRIBE)]
        assert [len(e.fields()["ids"]) for e in run.of_kind(DESCRIBE)] == [1] * 6
        assert max(sizes) <= 2048
        assert run.summary["bytes_per_client"]["up"] == max(sizes)
        assert first.summary["bytes_per_client"]["up"] == max(sizes)

    def test_an_adapter_comes_down_once_in_half_precision(self, first: Any) -> None:
        # MiniLM: 384 wide, query and value in 2 layers, rank 4, two bytes a number.
        down = 2 * 2 * 2 * 4 * (384 + 384)
        alone = ("zero_shot", "described", "oracle", "local_1shot", "local_5shot")
        counts = dict.fromkeys(alone, 0) | {"policy": 2}  # one to adopt and one to fall back to
        told = first.summary["bytes_per_client"]["down"]
        assert down < told < down + 1024
        for entry in first.summary["results"]:
            assert entry["bytes_down"] == counts.get(entry["method"], 1) * told
        for exchange in first.of_kind(COMPARE):
            fields = exchange.request.content["fields"]
            count = len(fields["made"]) * len(fields["ids"]) + len(fields["common"])
            assert (
                count * down < message_to_proto(exchange.request).ByteSize() < count * down + 2048
            )

    def test_the_first_round_starts_at_the_shared_lora(self, first: Any) -> None:
        (folder,) = home_of(first).glob("kept/shared_lora/*")
        shared = read_peft(folder)[0].astype(np.float16)
        for row in first.of_kind(ROUND)[0].request.content["arrays"]["starts"].numpy():
            np.testing.assert_array_equal(row, shared)

    def test_the_judges_generator_is_trained_in_as_many_rounds(self, first: Any) -> None:
        numbers = [e.request.content["fields"]["round"] for e in first.of_kind(ROUND)]
        rounds = compose(TINY).federation.generator_rounds
        # Twice: with all experts, then without those that judge; a round goes to one node or two.
        assert [n for n, _ in groupby(numbers)] == [*range(1, rounds + 1)] * 2

    def test_no_text_of_a_user_travels(self, first: Any) -> None:
        texts = {text.encode() for text in private_texts(tasks_of(first))}
        wire = [
            message_to_proto(message).SerializeToString()
            for exchange in first.exchanges
            for message in (exchange.request, exchange.reply)
        ]
        # What does travel is found in the same way.
        assert any(b"new_rule-000" in message for message in wire)
        assert len(texts) > 200
        assert not [text for text in texts if any(text in message for message in wire)]

    def test_no_text_of_a_user_is_kept(self, first: Any) -> None:
        texts = {text.encode() for text in private_texts(tasks_of(first))}
        files = [path for path in first.output.parent.rglob("*") if path.is_file()]
        assert any(b"new_rule-000" in path.read_bytes() for path in files)
        for path in files:
            content = path.read_bytes()
            assert not [text for text in texts if text in content], path


class TestRepetition:
    def test_a_second_run_trains_nothing_and_measures_the_same(
        self, make_loop: MakeLoop, first: Any
    ) -> None:
        make_loop(*QUICK, goal="zoo").run()  # other runs here had other nodes
        before = contents(home_of(first))
        again = make_loop().run()
        assert again.trained() == []
        assert contents(home_of(first)) == before
        assert again.rows == first.rows

    def test_each_seed_is_a_run_of_its_own(self, make_loop: MakeLoop, first: Any) -> None:
        single = make_loop(*QUICK, output="single").run()
        both = make_loop("seeds=[0,1]", *QUICK).run()
        values, alone = values_of(both.rows), values_of(single.rows)
        assert {seed for _, seed, _, _ in values} == {"0", "1"}
        assert alone == {key: value for key, value in values.items() if key[1] == "0"}
        assert_equal_where_settings_are(single, first)
        one, other = zoo_in(home_of(first), 0), zoo_in(home_of(first), 1)
        assert np.abs(one.means - other.means).max() > 1e-3
        means = means_of(both.rows)
        for entry in both.summary["results"]:
            key = entry["split"], entry["method"], entry["metric"]
            assert entry["mean"] == pytest.approx(means[key], abs=1e-6)
        assert sorted(both.trained()) == sorted(other.ids)

    # Seven nodes are more than there are experts or clients: some have nothing to do.
    @pytest.mark.parametrize("nodes", [1, 7])
    def test_the_number_of_nodes_changes_rounding_only(
        self, make_loop: MakeLoop, first: Any, cold_home: Path, nodes: int
    ) -> None:
        run = make_loop(*DETERMINISTIC, nodes=nodes).run()
        assert_same_but_for_rounding(zoo_in(cold_home), zoo_in(home_of(first)))
        assert {row["method"] for row in run.rows} == {*ORDERLESS}
        plain = elsewhere(first, make_loop(*DETERMINISTIC, output="plain"))
        assert_equal_where_settings_are(plain, first)
        assert_same_accuracies(run, plain)
        assert_same_confidence(run, plain)

    def test_edge_nodes_with_tasks_of_their_own_give_the_same(
        self, make_loop: MakeLoop, first: Any, cold_home: Path, tmp_path: Path
    ) -> None:
        # Two nodes, each the only partition of its own folder; the server has no folder at all.
        settings: list[dict[str, str | int]] = []
        own_file = tmp_path / "node.toml"
        own_file.write_text('[privacy]\nmechanisms = ["none"]\n')
        for number in range(2):
            folder = tmp_path / f"node {number}"
            write_family(TaskFamily("own", tasks_of(first)[number::2]), folder)
            own = {"partition-id": 0, "num-partitions": 1, "tasks": str(folder)}
            settings.append({**own, "node": str(own_file)})
        nowhere = ("family=local", f"family.path={tmp_path / 'nowhere'}")
        run = make_loop(*nowhere, *DETERMINISTIC, node_configs=settings).run()
        assert_same_but_for_rounding(zoo_in(cold_home), zoo_in(home_of(first)))
        assert run.summary["counts"]["clients"] == 6
        plain = elsewhere(first, make_loop(*DETERMINISTIC, output="plain"))
        assert_same_accuracies(run, plain)
        assert_same_confidence(run, plain)


class TestInterruption:
    def test_enrolment_continues_where_it_was(
        self, make_loop: MakeLoop, first: Any, cold_home: Path
    ) -> None:
        # Two nodes with three experts each, two in a message: the third message is a second turn.
        with pytest.raises(InterruptionError):
            make_loop(goal="zoo", between=ending_at(3, ENROL)).run()
        kept = zoo_in(cold_home).ids
        assert len(kept) == 4
        told = (*QUICK, "experiment.methods=[nearest,oracle]")
        rest = make_loop(*told).run()
        assert len(rest.trained()) == 2
        assert sorted((*rest.trained(), *kept)) == list(zoo_in(home_of(first)).ids)
        assert rest.rows == elsewhere(first, make_loop(*told, output="whole")).rows
        assert_equal_where_settings_are(rest, first)

    @pytest.mark.parametrize(
        ("number", "kind", "generator"),
        [
            (3, SHARED, "functional"),
            (3, ROUND, "functional"),
            (1, CALIBRATE, "functional"),
            (2, CALIBRATE, "ridge"),
            (2, COMPARE, "soup"),
        ],
    )
    def test_an_interrupted_run_is_not_taken_for_a_finished_one(
        self,
        make_loop: MakeLoop,
        first: Any,
        cold_home: Path,
        number: int,
        kind: str,
        generator: str,
    ) -> None:
        shutil.copytree(home_of(first) / "zoos", cold_home / "zoos")
        methods = f"experiment.methods=[{generator},local_1shot,shared_lora,policy]"
        told = (*QUICK, f"generator={generator}", methods)
        run = make_loop(*told, between=ending_at(number, kind))
        with pytest.raises(InterruptionError):
            run.run()
        # Parts are what the same command continues with; there is nothing that looks like results.
        assert {path.name for path in run.output.iterdir()} <= {"progress.jsonl", "parts"}
        again = make_loop(*told).run()
        assert again.trained() == []
        assert again.rows == elsewhere(first, make_loop(*told, output="whole")).rows
        assert_equal_where_settings_are(again, first)


class TestGoals:
    def test_a_zoo_alone(self, make_loop: MakeLoop, first: Any, cold_home: Path) -> None:
        built = make_loop(goal="zoo").run()
        assert {exchange.kind for exchange in built.exchanges} == {ENROL}
        assert sorted(p.name for p in built.output.iterdir()) == ["progress.jsonl", "zoos.json"]
        (folder,) = map(Path, json.loads(built.path("zoos.json").read_text()))
        assert folder.parent == cold_home / "zoos"
        made, expected = read_store(folder).load(), zoo_in(home_of(first))
        assert sorted(built.trained()) == list(made.ids)
        np.testing.assert_array_equal(made.means, expected.means)

    def test_results_lie_in_the_home_by_default(self, make_loop: MakeLoop, first: Any) -> None:
        make_loop(goal="zoo", output=None).run()
        (zoos,) = (home_of(first) / "results").glob("*/zoos.json")
        assert zoos.is_file()


class TestPrivacy:
    def test_noise_is_reported_and_on_every_request(self, make_loop: MakeLoop, first: Any) -> None:
        told = ("privacy=gaussian", "privacy.epsilon=6", "privacy.delta=1e-7", *QUICK)
        run, again = make_loop(*told).run(), make_loop(*told, between=ending_at(1, COMPARE))
        with pytest.raises(InterruptionError):
            again.run()
        found = run.summary["privacy"]
        assert found["mechanism"] == "gaussian"
        assert found["per_release"] == found["total"] == {"epsilon": 6, "delta": 1e-7}
        clear, noisy, other = (requests_of(one) for one in (first, run, again))
        assert clear.keys() == noisy.keys() == other.keys()
        # 384 numbers: unrelated directions have a cosine of 0.05, so 0.4 is out of reach.
        for name, embedding in clear.items():
            assert abs(embedding @ noisy[name]) < 0.4
            assert abs(noisy[name] @ other[name]) < 0.4

    def test_without_a_mechanism_nothing_is_promised(self, first: Any) -> None:
        found = first.summary["privacy"]
        assert found["mechanism"] == "none"
        assert found["per_release"] == found["total"] == {"epsilon": None, "delta": None}
        describer = load_describer(compose(["experiment=assistant"]).backbone)
        for task in unseen(first):
            sent = requests_of(first)[task.id]
            own = np.asarray(describer.encode([task.description, *task.paraphrases]))
            assert (own @ sent).max() == pytest.approx(1, abs=1e-4)
