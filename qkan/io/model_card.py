"""Protect the folder of a model with replaced modules from loaders that do not know them.

transformers alone would build the old blocks with random weights. So config.json names a missing
file of weights, whose name says what to do: a loader that looks for it stops with an error.
`qkan.from_pretrained`, and the hook of `AutoModel` once qkan is imported, ignore that name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METHOD = "qkan"
"""The value of "quant_method" in config.json, the name of the hook in transformers."""

GUARD = "import-qkan-first_or-load-with-qkan.from_pretrained.safetensors"
"""The missing file of weights that config.json names."""

_TITLE = "## Load this model with qkan"

_CARD = """{title}

This model has modules that transformers does not know. **Load it with `qkan.from_pretrained`:**

```python
# pip install "qkan-hybrid[transformers]"
import qkan

model = qkan.from_pretrained("{folder}")
```

After `import qkan`, `AutoModel.from_pretrained` and its relatives build these modules, too. Without
that import they would build the modules that were replaced, **with random weights**. That is why
`config.json` names a file of weights that does not exist: a loader that does not know qkan stops
with an error. Do not remove that line, nor "quantization_config", by which transformers finds qkan;
nothing is quantised.

| module | is now |
| --- | --- |
{rows}
"""

_HEAD = """---
library_name: transformers
tags:
- qkan
---

"""


def finish(folder: str | os.PathLike[str], record: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the guard into config.json, and how to load the folder into README.md.

    Args:
        folder: The folder that `save_pretrained` wrote; without a config.json nothing is done.
        record: The descriptions of modules by name.
    """
    settings, card = Path(folder) / "config.json", Path(folder) / "README.md"
    if not settings.is_file():
        return
    config = json.loads(settings.read_text(encoding="utf-8"))
    config["transformers_weights"] = GUARD
    settings.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    rows = "\n".join(f"| `{name}` | {entry['kind']} |" for name, entry in record.items())
    name = Path(folder).resolve().name
    ours = _CARD.format(title=_TITLE, folder=name, rows=rows)
    # a card that somebody wrote stays, with ours at its end in the place of an older one
    there = card.read_text(encoding="utf-8").partition(_TITLE)[0] if card.is_file() else _HEAD
    card.write_text(f"{there.rstrip()}\n\n{ours}", encoding="utf-8")


def unguarded(config: Any) -> Any:
    """Take out of a configuration what keeps other loaders away, and return it."""
    if getattr(config, "transformers_weights", None) == GUARD:
        del config.transformers_weights
    found = getattr(config, "quantization_config", None)
    if isinstance(found, dict) and found.get("quant_method") == METHOD:
        del config.quantization_config
    return config
