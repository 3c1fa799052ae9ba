"""Folders of replaced models: what they say, who loads them, and who stops with an error."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from small_transformers import FAMILIES
from torch import nn
from transformers.utils import logging

from qkan import HQKAN, fold, from_pretrained, replace_activation, replace_ffn
from qkan.errors import QKANError


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def replaced(name: str = "gpt2") -> Any:
    model = FAMILIES[name].build().eval()
    replace_ffn(model, lambda n: HQKAN(n, latent=3))
    return model


@pytest.mark.parametrize(
    ("name", "auto"),
    [
        ("gpt2", "AutoModelForCausalLM"), ("bert", "AutoModelForMaskedLM"), ("gpt2", "AutoModel"),
        ("t5", "AutoModelForSeq2SeqLM"), ("bert", "AutoModelForSequenceClassification"),
    ],
)  # fmt: skip
def test_auto_classes_build_the_new_modules(name: str, auto: str, tmp_path: Path) -> None:
    model, inputs = replaced(name), FAMILIES[name].inputs()
    model.save_pretrained(tmp_path)
    found = getattr(transformers, auto).from_pretrained(tmp_path)
    mine, theirs = (getattr(m, m.base_model_prefix, m) for m in (found, model))
    assert torch.equal(mine(**inputs)[0], theirs(**inputs)[0])
    assert not hasattr(found.config, "quantization_config") and not hasattr(found, "hf_quantizer")
    assert found.config.qkan["modules"].keys() == model.config.qkan["modules"].keys()
    # transformers allows a quantised model none of these
    found.double().float().train()
    found.save_pretrained(tmp_path / "again")
    from_pretrained(tmp_path / "again")


def test_activations_that_learn_are_built_by_auto_classes(tmp_path: Path) -> None:
    model, inputs = FAMILIES["gpt2"].build().eval(), FAMILIES["gpt2"].inputs()
    replace_activation(model)
    for name, parameter in model.named_parameters():
        if name.endswith("amplitude"):
            nn.init.constant_(parameter, 0.5)
    model.save_pretrained(tmp_path)
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(found(**inputs)[0], model(**inputs)[0])


def test_a_user_s_own_quantisation_is_left_alone(tmp_path: Path) -> None:
    model = replaced()
    model.config.quantization_config = {"quant_method": "awq"}
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization_config"] == {"quant_method": "awq"}
    assert model.config.quantization_config == {"quant_method": "awq"}


LOAD = "import sys, transformers{}; transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])"


@pytest.mark.parametrize("also", ["", ", qkan"])
def test_a_process_without_qkan_stops_and_one_with_it_loads(also: str, tmp_path: Path) -> None:
    replaced().save_pretrained(tmp_path)
    command = [sys.executable, "-c", LOAD.format(also), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode == 0) is bool(also)
    assert also or "import-qkan-first_or-load-with-qkan.from_pretrained" in done.stderr


def test_importing_qkan_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = "import sys, qkan; assert not {'torch', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def copied(model: Any) -> Any:
    return copy.deepcopy(model)


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def body(model: Any) -> Any:
    return model.transformer


@pytest.mark.parametrize("same", [copied, pickled, body])
def test_the_readme_of_a_copy_and_of_a_part(same: Any, tmp_path: Path) -> None:
    model = replaced()
    other = same(model)
    assert other.save_pretrained.args[0] is other
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "qkan.from_pretrained" in text and "| `transformer.h.0.mlp` | HQKAN |" in text
    inputs = FAMILIES["gpt2"].inputs()
    found = transformers.AutoModel.from_pretrained(tmp_path)
    assert torch.equal(found(**inputs)[0], getattr(other, "transformer", other)(**inputs)[0])


def test_a_card_that_was_written_by_hand_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    model = replaced()
    for _ in range(2):
        model.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlicense: mit\n---\n\n# Mine\n")
    assert text.count("## Load this model with qkan") == 1


def test_undo_leaves_no_trace(tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace_ffn(model, lambda n: HQKAN(n, latent=3)).undo()
    model.save_pretrained(tmp_path)
    assert "save_pretrained" not in {name for part in model.modules() for name in vars(part)}
    assert not (tmp_path / "README.md").exists()
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"qkan", "quantization_config", "transformers_weights"} & config.keys()


@pytest.mark.parametrize("replace", [lambda m: replace_ffn(m, HQKAN), replace_activation])
def test_a_folded_model_is_not_saved(replace: Any, tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace(model)
    with pytest.raises(QKANError, match=r"was folded .* save the model that was folded"):
        fold(model).save_pretrained(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_parametrised_modules_say_what_to_do(tmp_path: Path) -> None:
    model = replaced()
    nn.utils.parametrizations.weight_norm(model.transformer.h[0].mlp.down)
    model.save_pretrained(tmp_path)
    with pytest.raises(QKANError, match=r"remove_parametrizations before save_pretrained"):
        from_pretrained(tmp_path)
    nn.utils.parametrize.remove_parametrizations(model.transformer.h[0].mlp.down, "weight")
    model.save_pretrained(tmp_path)
    from_pretrained(tmp_path)


def test_a_fresh_model_from_the_configuration_of_a_replaced_one(tmp_path: Path) -> None:
    model, inputs = replaced(), FAMILIES["gpt2"].inputs()
    fresh = type(model)(model.config).eval()
    fresh.save_pretrained(tmp_path)
    with pytest.raises(QKANError, match=r"has the old blocks, .* Load it with transformers"):
        from_pretrained(tmp_path)
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(found(**inputs)[0], fresh(**inputs)[0])
    replace_ffn(fresh, lambda n: HQKAN(n, latent=2), where="*.h.1.mlp")
    assert [*fresh.config.qkan["modules"]] == ["transformer.h.1.mlp"]
    assert len(model.config.qkan["modules"]) == 2


Weights = dict[str, torch.Tensor]
BLOCK = "transformer.h.0.mlp"
ANY = r"(transformer\.)?h\.0\.mlp\."
"""What a weight is called in the whole model and in its body."""

CHANGES: dict[str, tuple[Callable[[Weights], object], str]] = {
    "missing": (lambda w: w.pop(f"{BLOCK}.up.bias"), rf"The file lacks {ANY}up\.bias\. "),
    "buffer": (
        lambda w: w.pop(f"{BLOCK}.qkan.layers.0.mask"), rf"The file lacks {ANY}qkan.*mask\. ",
    ),
    "shape": (
        lambda w: w.update({f"{BLOCK}.up.bias": torch.zeros(5)}),
        rf"shape are {ANY}up\.bias \(\(5,\) in the file and \(16,\) in the model\)\. ",
    ),
    "more": (
        lambda w: w.update({f"{BLOCK}.more": torch.zeros(5)}),
        rf"The model has no place for {ANY}more\. ",
    ),
    "all": (
        lambda w: [w.pop(name) for name in [*w] if ".mlp." in name],
        rf"The file lacks {ANY}down\.bias, .*, and 10 more\. ",
    ),
}  # fmt: skip
HEADS = {
    "AutoModelForCausalLM": "GPT2LMHeadModel", "AutoModel": "GPT2Model",
    "AutoModelForSequenceClassification": "GPT2ForSequenceClassification",
}  # fmt: skip


def change_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    change(state)
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("auto", HEADS)
@pytest.mark.parametrize("name", CHANGES)
def test_weights_of_new_modules_that_do_not_fit(name: str, auto: str, tmp_path: Path) -> None:
    """An error names them, where transformers would start them anew and go on."""
    replaced().save_pretrained(tmp_path)
    change, says = CHANGES[name]
    change_weights(tmp_path, change)
    for options in ({}, {"ignore_mismatched_sizes": True}, {"device_map": "cpu"}):
        with pytest.raises(QKANError, match=says):
            getattr(transformers, auto).from_pretrained(tmp_path, **options)
    with pytest.raises(QKANError, match=says):
        from_pretrained(tmp_path, model_class=getattr(transformers, HEADS[auto]))


def test_weights_of_an_activation_that_learns_may_not_be_missing(tmp_path: Path) -> None:
    model = FAMILIES["gpt2"].build()
    replace_activation(model)
    model.save_pretrained(tmp_path)
    change_weights(tmp_path, lambda w: w.pop(f"{BLOCK}.act.amplitude"))
    with pytest.raises(QKANError, match=rf"The file lacks {ANY}act\.amplitude\. .*model_class"):
        transformers.AutoModel.from_pretrained(tmp_path)


def test_weights_elsewhere_are_for_transformers_to_judge(tmp_path: Path) -> None:
    replaced().save_pretrained(tmp_path)
    change_weights(tmp_path, lambda w: w.pop("transformer.ln_f.bias"))
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(QKANError, match=r"The file lacks transformer\.ln_f\.bias\. "):
        from_pretrained(tmp_path)


def test_an_index_that_leaves_a_shard_out_and_a_shard_that_is_not_there(tmp_path: Path) -> None:
    model, inputs = replaced(), FAMILIES["gpt2"].inputs()
    model.save_pretrained(tmp_path, max_shard_size="3KB")
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(found(**inputs)[0], model(**inputs)[0])
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shard = content["weight_map"][f"{BLOCK}.up.weight"]
    (tmp_path / shard).unlink()
    for load in (transformers.AutoModelForCausalLM.from_pretrained, from_pretrained):
        with pytest.raises(FileNotFoundError, match=shard):
            load(tmp_path)
    kept = {name: file for name, file in content["weight_map"].items() if file != shard}
    index.write_text(json.dumps({**content, "weight_map": kept}))
    for load in (transformers.AutoModelForCausalLM.from_pretrained, from_pretrained):
        with pytest.raises(QKANError, match=r"The file lacks .*up\.weight"):
            load(tmp_path)


def test_a_loader_that_says_nothing_of_weights_is_told_on(tmp_path: Path, monkeypatch: Any) -> None:
    """As a later transformers might, which names its own method otherwise."""
    replaced().save_pretrained(tmp_path)
    silent = staticmethod(lambda model, config, info: info)
    monkeypatch.setattr(transformers.PreTrainedModel, "_finalize_model_loading", silent)
    with pytest.warns(UserWarning, match=r"not known whether .* load with qkan\.from_pretrained"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


KEPT = ["lm_head", *(f"transformer.{part}" for part in ("wte", "wpe", "drop", "ln_f", "h.1"))]
PLACES: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": torch.bfloat16}, "auto": {"dtype": "auto"},
    "cpu": {"device_map": "cpu"},
    "map": {"device_map": {"": "cpu"}}, "meta": {"device_map": "meta"},
    "disk": {"device_map": {"transformer.h.0": "disk", **dict.fromkeys(KEPT, "cpu")}},
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_where_weights_go_and_in_which_precision(name: str, tmp_path: Path) -> None:
    model, options = replaced(), PLACES[name]
    inputs, wanted = FAMILIES["gpt2"].inputs(), options.get("dtype", torch.float32)
    model.save_pretrained(tmp_path)
    if name == "disk":
        options = {**options, "offload_folder": str(tmp_path / "away")}
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **options)
    wanted = torch.float32 if wanted == "auto" else wanted
    assert {value.dtype for value in found.state_dict().values()} == {wanted}
    if name == "meta":
        assert all(value.is_meta for value in found.state_dict().values())
    else:
        assert torch.equal(found(**inputs)[0], model.to(wanted)(**inputs)[0])


def test_a_configuration_in_memory_stops_a_loader_as_the_one_in_the_folder(tmp_path: Path) -> None:
    """With it the old blocks would be built, and given random weights."""
    model = replaced()
    model.save_pretrained(tmp_path)
    for source in (model, from_pretrained(tmp_path)):
        with pytest.raises(OSError, match=r"load-with-qkan\.from_pretrained"):
            transformers.GPT2LMHeadModel.from_pretrained(tmp_path, config=source.config)
    # the one that was read from the folder asks for the new modules
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    found = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, config=config)
    assert isinstance(found.transformer.h[0].mlp, HQKAN)


def test_a_model_of_the_folder_s_configuration_is_not_taken_for_a_replaced_one(
    tmp_path: Path,
) -> None:
    """Such a model has the old blocks, and its folder says otherwise."""
    replaced().save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    fresh = transformers.AutoModelForCausalLM.from_config(config)
    fresh.save_pretrained(tmp_path / "fresh")
    with pytest.raises(QKANError, match="has the old blocks"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fresh")


def test_a_pipeline_builds_the_new_modules(tmp_path: Path) -> None:
    model = replaced("vit")
    model.save_pretrained(tmp_path)
    size = {"height": 8, "width": 8}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path)
    answer = transformers.pipeline("image-classification", str(tmp_path))
    assert isinstance(answer.model.vit.layers[0].mlp, HQKAN)
