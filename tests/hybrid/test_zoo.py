"""Families of transformers, one after the other: found, run, trained, generating, kept, undone.

A tenth of them belongs to the suite; `make test-zoo` takes them all.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn
from transformers.utils import logging
from zoo import DOCS, ZOO, Kind, pattern, written

from qkan import DARUAN, HQKAN, QKANError, from_pretrained, replace_activation, replace_ffn
from qkan.hybrid.blocks import find_blocks

CHOSEN = ZOO if os.environ.get("QKAN_ZOO") == "all" else ZOO[3::10]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def fresh(inputs: int) -> HQKAN:
    """A new block away from its start, so that outputs and gradients say something."""
    block = HQKAN(inputs, latent=3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.uniform_(-1, 1)
    return block


def outputs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs)[0]
    return found


@pytest.mark.parametrize("kind", CHOSEN, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore")
def test_a_family(kind: Kind, tmp_path: Path) -> None:
    model = kind.build()
    inputs = kind.inputs(model)
    before, state = outputs(model, inputs), copy.deepcopy(model.state_dict())
    replaced = replace_ffn(model, fresh)
    # found
    assert list(dict.fromkeys(map(pattern, replaced))) == list(kind.blocks)
    assert len(replaced) == kind.count and tuple(map(pattern, replaced.left)) == kind.left
    # run
    after = outputs(model, inputs)
    assert after.shape == before.shape and after.isfinite().all()
    assert not torch.equal(after, before)
    # trained: all new modules but experts that no token reaches
    outs = [out for out in model(**inputs).values() if isinstance(out, Tensor) and out.grad_fn]
    sum(out.square().mean() for out in outs).backward()
    for name in replaced:
        grads = [p.grad for p in model.get_submodule(name).parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads)
        assert any(grad.any() for grad in grads) or ".expert_" in name
    # generating: the cache changes nothing
    if model.can_generate():
        options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
        given = {name: value for name, value in inputs.items() if "decoder" not in name}
        cached, plain = (
            model.generate(**given, use_cache=cache, **options) for cache in (True, False)
        )
        assert torch.equal(cached, plain)
    # kept
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path, model_class=type(model))
    assert torch.equal(outputs(again, inputs), after)
    # undone
    replaced.undo()
    assert torch.equal(outputs(model, inputs), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


HOLDERS = {
    "BLOOM": "gelu_impl", "MPT": "act", "XLNet": "activation_function",
    "Funnel": "activation_function",
}  # fmt: skip
"""Families whose blocks add the residual by themselves, and what they call their activation."""


@pytest.mark.parametrize("name", HOLDERS)
def test_residuals_and_norms_of_a_block_stay(name: str) -> None:
    """A new module that computes what lay between the linear maps changes nothing."""
    kind = next(kind for kind in ZOO if kind.name == name)
    model = kind.build()
    inputs = kind.inputs(model)
    before, made = outputs(model, inputs), []
    for block in find_blocks(model):
        first, last = (copy.deepcopy(linear) for linear in block.linears.values())
        made.append(nn.Sequential(first, getattr(block.module, HOLDERS[name]), last))
    new = iter(made)
    assert len(replace_ffn(model, lambda n: next(new))) == kind.count == len(made)
    assert_close(outputs(model, inputs), before, name, 1e-6)


@pytest.mark.checkout
def test_the_table_of_families_is_theirs() -> None:
    """Run python tests/zoo.py where it is not."""
    assert DOCS.read_text() == written(DOCS.read_text())


def test_the_zoo_has_no_family_twice() -> None:
    assert len({kind.name for kind in ZOO}) == len(ZOO) >= 70


@pytest.mark.parametrize("kind", CHOSEN, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore")
def test_the_activations_of_a_family(kind: Kind, tmp_path: Path) -> None:
    model = kind.build()
    inputs = kind.inputs(model)
    before = outputs(model, inputs)
    if kind.inline:
        with pytest.raises(QKANError, match="its forward method calls the function directly"):
            replace_activation(model)
        assert torch.equal(outputs(model, inputs), before)
        return
    replaced = replace_activation(model)
    assert torch.equal(outputs(model, inputs), before)
    for module in model.modules():
        if isinstance(module, DARUAN):
            nn.init.constant_(module.amplitude, 0.5)
    changed = outputs(model, inputs)
    assert not torch.equal(changed, before)
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path, model_class=type(model))
    assert torch.equal(outputs(again, inputs), changed)
    replaced.undo()
    assert torch.equal(outputs(model, inputs), before)
