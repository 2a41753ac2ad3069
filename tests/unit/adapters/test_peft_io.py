"""Folders that PEFT reads and writes, and folders that are damaged."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import (
    BdLoraConfig,
    CordaConfig,
    KasaConfig,
    MontecloraConfig,
    VeloraConfig,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertModel

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import read_peft, write_peft
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.errors import AdapterFileError, AdapterValueError, LayoutError, ResultsError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = BaseModel("somebody/tiny-bert", "1" * 40)
TEXTS = ["w1 w2 w3", "w5", "w7 w8 w9 w10 w11"]


@pytest.fixture
def folder(vectors: np.ndarray, layout: Layout, tmp_path: Path) -> Path:
    write_peft(vectors[0], layout, BASE, tmp_path / "adapter")
    return tmp_path / "adapter"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def bits(vector: np.ndarray) -> bytes:
    assert vector.dtype == np.float32
    return vector.tobytes()


def test_peft_loads_what_is_written(
    bert_folder: Path, folder: Path, encoder: MiniLM, layout: Layout, vectors: np.ndarray
) -> None:
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    model = PeftModel.from_pretrained(base, folder).eval()
    prepared = encoder.prepare_items(TEXTS)
    bare = encoder.encode_items(prepared, 1)
    with torch.no_grad(), adapted(encoder.model, layout, torch.from_numpy(vectors[:1])):
        ours = encoder.encode_items(prepared, 1)
    for row, text in enumerate(TEXTS):
        ids = encoder._tokenizer(text, return_tensors="pt")["input_ids"]
        mean = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(ours[row], mean / mean.norm(), atol=1e-5, rtol=0)
    assert (ours - bare).abs().max() > 0.05
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha) == (2, 3.0)
    assert (config.base_model_name_or_path, config.revision) == (BASE.name, BASE.revision)


def test_what_is_written_is_read_back_to_the_bit(folder: Path, vectors: Any, layout: Any) -> None:
    odd = vectors[0].copy()
    odd[:4] = (-0.0, np.float32(1e-45), np.finfo(np.float32).max, np.finfo(np.float32).tiny)
    write_peft(odd, layout, BASE, folder)
    vector, found = read_peft(folder)
    assert found == layout
    assert bits(vector) == bits(odd)


def test_peft_saves_what_it_loaded_to_the_bit(
    bert_folder: Path, folder: Path, layout: Layout, vectors: np.ndarray, tmp_path: Path
) -> None:
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    PeftModel.from_pretrained(base, folder).save_pretrained(tmp_path / "theirs")
    vector, found = read_peft(tmp_path / "theirs")
    # PEFT keeps the modules as a set, so their order is not kept.
    assert set(found.modules) == set(layout.modules)
    assert (found.rank, found.alpha) == (layout.rank, layout.alpha)
    pairs = {n: (a[0], b[0]) for n, (a, b) in found.unpack(torch.from_numpy(vector)[None]).items()}
    assert bits(layout.pack(pairs).numpy()) == bits(vectors[0])


@pytest.mark.parametrize("targets", [["value", "query"], r".*\.(query|value)"])
def test_an_adapter_of_peft_alone_is_read(bert_folder: Path, tmp_path: Path, targets: Any) -> None:
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    config = LoraConfig(r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False)
    model = get_peft_model(base, config)
    model.save_pretrained(tmp_path)
    vector, found = read_peft(tmp_path)
    names = [f"encoder.layer.{i}.attention.self.{t}" for i in (0, 1) for t in ("query", "value")]
    assert [module.name for module in found.modules] == names
    assert (found.rank, found.alpha) == (3, 7.0)
    expected = [
        model.get_submodule(f"base_model.model.{name}.lora_{side}.default").weight.detach()
        for name in names
        for side in "AB"
    ]
    assert bits(vector) == bits(torch.cat([weight.ravel() for weight in expected]).numpy())


def test_half_precision_is_read_exactly(folder: Path, vectors: np.ndarray) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    change_weights(folder, halve)
    expected = torch.from_numpy(vectors[0]).bfloat16().float().numpy()
    assert bits(read_peft(folder)[0]) == bits(expected)


def test_other_target_modules_do_not_fit_the_model(tmp_path: Path, encoder: MiniLM) -> None:
    model = nn.ModuleDict({"elsewhere": nn.Linear(24, 24)})
    get_peft_model(model, LoraConfig(r=2, target_modules=["elsewhere"])).save_pretrained(tmp_path)
    vector, found = read_peft(tmp_path)
    folded = torch.from_numpy(vector)[None]
    with (
        pytest.raises(LayoutError, match=r"SGL-400.*'elsewhere'"),
        adapted(encoder.model, found, folded),
    ):
        pass


def saved_by_peft(bert_folder: Path, folder: Path, **options: Any) -> None:
    """What PEFT itself writes for an option, with factors that are not zero."""
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    options = {"r": 2, "lora_alpha": 3, "target_modules": ["query", "value"]} | options
    model = get_peft_model(base, LoraConfig(**options))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)


READ: list[tuple[str, Any]] = [
    ("inference_mode", True),
    ("lora_dropout", 0.5),
    ("task_type", "FEATURE_EXTRACTION"),
    ("init_lora_weights", False),
    ("init_lora_weights", "gaussian"),
    ("init_lora_weights", "orthogonal"),
    ("fan_in_fan_out", True),  # which PEFT sets right before it writes
    ("loftq_config", {}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "value"), READ)
def test_an_option_that_is_read_gives_peft_s_own_outputs(
    bert_folder: Path, tmp_path: Path, encoder: MiniLM, name: str, value: Any
) -> None:
    saved_by_peft(bert_folder, tmp_path, **{name: value})
    vector, found = read_peft(tmp_path)
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    model = PeftModel.from_pretrained(base, tmp_path).eval()
    prepared = encoder.prepare_items(TEXTS)
    with torch.no_grad(), adapted(encoder.model, found, torch.from_numpy(vector)[None]):
        ours = encoder.encode_items(prepared, 1)
    for row, text in enumerate(TEXTS):
        ids = encoder._tokenizer(text, return_tensors="pt")["input_ids"]
        mean = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(ours[row], mean / mean.norm(), atol=1e-5, rtol=0)


REFUSED: list[tuple[str, Any]] = [
    *(("init_lora_weights", how) for how in ("pissa", "pissa_niter_4", "olora", "eva", "mica")),
    ("use_rslora", True),
    ("use_dora", True),
    ("use_qalora", True),
    ("qalora_group_size", 8),
    ("lora_bias", True),
    ("bias", "all"),
    ("bias", "lora_only"),
    ("ensure_weight_tying", True),
    ("modules_to_save", ["dense"]),
    ("exclude_modules", ["encoder.layer.0.attention.self.query"]),
    ("layers_to_transform", [1]),
    ("layer_replication", [(0, 2), (1, 2)]),
    ("rank_pattern", {"query": 3}),
    ("alpha_pattern", {"query": 9}),
    ("megatron_core", "other.core"),
    ("trainable_token_indices", [1]),
    ("alora_invocation_tokens", [3]),
    ("monteclora_config", MontecloraConfig()),
    ("kasa_config", KasaConfig()),
    ("use_bdlora", BdLoraConfig(target_modules_bd_a=["query"], target_modules_bd_b=["value"])),
    ("velora_config", VeloraConfig()),
    ("eva_config", EvaConfig()),
    ("corda_config", CordaConfig()),
]
# PEFT makes these with data or a quantised model at hand, or by a function of its own.
REFUSED_AS_WRITTEN: list[tuple[str, Any]] = [
    ("init_lora_weights", "corda"),
    ("init_lora_weights", "loftq"),
    ("init_lora_weights", "tomorrow's"),
    ("lora_ga_config", {"direction": "ArB2r"}),
    ("loftq_config", {"loftq_bits": 4}),
    ("arrow_config", {"top_k": 3}),
    ("target_parameters", ["encoder.layer.0.attention.self.query.weight"]),
    ("layers_pattern", "layer"),
    ("megatron_config", {"tensor_model_parallel_size": 2}),
    ("fan_in_fan_out", True),
    ("a_field_of_tomorrow", False),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_an_option_that_is_not_known_is_refused(
    bert_folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    saved_by_peft(bert_folder, tmp_path, **{name: value})
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{name}"):
        read_peft(tmp_path)


@pytest.mark.parametrize(("name", "value"), REFUSED_AS_WRITTEN)
def test_an_option_in_a_file_is_refused(folder: Path, name: str, value: Any) -> None:
    change_config(folder, **{name: value})
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{name}"):
        read_peft(folder)


def test_every_option_of_peft_is_in_these_tests() -> None:
    tried = {name for name, _ in (*READ, *REFUSED, *REFUSED_AS_WRITTEN)}
    of_layout = {"peft_type", "r", "lora_alpha", "target_modules"}
    of_base = {"base_model_name_or_path", "revision", "peft_version", "auto_mapping"}
    assert set(LoraConfig().to_dict()) <= tried | of_layout | of_base
    ways = typing.get_args(
        typing.get_args(typing.get_type_hints(LoraConfig)["init_lora_weights"])[1]
    )
    named = {value for name, value in (*READ, *REFUSED, *REFUSED_AS_WRITTEN) if "init" in name}
    assert {way for way in ways if "[" not in way} <= named


def test_an_option_that_is_off_may_be_said_in_any_way(folder: Path, vectors: np.ndarray) -> None:
    for off in (None, False, [], {}):
        change_config(folder, rank_pattern=off, use_dora=off, modules_to_save=off)
        assert bits(read_peft(folder)[0]) == bits(vectors[0])


def test_a_base_that_is_not_known_is_left_open(
    bert_folder: Path, layout: Layout, vectors: np.ndarray, tmp_path: Path
) -> None:
    write_peft(vectors[0], layout, None, tmp_path)
    base = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    model = PeftModel.from_pretrained(base, tmp_path)
    assert model.peft_config["default"].base_model_name_or_path is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 4}, r"ranks \[2\]; need one rank, r=4"),
        ({"r": "2"}, "lacks r or lora_alpha"),
        ({"r": None}, "lacks r or lora_alpha"),
        ({"target_modules": ["key", "value"]}, r"self\.query.*target_modules are \['key'"),
        ({"target_modules": ["uery", "alue"]}, "target_modules are"),
        ({"target_modules": []}, "target_modules are"),
        ({"lora_alpha": "3"}, "alpha '3'"),
        ({"lora_alpha": None}, "alpha None"),
        ({"lora_alpha": -3}, "alpha -3"),
        ({"lora_alpha": float("nan")}, "alpha nan"),
        ({"peft_type": "IA3"}, "peft_type LORA"),
    ],
)
def test_configurations_that_do_not_fit(folder: Path, changes: dict[str, Any], said: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{said}"):
        read_peft(folder)


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        key = next(name for name in tensors if old in name)
        tensors[key.replace(old, new)] = tensors.pop(key)

    return change


def replace_one(
    part: str, value: Callable[[Tensor], Tensor]
) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        key = next(name for name in tensors if part in name)
        tensors[key] = value(tensors[key])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replace_one("lora_A", lambda a: a[:1]), r"ranks \[1, 2\]"),
        (replace_one("lora_B", lambda b: b[:, :1]), r"ranks \[1, 2\]"),
        (replace_one("lora_A", lambda a: a[None]), "no LoRA factor"),
        (replace_one("lora_A", lambda a: a[:, :0]), "'encoder.* has width 0 x 24"),
        (rename("lora_A.weight", "lora_B.bias"), "no LoRA factor"),
        (rename("lora_A.weight", "lora_magnitude_vector"), "no LoRA factor"),
        (rename("layer.0.attention.self.query.lora_A", "layer.7.x.query.lora_A"), "only one"),
        (lambda tensors: tensors.clear(), r"ranks \[\]"),
        (lambda tensors: tensors.update({"classifier.weight": torch.ones(2, 2)}), "'classifier"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Any, said: str) -> None:
    change_weights(folder, change)
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{said}"):
        read_peft(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_non_finite_weights_are_refused(folder: Path, value: float) -> None:
    change_weights(folder, replace_one("lora_B", lambda b: torch.full_like(b.double(), value)))
    with pytest.raises(AdapterValueError, match=r"SGL-401.*48 of 384"):
        read_peft(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_truncated_files_are_refused(folder: Path, file: str, kept: int) -> None:
    path = folder / file
    data = path.read_bytes().rstrip()
    path.write_bytes(data[:kept])
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{file}"):
        read_peft(folder)


@pytest.mark.parametrize(
    ("file", "words"),
    [(WEIGHTS, f"{WEIGHTS}.*FileNotFound"), (CONFIG, f"is no PEFT folder: it has no {CONFIG}")],
)
def test_missing_files_are_named(folder: Path, file: str, words: str) -> None:
    (folder / file).unlink()
    with pytest.raises(AdapterFileError, match=f"SGL-402.*{words}"):
        read_peft(folder)


@pytest.mark.parametrize("data", [b"[1]", b"null", b"\xff\xfe{}"])
def test_a_configuration_that_is_no_json_object_is_refused(folder: Path, data: bytes) -> None:
    (folder / CONFIG).write_bytes(data)
    with pytest.raises(AdapterFileError, match="SGL-402"):
        read_peft(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_unusable_values_are_not_written(layout: Layout, tmp_path: Path, value: float) -> None:
    vector = np.zeros(layout.size)
    vector[5] = value
    with pytest.raises(AdapterValueError, match=f"SGL-401.*1 of {layout.size}"):
        write_peft(vector, layout, BASE, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("shape", [(383,), (385,), (1, 384), (2, 384)])
def test_vectors_of_another_shape_are_not_written(
    layout: Layout, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(LayoutError, match=r"SGL-400.*384"):
        write_peft(np.zeros(shape, np.float32), layout, BASE, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_told(
    layout: Layout, vectors: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match="SGL-900"):
        write_peft(vectors[0], layout, BASE, tmp_path / "file")
