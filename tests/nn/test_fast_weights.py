"""`FastWeightQKAN` beside a loop over time that follows its formula step by step."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_close
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qkan import (
    HQKAN,
    FastWeightQKAN,
    QKANError,
    QKANLayer,
    effective_parameters,
    explain,
    extend,
    fit,
    load,
    noisy,
    param_groups,
    plot,
    prune,
    save,
    sparse_loss,
    symbolic,
)
from qkan.circuits import DeviceNoise, PulseNoise
from qkan.nn.fast_layer import FastLayer

DOUBLE = torch.float64
PULSE = PulseNoise(1.0, 1.0, 0.0)
CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one step at once": {"chunk": 1},
    "chunks that do not divide": {"chunk": 3},
    "ranks": {"rank": 2, "chunk": 3},
    "qkan": {"slow": "qkan", "reps": 1},
    "all programs": {"programs": ("weight", "theta", "shift", "scale"), "chunk": 4},
    "all programs, ranks": {"programs": ("weight", "theta", "shift", "scale"), "rank": 1},
    "weight alone": {"programs": "weight"},
    "constant gate": {"gate": 0.75, "chunk": 2},
    "no memory": {"gate": 0, "chunk": 3},
    "fixed scales": {"encoding": "ternary", "reps": 2, "base": None, "bias": False},
    "amplitude": {"readout": "amplitude", "ansatz": "rpz", "reps": 2},
}


def module(case: str = "as it comes", **more: Any) -> FastWeightQKAN:
    """A small module whose gate depends on its inputs."""
    options = {"hidden": 4, "dtype": DOUBLE, **CASES[case], **more}
    made = FastWeightQKAN(3, 2, generator=torch.Generator().manual_seed(5), **options)
    if made.gate is not None:
        with torch.no_grad():
            made.gate.weight.normal_(generator=torch.Generator().manual_seed(6))
    return made


def sequence(steps: int = 7, batch: int = 5, *, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, 3, generator=generator, dtype=DOUBLE)


def loop(layer: FastWeightQKAN, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(t, b, i) → all outputs (t, b, o) and the last changes, one step and sample at a time."""
    fast, outs, states = layer.fast, [], []
    for b in range(x.shape[1]):
        changes = 0 if state is None else state[b]
        row = []
        for step in x[:, b]:
            z = layer.slow(step)
            gate = layer.kept if layer.gate is None else torch.sigmoid(layer.gate(z)[0])
            changes = (1 - gate) * written(layer, z) + gate * changes
            own = {n: getattr(fast, n) for n in ("theta", "scale", "shift", "weight")}
            own |= layer.programmed(changes)
            plain = QKANLayer.from_config(fast.config(), dtype=DOUBLE)
            values = {**dict(fast.named_parameters()), **dict(fast.named_buffers()), **own}
            row.append(torch.func.functional_call(plain, values, (step,)))
        outs.append(torch.stack(row))
        states.append(changes)
    return torch.stack(outs, 1), torch.stack(states)


def written(layer: FastWeightQKAN, z: Tensor) -> Tensor:
    """What the head writes, (o, i, n)."""
    o, i, n = 2, 3, sum(layer.fast.sizes)
    numbers = layer.head.weight @ z
    if layer.rank is None:
        return numbers.reshape(o, i, n)
    left = numbers[: o * n * layer.rank].reshape(o, n, layer.rank)
    right = numbers[o * n * layer.rank :].reshape(i, layer.rank)
    return sum(left[:, None, :, r] * right[None, :, None, r] for r in range(layer.rank))


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_a_loop(case: str) -> None:
    layer, x = module(case), sequence().requires_grad_()
    state = (0.3 * torch.randn(5, 2, 3, sum(layer.fast.sizes), dtype=DOUBLE)).requires_grad_()
    leaves = {"x": x, "state": state, **dict(layer.named_parameters())}
    out, after = layer(x, state)
    wanted, wanted_after = loop(layer, x, state)
    assert_close(out, wanted, "outputs")
    assert_close(after, wanted_after, "state")
    weights = torch.randn_like(out), torch.randn_like(after)
    found = gradients(leaves, (out, after), weights)
    for name, truth in gradients(leaves, (wanted, wanted_after), weights).items():
        assert_close(found[name], truth, f"gradient by {name}")
    last = copy.deepcopy(layer)
    last.final = True
    leaves |= dict(last.named_parameters())
    out, after = last(x, state)
    assert_close(out, wanted[-1], "last output")
    assert_close(after, wanted_after, "last state")
    found = gradients(leaves, (out, after), (weights[0][-1], weights[1]))
    leaves |= dict(layer.named_parameters())
    wanted, wanted_after = loop(layer, x, state)
    truths = gradients(leaves, (wanted[-1], wanted_after), (weights[0][-1], weights[1]))
    for name, truth in truths.items():
        assert_close(found[name], truth, f"gradient of the last output by {name}")


def gradients(
    leaves: dict[str, Tensor], values: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    total = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    found = torch.autograd.grad(total, [*leaves.values()], allow_unused=True)
    return {n: torch.zeros(1) if g is None else g for n, g in zip(leaves, found, strict=True)}


@pytest.mark.parametrize("final", [False, True])
def test_gradients_are_those_of_differences(final: bool) -> None:
    layer = module("ranks", final=final, chunk=2, reps=1)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, values, strict=True))
        found: tuple[Tensor, ...] = torch.func.functional_call(layer, named, (x,))
        return found

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    x = sequence(5, 2).requires_grad_()
    torch.autograd.gradcheck(run, (x, *values), atol=1e-6)
    torch.autograd.gradgradcheck(lambda x: run(x, *values)[0], sequence(3, 1).requires_grad_())


@pytest.mark.parametrize("case", ["as it comes", "ranks", "constant gate"])
def test_a_sequence_may_come_in_parts(case: str) -> None:
    layer, x = module(case), sequence(40)
    out, after = layer(x)
    state, parts = None, []
    for part in x.split(1):
        found, state = layer(part, state)
        parts.append(found)
    assert_close(torch.cat(parts), out, "step by step")
    assert_close(state, after, "state")
    layer.final = True
    _, half = layer(x[:13])
    last, ended = layer(x[13:], half)
    assert_close(last, out[-1], "last output from a state in the middle")
    assert_close(ended, after, "state from the middle")


def test_shapes_are_those_of_torchs_recurrent_modules() -> None:
    layer, x = module(), sequence(6, 4)
    out, after = layer(x)
    assert out.shape == (6, 4, 2) and after.shape == (4, 2, 3, 8)
    first = module(batch_first=True)
    assert_close(first(x.transpose(0, 1))[0], out.transpose(0, 1), "batch first")
    alone, state = layer(x[:, 1])
    assert alone.shape == (6, 2) and state.shape == (2, 3, 8)
    assert_close(alone, out[:, 1], "without a batch")
    assert_close(layer(x[:, 1], state)[0], layer(x[:, 1:2], state[None])[0][:, 0], "its state")
    last = module(final=True)
    assert last(x)[0].shape == (4, 2) and last(x[:, 1])[0].shape == (2,)
    assert layer(x[:, :0])[0].shape == (6, 0, 2) and last(x[:, :0])[0].shape == (0, 2)
    assert layer(x[::2])[0].shape == (3, 4, 2)


def test_the_gate_remembers_as_long_as_it_is_told() -> None:
    layer = FastWeightQKAN(3, 2, memory=20, dtype=DOUBLE)
    _, far = layer(torch.cat([sequence(1), torch.zeros(19, 5, 3, dtype=DOUBLE)]))
    _, near = layer(sequence(1))
    assert_close(far, near * (1 - 1 / 20) ** 19, "what is left after 19 steps")
    assert torch.equal(module(memory=1e9)(sequence())[1].abs() < 1e-6, torch.ones(5, 2, 3, 8) > 0)


def test_extreme_gates_are_exact() -> None:
    """Gates of 0 and 1 in turn: sums of their logarithms must not lose the small ones."""
    layer, x = module(chunk=64), sequence(64)
    with torch.no_grad():
        layer.gate.weight.mul_(400)
    out, after = layer(x)
    wanted, wanted_after = loop(layer, x)
    assert_close(out, wanted, "outputs")
    assert_close(after, wanted_after, "state")


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else (found,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // 4)
        return found


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("final", [False, True])
def test_memory_grows_with_a_chunk_and_not_with_time(final: bool, rank: int | None) -> None:
    """At 528 steps no tensor has an edge for each of them, nor does the graph keep so many."""
    batch, steps, width, chunk = 2, 528, 12, 24
    layer = FastWeightQKAN(width, width, hidden=4, rank=rank, final=final, chunk=chunk, reps=1)
    x = torch.randn(steps, batch, width)
    angles = batch * width * width * layer.fast.circuit.num_theta
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out, _ = layer(x)
    # the features of all steps, and between two chunks the changes of all edges
    states = 0 if final and rank is None else angles * (steps // chunk)
    assert sum(held.values()) < states + 4 * x.numel() < angles * steps / 6
    with Largest() as largest:
        out, _ = layer(x)
        out.square().sum().backward()
    assert 0 < largest.elements <= angles * chunk
    with Largest() as largest:
        layer.chunk = steps
        layer(x)
    assert final or largest.elements >= angles * steps, "a tensor that is too large is not seen"


def test_what_checkpoints_keep_are_states_and_not_whole_chunks() -> None:
    layer, x = module(chunk=10), sequence(100)
    kept: list[int] = []
    chunk = layer._chunk

    def watched(*parts: Tensor) -> Any:
        kept.append(parts[-1].untyped_storage().nbytes() // 8)
        return chunk(*parts)

    layer._chunk = watched  # type: ignore[method-assign]
    layer(x)
    assert len(kept) == 10 and set(kept) == {5 * 2 * 3 * 8}


def test_a_value_that_is_not_finite_harms_no_other_sample_and_no_step_before() -> None:
    for bad, gate in ((math.nan, "scalar"), (math.inf, "scalar"), (math.nan, 0.5)):
        layer, x = module(gate=gate, chunk=20), sequence(20)
        wanted, _ = layer(x)
        x[8, 2, 1] = bad
        out, after = layer(x)
        assert_close(out[:, [0, 1, 3, 4]], wanted[:, [0, 1, 3, 4]], "other samples")
        assert_close(out[:8, 2], wanted[:8, 2], "steps before")
        assert out[8:, 2].isnan().all() and after[2].isnan().all()
        assert after[[0, 1, 3, 4]].isfinite().all()
        layer.final = True
        assert layer(x)[0][2].isnan().all() and layer(x)[0][[0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("case", ["as it comes", "ranks", "qkan", "all programs"])
def test_it_is_copied_saved_pickled_compiled_and_mapped(case: str, tmp_path: Path) -> None:
    layer, x = module(case), sequence(20)
    out, after = layer(x)
    path = tmp_path / "fast.safetensors"
    save(layer, path)
    for other in (load(path), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x)[0], out) and repr(other) == repr(layer)
        assert other.config() == layer.config()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found, state = compiled(x)
    assert_close(found, out, "compiled")
    assert_close(state, after, "compiled state")
    mapped, _ = torch.func.vmap(lambda x: layer(x))(torch.stack([x, 2 * x]))
    assert_close(mapped[1], layer(2 * x)[0], "mapped")

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        value: Tensor = torch.func.functional_call(layer, parameters, (x,))[0]
        return value.square().sum()

    slopes = torch.func.grad(loss)({n: p.detach() for n, p in layer.named_parameters()})
    out.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert_close(slopes[name], parameter.grad, f"torch.func.grad by {name}")


class First(nn.Module):
    """The outputs of a module that returns a state too."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


@pytest.mark.parametrize("slow", [nn.Linear(3, 16), HQKAN(3, 16)], ids=["linear", "hqkan"])
def test_a_slow_network_of_ones_own_keeps_its_values(slow: nn.Module) -> None:
    before = copy.deepcopy(slow.state_dict())
    layer = FastWeightQKAN(3, 2, slow=slow)
    layer.reset_parameters()
    for name, value in layer.slow.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_numbers_of_numpy_are_numbers() -> None:
    assert FastWeightQKAN(3, 2, gate=np.float32(0.5)).kept == 0.5
    layer = FastWeightQKAN(3, 2, memory=np.float32(4))
    assert layer.memory == 4
    groups = param_groups(layer, 1e-3, angle_lr=np.float32(0.5))
    assert [group["lr"] for group in groups] == [1e-3, 1e-3, 0.5]


def test_a_pickle_finds_the_fast_layer_where_it_was() -> None:
    assert pickle.loads(b"cqkan.nn.fast_weights\nFastLayer\n.") is FastLayer


@pytest.mark.parametrize("rank", [None, 1])
def test_an_exported_last_step_takes_any_batch_and_length(rank: int | None) -> None:
    # as many samples as outputs must not be taken for the same number
    layer = module(final=True, batch_first=True, rank=rank).eval()
    sizes = {0: torch.export.Dim("b")} | ({1: torch.export.Dim("t", min=3)} if rank is None else {})
    x = sequence(2, 40)
    exported = torch.export.export(layer, (x,), dynamic_shapes=(sizes,)).module()
    x = sequence(5, 40) if rank else sequence(5, 23)
    for found, wanted in zip(exported(x), layer(x), strict=True):
        torch.testing.assert_close(found, wanted)


def test_an_exported_program_takes_any_batch() -> None:
    layer, x = module(batch_first=True), sequence(20).transpose(0, 1)
    dynamic = ({0: torch.export.Dim("b", min=2)},)
    program = torch.export.export(First(layer), (x,), dynamic_shapes=dynamic).module()
    assert_close(program(x[:3]), layer(x[:3])[0], "exported")


def test_its_engine_is_explained_and_what_needs_activations_of_its_own_is_refused() -> None:
    model, x = First(module(dtype=torch.float32)), torch.randn(6, 4, 3)
    verdicts = dict(explain(model, x)["layer.fast"].verdicts)
    assert "per sample" in verdicts["fourier"] and "estimated" in verdicts["numba"]
    calls: dict[str, Any] = {
        "extend": lambda: extend(model, 5),
        "prune": lambda: prune(model, x),
        "sparse_loss": lambda: sparse_loss(model, 1e-3).__enter__(),
        "A device": lambda: noisy(model, DeviceNoise(PULSE, PULSE)).__enter__(),
    }
    for name, call in calls.items():
        with pytest.raises(
            QKANError, match=rf"{name}: layer\.fast gets different angles for every"
        ):
            call()
    with pytest.raises(QKANError, match=r"the model returns a tuple, .* Wrap the model"):
        fit(model.layer, (x, torch.zeros(6, 4, 2)), steps=1, progress=False)
    with pytest.raises(QKANError, match=r"wanted \(…, 2, 3, 8\)"):
        model.layer.programmed(torch.zeros(3))


def test_half_precision_and_autocast_stay_near_single() -> None:
    layer, x = module(dtype=torch.float32), sequence(60).float()
    wanted, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = layer(x)
    assert state.dtype == torch.float32
    assert (out.float() - wanted).abs().max() < 0.1
    half = copy.deepcopy(layer).bfloat16()
    out, state = half(x.bfloat16())
    assert out.dtype == state.dtype == torch.bfloat16
    assert (out.float() - wanted).abs().max() < 0.1
    out.sum().backward()
    assert all(p.grad is not None for p in half.parameters())


def test_it_learns_to_remember_a_value_that_it_saw_long_ago() -> None:
    """The output of the last step is the value at a mark, of which only the weights can know."""
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(64, 12, 1, generator=generator) * 2 - 1
    marks = torch.zeros(64, 12, 1)
    where = torch.randint(8, (64,), generator=generator)
    marks[torch.arange(64), where] = 1
    target = values[torch.arange(64), where]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            slow = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 8))
            self.layer = FastWeightQKAN(
                2, 4, hidden=8, slow=slow, final=True, batch_first=True, generator=generator
            )
            self.out = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.layer(x)[0])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    x = torch.cat([values, marks], -1)
    history = fit(Model(), (x, target), steps=25, progress=False)
    assert history.train_loss[-1] < 0.05 * target.square().mean()


def test_parameters_are_counted_grouped_and_started_anew() -> None:
    layer = module("all programs")
    generator = torch.Generator().manual_seed(5)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.reset_parameters()
    assert not torch.equal(layer.head.weight, before["head.weight"])
    layer.reset_parameters(generator)
    changed = {n for n, value in layer.state_dict().items() if not torch.equal(value, before[n])}
    # the test drew the gate's weights by itself
    assert changed == {"gate.weight"}
    plain = sum(p.numel() for p in layer.parameters())
    merged = len(layer.fast.program.merged_shifts)
    assert plain - effective_parameters(layer) == (4 + 1) * merged * 6
    assert effective_parameters(module()) == plain_count(module()) - merged * 6
    spared = param_groups(layer, 1e-3, 0.1)[1]["params"]
    assert {id(layer.fast.theta), id(layer.fast.scale)} <= {id(p) for p in spared}
    assert id(layer.head.weight) not in {id(p) for p in spared}


def plain_count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def test_features_and_changes_begin_at_a_known_size() -> None:
    x = torch.randn(50, 40, 6)
    for options in ({}, {"rank": 1}, {"rank": 4}, {"slow": "qkan"}):
        found = [FastWeightQKAN(6, 5, gate=0, **options)(x)[1] for _ in range(10)]
        size = torch.stack(found).square().mean().sqrt()
        assert 0.2 < size < 1.2, options


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


LAYER = module()
OTHER = FastWeightQKAN(3, 2, slow=Wide())
WRONG: dict[str, tuple[Any, str]] = {
    "no step": (lambda: LAYER(sequence(0)), "no step"),
    "features": (lambda: LAYER(torch.zeros(4, 2, 2, dtype=DOUBLE)), "in_features=3"),
    "dimensions": (lambda: LAYER(torch.zeros(1, 4, 2, 3, dtype=DOUBLE)), r"pass \(t, b, i\)"),
    "one dimension": (lambda: LAYER(torch.zeros(3, dtype=DOUBLE)), r"pass \(t, b, i\), or"),
    "dtype": (lambda: LAYER(torch.zeros(4, 2, 3)), "float32"),
    "list": (lambda: LAYER([[1.0]]), "list"),
    "state": (lambda: LAYER(sequence(2), torch.zeros(5, 2, 3, dtype=DOUBLE)), "state is"),
    "no state": (lambda: LAYER(sequence(2), (1, 2)), "state is tuple"),
    "state's dtype": (lambda: LAYER(sequence(2), torch.zeros(5, 2, 3, 8)), "float32 and"),
    "state of a batch": (lambda: LAYER(sequence(2)[:, 0], torch.zeros(1, 2, 3, 8)), "state is"),
    "slow's features": (lambda: OTHER(torch.zeros(2, 2, 3)), "hidden"),
    "slow": (lambda: FastWeightQKAN(3, 2, slow="lstm"), "Unknown slow 'lstm'"),
    "programs": (lambda: FastWeightQKAN(3, 2, programs="thetas"), "Did you mean 'theta'"),
    "no programs": (lambda: FastWeightQKAN(3, 2, programs=()), "some of theta"),
    "twice": (lambda: FastWeightQKAN(3, 2, programs=("theta", "theta")), "each once"),
    "fixed": (lambda: FastWeightQKAN(3, 2, programs="scale", encoding="linear"), "fixes the"),
    "gate": (lambda: FastWeightQKAN(3, 2, gate="vector"), "Unknown gate"),
    "gate of one": (lambda: FastWeightQKAN(3, 2, gate=1), "below 1"),
    "gate of nan": (lambda: FastWeightQKAN(3, 2, gate=math.nan), "below 1"),
    "memory": (lambda: FastWeightQKAN(3, 2, memory=0.5), "1 or more"),
    "endless": (lambda: FastWeightQKAN(3, 2, memory=math.inf), "finite number"),
    "rank": (lambda: FastWeightQKAN(3, 2, rank=0), "rank=0"),
    "chunk": (lambda: FastWeightQKAN(3, 2, chunk=1.5), "chunk=1.5"),
    "hidden": (lambda: FastWeightQKAN(3, 2, hidden=True), "hidden=True"),
    "group": (lambda: FastWeightQKAN(3, 2, group=1), "group"),
    "outputs": (lambda: FastWeightQKAN(3, 0), "out_features=0"),
    "saved": (lambda: FastWeightQKAN(3, 2, slow=Wide(), hidden=3).config(), "of your own"),
    "saved without bias": (
        lambda: FastWeightQKAN(3, 2, slow=nn.Linear(3, 16, bias=False)).config(), "of your own",
    ),
    "saved subclass": (lambda: FastWeightQKAN(3, 2, slow=Doubled(3, 16)).config(), "Doubled"),
    "recurrent slow": (
        lambda: FastWeightQKAN(3, 2, slow=nn.LSTM(3, 16))(torch.zeros(2, 2, 3)), "returned tuple",
    ),
    "programs of none": (lambda: FastWeightQKAN(3, 2, programs=None), "wanted some of theta"),
    "memory of a constant": (lambda: FastWeightQKAN(3, 2, gate=0.5, memory=3), "never changes"),
    "state elsewhere": (
        lambda: LAYER(sequence(2), torch.zeros(5, 2, 3, 8, dtype=DOUBLE, device="meta")), "on meta",
    ),
    "read alone": (lambda: plot(LAYER.fast, torch.zeros(4, 3)), "angles for every sample"),
    "written out": (lambda: symbolic(LAYER, torch.zeros(4, 3)), "angles for every sample"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        call()


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match=r"Unknown option 'hiden'\. Did you mean 'hidden'"):
        FastWeightQKAN(1, 1, hiden=2)
    with pytest.raises(TypeError, match="Did you mean 'batch_first'"):
        FastWeightQKAN(1, 1, batchfirst=True)
    assert isinstance(FastWeightQKAN(3, 2, slow="qkan").slow, HQKAN)
