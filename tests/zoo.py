"""Families of transformers by configuration, tiny and random: what `replace_ffn` finds in each.

Run     python tests/zoo.py, which writes the table of families in docs/transformers.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers
from paths import ROOT
from torch import Tensor

DOCS = ROOT / "docs" / "transformers.md"
BEGIN, END = "<!-- families: tests/zoo.py -->", "<!-- end of families -->"

_TOKENS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    **_TOKENS,
}  # fmt: skip
_FEW_KEYS = {**_SIZES, "num_key_value_heads": 1, "head_dim": 8}
_IMAGE = {"image_size": 8, "patch_size": 4, "num_channels": 3}
_SOUND = {
    "conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (3, 3), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "apply_spec_augment": False,
}  # fmt: skip
_PAIR = {
    **_TOKENS, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "decoder_start_token_id": 0,
}  # fmt: skip
_T5 = {
    **_TOKENS, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_decoder_layers": 1,
    "num_heads": 2, "decoder_start_token_id": 0,
}  # fmt: skip
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 32, **_TOKENS}
_MOE = {
    **_FEW_KEYS, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
}  # fmt: skip
_DEEPSEEK = {
    **_SIZES, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "moe_intermediate_size": 24, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8,
    "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "head_dim": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A family.

    Attributes:
        name: What people call it.
        model: Its class in transformers.
        sizes: Of its configuration.
        blocks: Patterns of the names of the new modules, a number in each written as *.
        count: Modules that are replaced.
        config: The configuration's class; the model's own one when None.
        left: Patterns of modules that stay as they are.
        inline: Whether its blocks call their activation by themselves, so that `replace_activation`
            cannot reach it.
    """

    name: str
    model: str
    sizes: dict[str, Any]
    blocks: tuple[str, ...]
    count: int = 2
    config: str | None = None
    left: tuple[str, ...] = field(default=())
    inline: bool = False

    def build(self) -> Any:
        """A random model in evaluation mode, the same one each time."""
        torch.manual_seed(0)
        made = getattr(transformers, self.model)
        config = getattr(transformers, self.config) if self.config else made.config_class
        return made(config(**self.sizes)).eval()

    def inputs(self, model: Any) -> dict[str, Tensor]:
        """A batch of two."""
        generator = torch.Generator().manual_seed(1)
        name = model.main_input_name
        if name == "pixel_values":
            return {name: torch.randn(2, 3, 8, 8, generator=generator)}
        if name == "input_values":
            return {name: torch.randn(2, 200, generator=generator)}
        if name == "input_features":
            return {
                name: torch.randn(2, 8, 32, generator=generator),
                "decoder_input_ids": torch.randint(3, 50, (2, 5), generator=generator),
            }
        tokens = torch.randint(3, 50, (2, 8), generator=generator)
        both = {"input_ids": tokens, "decoder_input_ids": tokens.flip(0)}
        return both if model.config.is_encoder_decoder else {"input_ids": tokens}


def pattern(name: str) -> str:
    """A module's name with * for every number."""
    return re.sub(r"\b\d+\b|(?<=_)\d+\b", "*", name)


def _llama(name: str, model: str, **sizes: Any) -> Kind:
    return Kind(name, model, {**_FEW_KEYS, **sizes}, ("model.layers.*.mlp",))


def _bert(name: str, model: str, body: str, **sizes: Any) -> Kind:
    return Kind(name, model, {**_SIZES, **sizes}, (f"{body}.encoder.layer.*.intermediate",))


def _bart(name: str, model: str, **sizes: Any) -> Kind:
    blocks = ("model.encoder.layers.*.fc1", "model.decoder.layers.*.fc1")
    return Kind(name, model, {**_PAIR, **sizes}, blocks)


def _sound(name: str, model: str, **sizes: Any) -> Kind:
    return Kind(name, model, {**_SIZES, **_SOUND, **sizes}, ("encoder.layers.*.feed_forward",))


ZOO = (
    # texts, one token after the other
    Kind("GPT-2", "GPT2LMHeadModel", _GPT, ("transformer.h.*.mlp",)),
    Kind(
        "GPT-Neo", "GPTNeoForCausalLM",
        {**_SIZES, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]},
        ("transformer.h.*.mlp",),
    ),
    Kind("GPT-NeoX", "GPTNeoXForCausalLM", _SIZES, ("gpt_neox.layers.*.mlp",)),
    Kind("GPT-J", "GPTJForCausalLM", {**_GPT, "rotary_dim": 4}, ("transformer.h.*.mlp",)),
    Kind("GPT-BigCode", "GPTBigCodeForCausalLM", _GPT, ("transformer.h.*.mlp",)),
    Kind(
        "CodeGen", "CodeGenForCausalLM",
        {**_GPT, "n_head": 4, "rotary_dim": 4},
        ("transformer.h.*.mlp",),
    ),
    _llama("Llama", "LlamaForCausalLM"),
    _llama("Mistral", "MistralForCausalLM"),
    _llama("Qwen2", "Qwen2ForCausalLM"),
    _llama("Qwen3", "Qwen3ForCausalLM"),
    _llama("Gemma", "GemmaForCausalLM"),
    _llama("Gemma 2", "Gemma2ForCausalLM"),
    _llama("Gemma 3", "Gemma3ForCausalLM"),
    _llama("Phi", "PhiForCausalLM"),
    _llama("Phi-3", "Phi3ForCausalLM"),
    _llama("StableLM", "StableLmForCausalLM"),
    _llama("OLMo", "OlmoForCausalLM"),
    _llama("OLMo 2", "Olmo2ForCausalLM"),
    _llama("Cohere", "CohereForCausalLM"),
    _llama("Granite", "GraniteForCausalLM"),
    _llama("GLM", "GlmForCausalLM"),
    _llama("StarCoder2", "Starcoder2ForCausalLM"),
    _llama("Nemotron", "NemotronForCausalLM"),
    _llama("SmolLM3", "SmolLM3ForCausalLM"),
    Kind("Falcon", "FalconForCausalLM", _SIZES, ("transformer.h.*.mlp",)),
    Kind(
        "BLOOM", "BloomForCausalLM",
        {**_TOKENS, "hidden_size": 16, "n_layer": 2, "n_head": 2},
        ("transformer.h.*.mlp.dense_h_to_4h",),
    ),
    Kind(
        "MPT", "MptForCausalLM",
        {**_TOKENS, "d_model": 16, "n_layers": 2, "n_heads": 2},
        ("transformer.blocks.*.ffn.up_proj",),
    ),
    Kind(
        "OPT", "OPTForCausalLM",
        {**_SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16},
        ("model.decoder.layers.*.fc1",),
    ),
    Kind(
        "XGLM", "XGLMForCausalLM",
        {**_TOKENS, "d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2},
        ("model.layers.*.fc1",),
    ),
    Kind("BioGPT", "BioGptForCausalLM", _SIZES, ("biogpt.layers.*.fc1",)),
    # routed experts
    Kind("Mixtral", "MixtralForCausalLM", _MOE, ("model.layers.*.mlp.experts",)),
    Kind(
        "Qwen2-MoE", "Qwen2MoeForCausalLM",
        _MOE,
        ("model.layers.*.mlp.experts", "model.layers.*.mlp.shared_expert"), 4,
    ),
    Kind("Qwen3-MoE", "Qwen3MoeForCausalLM", _MOE, ("model.layers.*.mlp.experts",)),
    Kind("OLMoE", "OlmoeForCausalLM", _MOE, ("model.layers.*.mlp.experts",)),
    Kind(
        "DeepSeek-V3", "DeepseekV3ForCausalLM",
        _DEEPSEEK,
        (
            "model.layers.*.mlp", "model.layers.*.mlp.experts",
            "model.layers.*.mlp.shared_experts",
        ),
        3,
    ),
    Kind("GPT-OSS", "GptOssForCausalLM", _MOE, ("model.layers.*.mlp.experts",), inline=True),
    Kind(
        "Granite-MoE", "GraniteMoeForCausalLM",
        _MOE,
        ("model.layers.*.block_sparse_moe.experts",),
    ),
    Kind(
        "Llama 4", "Llama4ForCausalLM",
        {**_MOE, "intermediate_size_mlp": 24, "interleave_moe_layer_step": 2},
        ("model.layers.*.feed_forward", "model.layers.*.feed_forward.shared_expert"),
        2, "Llama4TextConfig", ("model.layers.*.feed_forward.experts",),
    ),
    # texts, from both sides
    _bert("BERT", "BertForMaskedLM", "bert"),
    _bert("RoBERTa", "RobertaForMaskedLM", "roberta"),
    _bert("XLM-RoBERTa", "XLMRobertaForMaskedLM", "roberta"),
    _bert("CamemBERT", "CamembertForMaskedLM", "roberta"),
    _bert("ELECTRA", "ElectraForMaskedLM", "electra", embedding_size=16),
    _bert("MPNet", "MPNetForMaskedLM", "mpnet"),
    _bert("DeBERTa", "DebertaForMaskedLM", "deberta"),
    _bert("DeBERTa-V2", "DebertaV2ForMaskedLM", "deberta"),
    replace(_bert("ESM", "EsmForMaskedLM", "esm", mask_token_id=3), inline=True),
    _bert("BigBird", "BigBirdForMaskedLM", "bert", attention_type="original_full"),
    _bert("Longformer", "LongformerForMaskedLM", "longformer", attention_window=4),
    Kind(
        "ALBERT", "AlbertForMaskedLM",
        {**_SIZES, "embedding_size": 8},
        ("albert.encoder.albert_layer_groups.*.albert_layers.*.ffn",), 1,
    ),
    Kind(
        "DistilBERT", "DistilBertForMaskedLM",
        {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2, **_TOKENS},
        ("distilbert.transformer.layer.*.ffn",),
    ),
    Kind(
        "ModernBERT", "ModernBertForMaskedLM",
        {**_SIZES, "cls_token_id": 1, "sep_token_id": 2},
        ("model.layers.*.mlp",),
    ),
    Kind("XLM", "XLMModel", {**_TOKENS, "emb_dim": 16, "n_layers": 2, "n_heads": 2}, ("ffns.*",)),
    Kind(
        "XLNet", "XLNetModel",
        {**_TOKENS, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
        ("layer.*.ff.layer_*",),
    ),
    Kind(
        "Funnel", "FunnelBaseModel",
        {**_TOKENS, "block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24},
        ("encoder.blocks.*.*.ffn.linear_*",),
    ),
    # texts to texts
    Kind(
        "T5", "T5ForConditionalGeneration",
        _T5,
        ("encoder.block.*.layer.*.DenseReluDense", "decoder.block.*.layer.*.DenseReluDense"),
    ),
    Kind(
        "T5 v1.1, with a gate", "T5ForConditionalGeneration",
        {**_T5, "feed_forward_proj": "gated-gelu"},
        ("encoder.block.*.layer.*.DenseReluDense", "decoder.block.*.layer.*.DenseReluDense"),
    ),
    Kind(
        "Switch Transformers", "SwitchTransformersForConditionalGeneration",
        {
            **_T5, "num_experts": 3, "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1, "expert_capacity": 8,
        },
        tuple(f"{half}.block.*.layer.*.mlp.experts.expert_*" for half in ("encoder", "decoder")),
        6,
    ),
    _bart("BART", "BartForConditionalGeneration"),
    _bart("mBART", "MBartForConditionalGeneration"),
    _bart("Marian", "MarianMTModel"),
    _bart("Pegasus", "PegasusForConditionalGeneration"),
    # padding has no position of its own there, so that texts may not begin with it
    _bart("M2M-100", "M2M100ForConditionalGeneration", decoder_start_token_id=3),
    _bart("Blenderbot", "BlenderbotForConditionalGeneration"),
    _bart(
        "Whisper", "WhisperForConditionalGeneration",
        num_mel_bins=8, max_source_positions=16, suppress_tokens=None, begin_suppress_tokens=None,
    ),
    # images and sounds
    Kind("ViT", "ViTForImageClassification", {**_SIZES, **_IMAGE}, ("vit.layers.*.mlp",)),
    Kind("DeiT", "DeiTForImageClassification", {**_SIZES, **_IMAGE}, ("deit.layers.*.mlp",)),
    Kind("BEiT", "BeitForImageClassification", {**_SIZES, **_IMAGE}, ("beit.layers.*.mlp",)),
    Kind("DINOv2", "Dinov2Model", {**_SIZES, **_IMAGE}, ("encoder.layer.*.mlp",)),
    Kind("CLIP, images", "CLIPVisionModel", {**_SIZES, **_IMAGE}, ("encoder.layers.*.mlp",)),
    Kind(
        "SigLIP, images", "SiglipVisionModel",
        {**_SIZES, **_IMAGE},
        ("encoder.layers.*.mlp", "head.mlp"), 3,
    ),
    _sound("Wav2Vec2", "Wav2Vec2Model"),
    _sound("HuBERT", "HubertModel"),
    _sound("WavLM", "WavLMModel"),
    _sound("UniSpeech", "UniSpeechModel"),
)  # fmt: skip
"""The families, each with what `replace_ffn` finds in it."""


def table() -> str:
    """The families in Markdown."""
    rows = ["| family | class | new modules | unchanged |", "| --- | --- | --- | --- |"]
    for kind in ZOO:
        places, left = (
            ", ".join(f"`{name}`" for name in part) for part in (kind.blocks, kind.left)
        )
        rows.append(f"| {kind.name} | `{kind.model}` | {places} | {left} |")
    inline = " and ".join(kind.name for kind in ZOO if kind.inline)
    return "\n".join(rows) + (
        "\n\n`replace_activation` can replace the activations of all these families except "
        f"{inline}, whose blocks call their activations directly."
    )


def written(text: str) -> str:
    """A page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))
