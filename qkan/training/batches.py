"""The data for training: pairs of tensors, datasets and loaders, checked and cut into batches."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from qkan._habits import tensor_of
from qkan.errors import QKANError

from .strata import classes_of

Pair = tuple[Tensor, Tensor]
"""Inputs x and targets y, with one row for each sample."""

Data = Pair | Dataset[Any] | DataLoader[Any]
"""The kinds of data that a user may pass for training or validation."""

Source = Pair | DataLoader[Any]
"""The form of the data from which batches are cut, once the batch size is known."""


def check_data(data: object, role: str) -> Data:
    """Check data as far as possible without loading a batch; return a `TensorDataset` as a pair."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple | list):
        return _check_pair(data, role)
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        if isinstance(data, IterableDataset) or not isinstance(data, Sized):
            raise QKANError(f"{role} is a dataset without a length; pass it in a DataLoader.")
        if len(data) == 0:
            raise QKANError(f"{role} is empty: a dataset of length 0.")
        return cast("Dataset[Any]", data)
    raise QKANError(
        f"{role} is of type {type(data).__name__}; pass a pair (x, y) of tensors, a torch Dataset "
        "of pairs, or a DataLoader of them."
    )


def split(data: Data, fraction: float, generator: torch.Generator) -> tuple[Data, Data]:
    """Cut data into two parts at random: the rest, and the given fraction of the samples.

    Where the targets are classes (whole numbers, or only 0 and 1), each class has its share in both
    parts, and at least one sample in the first.
    """
    if isinstance(data, DataLoader):
        raise QKANError(
            f"validation={fraction} cannot be cut from a DataLoader; pass the training data as a "
            "pair or a Dataset, or pass the validation data itself."
        )
    samples = len(data[0]) if isinstance(data, tuple) else len(cast("Sized", data))
    held = round(fraction * samples)
    if not 0 < held < samples:
        raise QKANError(
            f"validation={fraction} of {samples} samples is {held}; both parts need at least one "
            "sample."
        )
    labels = classes_of(data)
    if labels is None:
        order = torch.randperm(samples, generator=generator)
        chosen = order[:held].sort().values
    else:
        chosen = held_out(labels, held, generator)
    rest = torch.ones(samples, dtype=torch.bool).index_fill(0, chosen, value=False).nonzero()[:, 0]
    if isinstance(data, tuple):
        return _rows(data, rest), _rows(data, chosen)
    return Subset(data, rest.tolist()), Subset(data, chosen.tolist())


def held_out(labels: Tensor, held: int, generator: torch.Generator) -> Tensor:
    """Choose samples to hold out: each class has its share, and never all of its samples.

    Args:
        labels: (n,) the class of each sample, as a whole number.
        held: The number of samples to hold out.
        generator: Chooses among the samples of a class.

    Returns:
        (held,) ascending indices.

    Raises:
        QKANError: A class would have no sample left.

    Example:
        >>> labels = torch.tensor([0] * 8 + [1] * 2)
        >>> labels[held_out(labels, 5, torch.Generator().manual_seed(0))].tolist()
        [0, 0, 0, 0, 1]
    """
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    sorted_labels = labels[order]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = sorted_labels[1:] != sorted_labels[:-1]
    free = order[~first]
    if held > len(free):
        raise QKANError(
            f"validation: {held} of {len(order)} samples are to be held out, but each of the "
            f"{int(first.sum())} classes needs at least one sample to train on. Hold out at most "
            f"{len(free)}, or pass validation=(x, y)."
        )
    # equidistant positions among the samples sorted by class give each class its share
    places = (torch.arange(held, dtype=torch.double) + 0.5) * len(free) / held
    return free[places.long()].sort().values


def as_source(data: Data, batch_size: int | None, role: str) -> Source:
    """Return the data as a pair or a loader; a dataset without batch size is read into a pair."""
    if isinstance(data, tuple | DataLoader):
        return data
    if batch_size is not None:
        return DataLoader(data, batch_size=batch_size, shuffle=True)
    samples = [data[index] for index in range(len(cast("Sized", data)))]
    return _check_pair(default_collate(samples), role)


def order_generator(
    seed: int | None, saved: int | None, agree: Callable[[int], int] = int
) -> torch.Generator:
    """Return the generator for the order of the batches.

    Args:
        seed: The seed that the user passed, or None.
        saved: The seed of the run that is resumed, which is used if `seed` is None.
        agree: Makes processes that train together use the same seed if neither is given.
    """
    known = saved if seed is None else seed
    if known is None:
        known = agree(torch.Generator().seed())
    return torch.Generator().manual_seed(known)


def describe(data: object) -> str:
    """Identify data by a digest of a pair's bytes, or by the kind and size of anything else."""
    if data is None:
        return "None"
    if not isinstance(data, tuple):
        size = len(data) if isinstance(data, Sized) and _has_length(data) else None
        return f"{type(data).__name__} of length {size}"
    digest = hashlib.sha256()
    for tensor in data:
        array = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(array.data)
    shapes = ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in data)
    return f"{shapes}, sha256 {digest.hexdigest()[:16]}"


class Batches:
    """Endless minibatches, epoch after epoch, that can be restored to any position.

    The generator shuffles a pair; without a batch size all of a pair is one batch, in its order. It
    also replaces torch's global generator for a loader, but a loader or sampler with its own
    generator uses that one.

    Args:
        source: A pair or a loader.
        batch_size: The number of samples in a batch of a pair; None for all.
        generator: Determines the order.
        device: The device that the batches are moved to.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int | None,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._source, self._batch_size = source, batch_size
        self._generators = [generator, *_generators(source)]
        self._states = [g.get_state() for g in self._generators]
        self._device = device
        self._iterator: Iterator[Pair] = iter(())
        self._ahead: Pair | None = None
        self._epoch, self.taken = 0, 0

    @property
    def ended(self) -> bool:
        """Whether the latest batch was the last one of its epoch."""
        return self._ahead is None

    @property
    def are_all_data(self) -> bool:
        """Whether each batch consists of all the data."""
        return self._batch_size is None and isinstance(self._source, tuple)

    def peek(self) -> Pair:
        """Return the next batch (x, y) without taking it."""
        if self._ahead is None:
            self._begin(self._epoch + 1, 0)
        if self._ahead is None:
            raise QKANError("The training data is empty: the DataLoader yields no batch.")
        return self._ahead

    def take(self) -> Pair:
        """Return the next batch (x, y) and advance."""
        batch = self.peek()
        self._ahead = next(self._iterator, None)
        self.taken += 1
        return batch

    def state(self) -> dict[str, Any]:
        """Return the epoch, the position in it, and the states of the generators at its start."""
        return {"epoch": self._epoch, "taken": self.taken, "generators": self._states}

    def restore(self, state: dict[str, Any]) -> None:
        """Return to the position where `state()` was called; the data must be equal."""
        for generator, value in zip(self._generators, state["generators"], strict=True):
            generator.set_state(value)
        if state["epoch"] > 0:
            self._begin(state["epoch"], state["taken"])

    def _begin(self, epoch: int, taken: int) -> None:
        self._epoch, self.taken = epoch, taken
        self._states = [generator.get_state() for generator in self._generators]
        self._iterator = itertools.islice(self._batches(epoch), taken, None)
        self._ahead = next(self._iterator, None)

    def _batches(self, epoch: int) -> Iterator[Pair]:
        if isinstance(self._source, DataLoader):
            return loader_batches(self._source, self._device, self._seed(epoch))
        if self._batch_size is None:
            return iter([_to(self._source, self._device)])
        order = torch.randperm(len(self._source[0]), generator=self._generators[0])
        return tensor_batches(self._source, order.split(self._batch_size), self._device)

    def _seed(self, epoch: int) -> int:
        """Draw the seed for a loader in this epoch, and tell its sampler the epoch."""
        set_epoch = getattr(getattr(self._source, "sampler", None), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch - 1)
        return int(torch.randint(2**62, (), generator=self._generators[0]))


def tensor_batches(pair: Pair, indices: tuple[Tensor, ...], device: torch.device) -> Iterator[Pair]:
    """Yield the rows of a pair, batch after batch."""
    return (_to(_rows(pair, index), device) for index in indices)


def loader_batches(loader: DataLoader[Any], device: torch.device, seed: int) -> Iterator[Pair]:
    """Yield one epoch of a loader, seeded by `seed`; torch's global generator is left alone."""
    for batch in seeded_pass(loader, seed):
        yield _to(_check_tensors(batch, "A batch of the DataLoader"), device)


def seeded_pass(source: Iterable[Any], seed: int) -> Iterator[Any]:
    """Yield one pass over an iterable, seeded by `seed`; the global generator is left alone."""
    inside = torch.Generator().manual_seed(seed).get_state()
    items: Iterator[Any] | None = None
    while True:
        outside = torch.default_generator.get_state()
        torch.default_generator.set_state(inside)
        try:
            items = iter(source) if items is None else items
            item = next(items)
            inside = torch.default_generator.get_state()
        except StopIteration:
            return
        finally:
            torch.default_generator.set_state(outside)
        yield item


def first_fault(tensor: Tensor) -> str | None:
    """Describe the first sample with NaN or infinity; return None if all are finite."""
    bad = ~torch.isfinite(tensor)
    if not bad.any():
        return None
    samples = bad.reshape(len(tensor), -1).any(1).nonzero().flatten()
    first = int(samples[0])
    value = tensor[first][bad[first]].flatten()[0].item()
    return f"sample {first} has {value} ({len(samples)} of {len(tensor)} samples are not finite)"


def _check_pair(data: Any, role: str) -> Pair:
    pair = _check_tensors(data, role)
    for name, tensor in zip(("x", "y"), pair, strict=True):
        fault = first_fault(tensor)
        if fault is not None:
            raise QKANError(f"{role} {name}: {fault}; leave such samples out or fill them in.")
    return pair


def _check_tensors(data: Any, role: str) -> Pair:
    if not isinstance(data, tuple | list) or len(data) != 2:
        size = f" with {len(data)} items" if isinstance(data, Sized) else ""
        raise QKANError(f"{role} is of type {type(data).__name__}{size}; wanted a pair (x, y).")
    x, y = data
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise QKANError(
                f"{role} {name} is of type {type(value).__name__}; pass a torch tensor, "
                f"{tensor_of(name, value)}."
            )
        if value.layout != torch.strided:
            raise QKANError(f"{role} {name} is sparse: pass {name}.to_dense().")
        if value.ndim == 0:
            raise QKANError(f"{role} {name} is a single number; wanted one row for each sample.")
        if value.grad_fn is not None:
            raise QKANError(
                f"{role} {name} was computed from something that is trained, but fit trains the "
                f"model alone; pass {name}.detach(), or put the module that computed it into the "
                "model."
            )
    if len(x) != len(y):
        raise QKANError(
            f"{role}: x has {len(x)} samples and y has {len(y)}; pass as many targets as inputs."
        )
    if len(x) == 0:
        raise QKANError(f"{role} is empty: x {tuple(x.shape)}, y {tuple(y.shape)}.")
    return x, y


def _rows(pair: Pair, index: Tensor) -> Pair:
    x, y = pair
    return x[index.to(x.device)], y[index.to(y.device)]


def _to(pair: Pair, device: torch.device) -> Pair:
    return pair[0].to(device), pair[1].to(device)


def _generators(source: Source) -> list[torch.Generator]:
    """Return the generators that belong to a loader and its samplers."""
    if not isinstance(source, DataLoader):
        return []
    batch_sampler = source.batch_sampler
    owners = [source, source.sampler, batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _has_length(data: Sized) -> bool:
    """Whether `len` works; for a loader of a stream the method exists but raises."""
    try:
        len(data)
    except TypeError:
        return False
    return True
