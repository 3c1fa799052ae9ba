"""The hook by which `AutoModel.from_pretrained` of transformers builds replaced modules.

In transformers, a quantiser that config.json names may exchange modules before the weights are
loaded. This module registers itself as such a quantiser, but quantises nothing. It is imported as
soon as the quantisers of transformers are.
"""

from __future__ import annotations

import warnings
from typing import Any

from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from qkan.errors import QKANError
from qkan.io.model_card import METHOD, unguarded

from .pretrained import check_blocks, check_record, exchange, settle


@register_quantization_config(METHOD)
class ReplacedModules(QuantizationConfigMixin):
    """The entry in config.json that names the hook; the record beside it describes the modules."""

    def __init__(self, **unused: object) -> None:
        self.quant_method = METHOD  # type: ignore[assignment]


@register_quantizer(METHOD)
class ReplacedModulesLoader(HfQuantizer):
    """Builds the modules of the record while a model is loaded, and then removes itself."""

    is_trainable = True

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Return True, since the model is saved like any other."""
        return True

    def update_attn_implementation(self, config: Any) -> Any:
        """Check the record and remove the guard, before the weights are looked for."""
        check_record(config.name_or_path or "this folder", config)
        return unguarded(config)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        exchange(model)
        adjust = model._adjust_missing_and_unexpected_keys
        self._checked = False

        def check(info: Any) -> None:
            self._checked = True
            try:
                check_blocks(model.config.name_or_path, model, info.to_dict())
            except QKANError:
                # of what is still there, transformers reports that it starts anew
                for names in (info.missing_keys, info.unexpected_keys, info.mismatched_keys):
                    names.clear()
                raise
            adjust(info)

        model._adjust_missing_and_unexpected_keys = check

    def postprocess_model(self, model: Any, **kwargs: Any) -> None:
        """Make the model an ordinary one, which may be trained, moved and cast."""
        vars(model).pop("_adjust_missing_and_unexpected_keys", None)
        if not self._checked:
            warnings.warn(
                "transformers did not say which weights it found, so it is not known whether all "
                "weights of the new modules were there; load with qkan.from_pretrained.",
                stacklevel=2,
            )
        self.remove_quantization_config(model)  # type: ignore[no-untyped-call]
        vars(model).pop("is_quantized", None)
        settle(model)
