"""Folders of replaced models: what they say, who loads them, and who stops with an error."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
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
    assert not hasattr(found.config, "transformers_weights")
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
