"""`FastLayer`: a `QKANLayer` whose parameters another network changes for every sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from qkan._options import check_choice
from qkan.errors import QKANError

from .functional import qkan_layer
from .layer import QKANLayer

PROGRAMS = ("theta", "scale", "shift", "weight")
"""The parameters of a fast layer that a slow network can change."""


class FastLayer(QKANLayer):
    """A `QKANLayer` with parameters that are changed for every sample.

    Attributes:
        programs: The names of the parameters that are changed.
    """

    programs: tuple[str, ...] = ("theta",)

    @property
    def sizes(self) -> list[int]:
        """The number of parameters of an edge for each name in `programs`."""
        k, u = self.circuit.num_theta, self.circuit.num_encodings
        return [{"theta": k, "weight": 1}.get(name, u) for name in self.programs]

    def changed(self, changes: Tensor) -> dict[str, Tensor]:
        """The parameters plus their changes (…, o, i, n), by name, such as theta (…, o, i, k)."""
        parts = zip(self.programs, changes.split(self.sizes, -1), strict=True)
        return {
            name: getattr(self, name) + (part.squeeze(-1) if name == "weight" else part)
            for name, part in parts
        }

    def forward(self, x: Tensor, changes: Tensor) -> Tensor:  # type: ignore[override]
        """Map (b, i), with changes (b, o, i, n), → (b, o)."""
        own = {name: getattr(self, name) for name in PROGRAMS} | self.changed(changes)
        return qkan_layer(
            x, **own, base_weight=self.base_weight, bias=self.bias, mask=self.mask,
            program=self.program, fixed_scale=self.fixed_scale, base=self.base,
            readout=self.readout, engine=self.engine,
        )  # fmt: skip


def check_programs(programs: str | Sequence[str], fast: FastLayer) -> tuple[str, ...]:
    """Return the names of the changed parameters in the order of `PROGRAMS`."""
    if not isinstance(programs, Iterable):
        raise QKANError(f"programs={programs!r}; wanted some of {', '.join(PROGRAMS)}.")
    asked = [programs] if isinstance(programs, str) else [*programs]
    for name in asked:
        check_choice("programs", name, PROGRAMS)
    if not asked or len({*asked}) < len(asked):
        raise QKANError(f"programs={programs!r}; wanted some of {', '.join(PROGRAMS)}, each once.")
    if "scale" in asked and fast.fixed_scale is not None:
        raise QKANError(
            f"programs: encoding={fast.encoding!r} fixes the scales; leave 'scale' out, or pass "
            "encoding='trainable'."
        )
    chosen = tuple(name for name in PROGRAMS if name in asked)
    if "theta" in chosen and not fast.circuit.num_theta:
        raise QKANError("programs: the circuit has no theta; leave 'theta' out.")
    return chosen
