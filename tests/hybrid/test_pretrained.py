"""Replaced models of transformers: saved and built again, trained, generating, with adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from compare import assert_close
from small_transformers import FAMILIES
from torch import Tensor, nn
from transformers.utils import logging

from qkan import HQKAN, QKANLayer, extend, from_pretrained, param_groups, replace_ffn
from qkan.circuits import RX, Circuit, Encoding, Theta
from qkan.errors import QKANError

GENERATING = ("gpt2", "llama", "opt", "gpt-neox", "gptj", "t5", "bart")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """No progress bars, and no report of weights that a test takes away."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def small(inputs: int) -> HQKAN:
    """A new block away from its start."""
    block = HQKAN(inputs, latent=3, gate=True, dropout=0.1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.uniform_(-1, 1)
    return block


def assert_same(found: Any, wanted: Any, inputs: dict[str, Tensor]) -> None:
    """The class, every tensor and the outputs are identical."""
    assert type(found) is type(wanted) and not found.training
    ours, theirs = found.state_dict(), wanted.state_dict()
    assert [*ours] == [*theirs] and all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert found.config.qkan == wanted.config.qkan
    assert torch.equal(found(**inputs)[0], wanted.eval()(**inputs)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_and_built_again(name: str, tmp_path: Path) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    found = from_pretrained(tmp_path)
    assert_same(found, model, inputs)
    found.save_pretrained(tmp_path / "again")
    assert_same(from_pretrained(tmp_path / "again"), model, inputs)


@pytest.mark.parametrize("name", GENERATING)
def test_generating_with_the_cache_is_generating_without(name: str) -> None:
    family = FAMILIES[name]
    model, tokens = family.build(), family.inputs()["input_ids"]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 49}
    before = model.generate(tokens, **options)
    replace_ffn(model, small)
    cached, plain = (model.generate(tokens, use_cache=cache, **options) for cache in (True, False))
    assert torch.equal(cached, plain) and not torch.equal(cached, before)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "vit"])
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs()
    replace_ffn(model, lambda n: HQKAN(n, latent=3))
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    gradients = []
    for enable in (None, model.activation_checkpointing_enable):
        if enable is not None:
            enable()
        model.zero_grad()
        model.train()(**inputs)[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_chunks_of_the_sequence_change_nothing(name: str) -> None:
    outputs = []
    for size in (0, 1):
        model = FAMILIES[name].build(chunk_size_feed_forward=size)
        torch.manual_seed(0)
        replace_ffn(model, small)
        outputs.append(model(**FAMILIES[name].inputs())[0])
    assert torch.allclose(*outputs, atol=1e-5)


def test_built_in_another_dtype_and_for_another_class(tmp_path: Path) -> None:
    model, inputs = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].inputs()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    assert from_pretrained(tmp_path, dtype=torch.float64).dtype == torch.float64
    body = from_pretrained(tmp_path, model_class=transformers.GPT2Model)
    assert type(body) is transformers.GPT2Model
    assert torch.equal(body(**inputs)[0], model.transformer(**inputs)[0])


def test_a_distilled_body_under_the_head_of_a_task(tmp_path: Path) -> None:
    """Weights outside the new blocks may be missing, and are named; those inside may not."""
    model, inputs = FAMILIES["bert"].build(), FAMILIES["bert"].inputs()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    task = transformers.BertForSequenceClassification
    says = r"(?s)classifier\.bias, classifier\.weight start anew.*cls\.predictions.* were left out"
    with pytest.warns(UserWarning, match=says):
        found = from_pretrained(tmp_path, model_class=task, num_labels=3)
    assert type(found) is task and found.classifier.weight.abs().max() > 0
    body = found.bert.encoder(found.bert.embeddings(**inputs))[0]
    assert torch.equal(body, model.eval().bert.encoder(model.bert.embeddings(**inputs))[0])
    found(**inputs, labels=torch.tensor([0, 2])).loss.backward()
    found.save_pretrained(tmp_path / "task")
    again = from_pretrained(tmp_path / "task")
    assert_same(again, found, inputs)
    # where the weights of the blocks themselves are missing nothing is built
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in state.items() if ".0.intermediate.up" not in name}
    safetensors.torch.save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(QKANError, match=r"The file lacks .*layer\.0\.intermediate\.up\.weight"):
        from_pretrained(tmp_path, model_class=task)


def test_what_the_folder_says_to_those_who_open_it(tmp_path: Path) -> None:
    model = FAMILIES["bert"].build()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["qkan"]["read_with"]
    assert "qkan.from_pretrained" in said and "random" in said


@pytest.mark.parametrize("sparse", [1, 2])
def test_a_model_that_starts_its_experts_from_outside(sparse: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.SwitchTransformersConfig(
        vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2,
        num_experts=3, num_sparse_encoder_layers=sparse, num_sparse_decoder_layers=sparse,
        expert_capacity=8, decoder_start_token_id=0, pad_token_id=2,
    )  # fmt: skip
    model = transformers.SwitchTransformersForConditionalGeneration(config).eval()
    replaced = replace_ffn(model, small)
    assert any(name.endswith("expert_2") for name in replaced)
    model.save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), model, FAMILIES["t5"].inputs())


def test_some_blocks_of_other_kinds_and_a_circuit_of_ones_own(tmp_path: Path) -> None:
    model, inputs = FAMILIES["llama"].build(), FAMILIES["llama"].inputs()
    own = Circuit([RX(Theta(0)), RX(Encoding(0)), RX(Theta(1))])
    replace_ffn(model, lambda n: HQKAN(n, ansatz=own, encoding=(0.5,)), "*.1.mlp")
    head = lambda name, module: name == "lm_head"  # noqa: E731
    replace_ffn(model, lambda n: QKANLayer(n, 50, group=2), head)
    model.save_pretrained(tmp_path)
    found = from_pretrained(tmp_path)
    assert_same(found, model, inputs)
    assert type(found.model.layers[0].mlp).__name__ == "LlamaMLP"


class Language(transformers.LlamaForCausalLM):
    """A class that transformers does not know by name."""


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    model = Language(transformers.LlamaConfig(**FAMILIES["llama"].sizes)).eval()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    found = from_pretrained(tmp_path, model_class=Language)
    assert_same(found, model, FAMILIES["llama"].inputs())
    with pytest.raises(QKANError, match="a Language, which is not a class of transformers"):
        from_pretrained(tmp_path)


def test_replaced_in_the_body_and_saved_as_a_whole(tmp_path: Path) -> None:
    """The configuration is one for both, and names begin elsewhere."""
    model, inputs = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].inputs()
    replace_ffn(model.transformer, small, "h.0.mlp")
    replace_ffn(model, small, "transformer.h.1.mlp")
    model.save_pretrained(tmp_path / "whole")
    assert_same(from_pretrained(tmp_path / "whole"), model, inputs)
    model.transformer.save_pretrained(tmp_path / "body")
    assert_same(from_pretrained(tmp_path / "body"), model.transformer, inputs)


def test_a_model_inside_another_module(tmp_path: Path) -> None:
    inputs = FAMILIES["bert"].inputs()
    classifier = nn.ModuleDict({"bert": FAMILIES["bert"].build(), "head": nn.Linear(16, 2)})
    replaced = replace_ffn(classifier, small)
    classifier["bert"].save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), classifier["bert"], inputs)
    replaced.undo()
    assert not hasattr(classifier["bert"].config, "qkan")


def test_two_models_of_one_configuration_object(tmp_path: Path) -> None:
    family = FAMILIES["gpt2"]
    first = family.build()
    second = type(first)(first.config).eval()
    replace_ffn(first, small)
    replace_ffn(second, lambda n: HQKAN(n, latent=2), "*.1.mlp")
    for number, model in enumerate((first, second)):
        model.save_pretrained(tmp_path / str(number))
        assert_same(from_pretrained(tmp_path / str(number)), model, family.inputs())
    assert second.config is second.transformer.config is second.transformer.h[0].attn.config


def test_undone_to_what_was_replaced_before(tmp_path: Path) -> None:
    """The record is that of the modules which are back."""
    model = FAMILIES["gpt2"].build()
    first = replace_ffn(model, small)
    wanted = model.config.qkan
    later = replace_ffn(
        model, lambda n: HQKAN(n, latent=2), lambda name, module: isinstance(module, HQKAN)
    )
    assert model.config.qkan != wanted
    later.undo()
    model.save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), model, FAMILIES["gpt2"].inputs())
    assert model.config.qkan == wanted
    first.undo()
    assert not hasattr(model.config, "qkan")


def test_extended_after_it_was_replaced(tmp_path: Path) -> None:
    model, inputs = FAMILIES["bert"].build(), FAMILIES["bert"].inputs()
    replace_ffn(model, lambda n: HQKAN(n, latent=2, reps=1))
    longer = extend(model, 3)
    longer.save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), longer, inputs)
    assert model.config.qkan != longer.config.qkan


class Tokens(torch.utils.data.Dataset):
    """A few random sequences."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.randint(3, 50, (6,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "labels": tokens}


def test_the_trainer_trains_saves_and_resumes(tmp_path: Path) -> None:
    def trainer(steps: int) -> Any:
        torch.manual_seed(0)
        model = FAMILIES["gpt2"].build()
        replace_ffn(model, lambda n: HQKAN(n, latent=3))
        arguments = transformers.TrainingArguments(
            str(tmp_path), max_steps=steps, per_device_train_batch_size=4, save_steps=2,
            logging_steps=1, use_cpu=True, report_to=[], disable_tqdm=True, seed=0,
        )  # fmt: skip
        optimizer = torch.optim.AdamW(param_groups(model, lr=1e-2))
        return transformers.Trainer(
            model, arguments, train_dataset=Tokens(), optimizers=(optimizer, None)
        )

    whole = trainer(4)
    whole.train()
    losses = [row["loss"] for row in whole.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    saved = from_pretrained(tmp_path / "checkpoint-4")
    assert_same(saved, whole.model, FAMILIES["gpt2"].inputs())
    again = trainer(4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# peft asks transformers by a name that is going to change
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_beside_it(tmp_path: Path) -> None:
    model, inputs = FAMILIES["llama"].build(), FAMILIES["llama"].inputs()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path / "model")
    options = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "mlp.down", "mlp.up"])
    adapted = peft.get_peft_model(model, options)
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert sum("mlp" in name for name in trainable) == 8
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
    adapted.save_pretrained(tmp_path / "adapter")
    base = from_pretrained(tmp_path / "model")
    before = base(**inputs)[0]
    found = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(found(**inputs)[0], adapted.eval()(**inputs)[0])
    assert not torch.equal(found(**inputs)[0], before)
    merged = found.merge_and_unload()
    assert_close(merged(**inputs)[0], adapted(**inputs)[0], "merged", 1e-4)
    options = peft.LoraConfig(r=2, target_modules=["up_proj"])
    with pytest.raises(QKANError, match=r"0\.mlp\.up_proj has an adapter"):
        replace_ffn(peft.get_peft_model(FAMILIES["llama"].build(), options), small)


def _edit(config: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    change(config["qkan"]["modules"]["transformer.h.0.mlp"])


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nothing": (lambda c: c.pop("qkan"), "has no entry 'qkan', so replace_ffn was not called"),
    "no-record": (lambda c: c.update(qkan=[]), "'qkan' in the config.json .* edited or damaged"),
    "newer": (lambda c: c["qkan"].update(format=3), "is in format 3 .* upgrade"),
    "kind": (lambda c: _edit(c, lambda m: m.update(kind="Z")), r"h\.0\.mlp is a Z; .*Upgrade"),
    "latent": (
        lambda c: _edit(c, lambda m: m["config"]["qkan"]["layers"][0].update(in_features=0)),
        r"says about transformer\.h\.0\.mlp does not make a HQKAN: in_features=0",
    ),
    "option": (
        lambda c: _edit(c, lambda m: m["config"].pop("gate")), "does not make a HQKAN: .*gate",
    ),
    "no-weights": (
        lambda c: c["qkan"]["modules"].pop("transformer.h.0.mlp"),
        r"do not fit the GPT2LMHeadModel .*lacks .*transformer\.h\.0\.mlp\.c_fc",
    ),
    "shape": (
        lambda c: _edit(c, lambda m: m["config"].update(in_features=15)),
        r"do not fit the GPT2LMHeadModel .*another shape are .*h\.0\.mlp\.down\.weight",
    ),
    "name": (
        lambda c: c["qkan"]["modules"].update(
            {"transformer.h.7.mlp": c["qkan"]["modules"]["transformer.h.1.mlp"]}
        ),
        r"GPT2LMHeadModel has no block transformer\.h\.7\.mlp",
    ),
    "class": (
        lambda c: c.update(architectures=["MyGPT"]), "a MyGPT, which is .* as model_class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_folders_that_are_not_what_they_say(name: str, tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    change, says = EDITS[name]
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(QKANError, match=f"(?s){says}"):
        from_pretrained(tmp_path)


def test_options_that_are_not_passed_on(tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace_ffn(model, small)
    model.save_pretrained(tmp_path)
    with pytest.raises(QKANError, match="ignore_mismatched_sizes cannot be set"):
        from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    with pytest.raises(QKANError, match=r"AutoModelForCausalLM.*; pass a class of models"):
        from_pretrained(tmp_path, model_class=transformers.AutoModelForCausalLM)
    with pytest.raises(TypeError, match="latent"):
        from_pretrained(tmp_path, latent=3)


def test_modules_of_another_kind_are_not_built_again(tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace_ffn(model, lambda n: nn.Sequential(nn.Linear(n, 3), nn.SiLU(), nn.Linear(3, n)))
    model.save_pretrained(tmp_path)
    with pytest.raises(QKANError, match=r"h\.0\.mlp of .* is a Sequential, which cannot be built"):
        from_pretrained(tmp_path)
