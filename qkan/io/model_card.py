"""What makes the folder of a model with replaced modules safe from loaders that do not know them.

transformers would build the blocks that were replaced and give them random weights. So config.json
names a file of weights that is not there, whose name says what to do: a loader that follows the
file ends in an error. `qkan.from_pretrained`, and the hook behind `AutoModel` once qkan is
imported, leave that name out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METHOD = "qkan"
"""What "quant_method" in config.json says, the name of the hook in transformers."""

GUARD = "import-qkan-first_or-load-with-qkan.from_pretrained.safetensors"
"""The file of weights that config.json names and that is not there."""

_TITLE = "## Load this model with qkan"

_CARD = """{title}

This model has modules that transformers does not know. **Load it with `qkan.from_pretrained`:**

```python
# pip install "qkan-hybrid[transformers]"
import qkan

model = qkan.from_pretrained("{folder}")
```

After `import qkan`, `AutoModel.from_pretrained` and its kin build these modules too. Without it
they would build the modules that were replaced, **with random weights**. That is why `config.json`
names a file of weights that does not exist: a loader that does not know qkan stops with an error.
Do not remove that line, nor "quantization_config", which is how transformers finds qkan; nothing is
quantised.

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
    """Put the guard into config.json, and the way to load the folder into README.md.

    Args:
        folder: What `save_pretrained` has written; without a config.json nothing is done.
        record: From the names of modules to their descriptions.
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
