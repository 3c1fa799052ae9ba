"""Small random models of transformers, one of each form of feed-forward block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import HQKAN

_SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
_TOKENS = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_IMAGES = {"image_size": 8, "patch_size": 4}


@dataclass(frozen=True)
class Family:
    """A model class, its configuration, and what its feed-forward blocks are."""

    model: str
    config: str
    sizes: dict[str, Any]
    blocks: tuple[str, ...]
    activation: str

    def build(self, **options: Any) -> Any:
        """A random model in evaluation mode, the same one each time."""
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**{**self.sizes, **options})
        return getattr(transformers, self.model)(config).eval()

    def inputs(self) -> dict[str, Tensor]:
        """A batch of two."""
        generator = torch.Generator().manual_seed(1)
        if "image_size" in self.sizes:
            return {"pixel_values": torch.randn(2, 3, 8, 8, generator=generator)}
        tokens = torch.randint(3, 50, (2, 7), generator=generator)
        both = {"input_ids": tokens, "decoder_input_ids": tokens.flip(0)}
        return both if "ConditionalGeneration" in self.model else {"input_ids": tokens}

    def act(self, x: Tensor) -> Tensor:
        """The activation of its blocks."""
        if self.activation == "gelu_new":
            return F.gelu(x, approximate="tanh")
        return {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}[self.activation](x)


def _names(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(layer) for layer in (0, 1))


FAMILIES = {
    "gpt2": Family(
        "GPT2LMHeadModel", "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 32, **_TOKENS},
        _names("transformer.h.{}.mlp"), "gelu_new",
    ),
    "llama": Family(
        "LlamaForCausalLM", "LlamaConfig", {**_SIZES, **_TOKENS, "num_key_value_heads": 1},
        _names("model.layers.{}.mlp"), "silu",
    ),
    "bert": Family(
        "BertForMaskedLM", "BertConfig", {**_SIZES, **_TOKENS},
        _names("bert.encoder.layer.{}.intermediate"), "gelu",
    ),
    "albert": Family(
        "AlbertForMaskedLM", "AlbertConfig", {**_SIZES, **_TOKENS, "embedding_size": 8},
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn",), "gelu_new",
    ),
    "vit": Family(
        "ViTForImageClassification", "ViTConfig", {**_SIZES, **_IMAGES},
        _names("vit.layers.{}.mlp"), "gelu",
    ),
    "opt": Family(
        "OPTForCausalLM", "OPTConfig",
        {
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24,
            "word_embed_proj_dim": 16, "max_position_embeddings": 32, **_TOKENS,
        },
        _names("model.decoder.layers.{}.fc1"), "relu",
    ),
    "gpt-neox": Family(
        "GPTNeoXForCausalLM", "GPTNeoXConfig", {**_SIZES, **_TOKENS},
        _names("gpt_neox.layers.{}.mlp"), "gelu",
    ),
    "gptj": Family(
        "GPTJForCausalLM", "GPTJConfig",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "rotary_dim": 4, **_TOKENS},
        _names("transformer.h.{}.mlp"), "gelu_new",
    ),
    "distilbert": Family(
        "DistilBertModel", "DistilBertConfig",
        {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2, **_TOKENS},
        _names("transformer.layer.{}.ffn"), "gelu",
    ),
    "t5": Family(
        "T5ForConditionalGeneration", "T5Config",
        {
            "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_decoder_layers": 1,
            "num_heads": 2, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0,
            "vocab_size": 50, "pad_token_id": 2, "eos_token_id": 1,
        },
        ("encoder.block.0.layer.1.DenseReluDense", "decoder.block.0.layer.2.DenseReluDense"),
        "gelu_new",
    ),
    "bart": Family(
        "BartForConditionalGeneration", "BartConfig",
        {
            "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
            "decoder_start_token_id": 0, "activation_dropout": 0.5, **_TOKENS,
        },
        ("model.encoder.layers.0.fc1", "model.decoder.layers.0.fc1"), "gelu",
    ),
}  # fmt: skip


class SameBlock(nn.Module):
    """What a block computes, from its linear maps; the last one makes the output."""

    def __init__(self, family: Family, maps: list[nn.Module]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)
        self.act = family.act

    def forward(self, x: Tensor) -> Tensor:
        first, *gated, last = self.maps
        hidden = self.act(first(x))
        for gate in gated:
            hidden = hidden * gate(x)
        return last(hidden)


def linear_maps(model: nn.Module) -> list[list[str]]:
    """The names of the maps to and from the 24 hidden units, block by block."""
    found: list[list[str]] = [[]]
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2 and 24 in weight.shape:
            found[-1].append(name)
            # the map back closes the block: Conv1D keeps its weight transposed
            rows = weight.T if hasattr(module, "nf") else weight
            if rows.shape[1] == 24:
                found.append([])
    return found[:-1]


class Mlp(nn.Module):
    """The shape of timm's Mlp."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.drop = nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0)
        self.norm, self.fc2 = nn.Identity(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.norm(self.drop(self.act(self.fc1(x))))))


def small(inputs: int) -> HQKAN:
    """A new block of few parameters, not small beside the residual."""
    block = HQKAN(inputs, latent=3)
    nn.init.normal_(block.up.weight)
    return block
