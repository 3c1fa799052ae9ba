"""Quantum activations inside ordinary networks: the drop-in for a feed-forward block."""

from .attention import QKANAttention as QKANAttention
from .conv import QKANConv2d as QKANConv2d
from .distill import Distillation as Distillation
from .distill import distill_ffn as distill_ffn
from .experts import QKANExperts as QKANExperts
from .hqkan import HQKAN as HQKAN
from .pretrained import from_pretrained as from_pretrained
from .replace import Replaced as Replaced
from .replace import ffn_names as ffn_names
from .replace import replace_ffn as replace_ffn
