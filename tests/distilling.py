"""Teachers and students of a few hundred parameters, and batches for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from qkan import HQKAN, replace_ffn

SMALL = {"vocab_size": 30, "initializer_range": 0.3}
BERT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def gpt2() -> nn.Module:
    config = GPT2Config(
        **SMALL, n_embd=16, n_layer=2, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


def bert() -> nn.Module:
    return BertModel(BertConfig(**SMALL, **BERT, num_hidden_layers=2))


def albert() -> nn.Module:
    return AlbertForMaskedLM(
        AlbertConfig(**SMALL, **BERT, embedding_size=8, num_hidden_layers=3, bos_token_id=0)
    )


def t5() -> nn.Module:
    config = T5Config(
        vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True)
    # nested tensors, which the fast path makes of padded batches
    return nn.TransformerEncoder(layer, 2)


def texts(count: int = 4, seed: int = 0) -> list[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        {
            "input_ids": torch.randint(30, (3, 7), generator=g),
            "attention_mask": (torch.arange(7) < torch.tensor([[7], [4], [2]])).long(),
        }
        for _ in range(count)
    ]


def questions() -> list[dict[str, Tensor]]:
    return [{**batch, "decoder_input_ids": batch["input_ids"][:, :5]} for batch in texts()]


def vectors() -> list[dict[str, Tensor]]:
    return [
        {"src": torch.randn(3, 7, 16), "src_key_padding_mask": batch["attention_mask"] == 0}
        for batch in texts()
    ]


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[Any]], dict[str, Any], int]] = {
    "gpt2": (gpt2, texts, {}, 2),
    "bert": (bert, texts, {}, 2),
    "albert": (albert, texts, {}, 1),
    "t5": (t5, questions, {}, 2),
    "encoder": (encoder, vectors, {"mask": lambda batch: ~batch["src_key_padding_mask"]}, 2),
}


def block(n: int) -> HQKAN:
    return HQKAN(n, latent=8, engine="torch")


def pair(build: Callable[[], nn.Module] = gpt2, **options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = build()
    student = copy.deepcopy(teacher)
    replace_ffn(student, lambda n: HQKAN(n, latent=8, engine="torch", **options))
    return teacher, student


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}
