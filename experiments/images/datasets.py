"""MNIST and CIFAR-10 from public files that a user has fetched, in any of their usual forms."""

from __future__ import annotations

import gzip
import io
import itertools
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from shared.data import data_folder
from torch import Tensor

KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
IDX = "https://ossci-datasets.s3.amazonaws.com/mnist/"
IDX_NAMES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
CIFAR = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_SIDE = 32

Pair = tuple[Tensor, Tensor]
"""Images (n, channels, height, width) of bytes, and their classes (n,)."""


@dataclass(frozen=True)
class Images:
    """Which images, and the three parts of them."""

    name: str
    train: Pair
    validation: Pair
    test: Pair


def mnist(held: int) -> Images:
    """MNIST; `held` training images, always the same, are the validation part.

    Raises:
        SystemExit: No file of it is there; the message says where it comes from and where it goes.
    """
    folder = data_folder()
    pairs = _mnist_npz(folder) or _mnist_parts(folder) or _mnist_idx(folder)
    if pairs is None:
        raise SystemExit(
            f"{folder} has no MNIST. Fetch {KERAS} and save it there as mnist.npz, or the four "
            f"files {', '.join(name + '.gz' for name in IDX_NAMES)} of {IDX}, or set QKAN_DATA to "
            "the folder that has them. mnist_train.npz and mnist_test.npz, each with the arrays "
            "x (n, 28, 28) and y, do too."
        )
    train, test = ((x[:, None], y) for x, y in pairs)
    return _parted("MNIST", train, test, held)


def cifar10(held: int) -> Images:
    """CIFAR-10; `held` training images, always the same, are the validation part.

    Raises:
        SystemExit: No file of it is there; the message says where it comes from and where it goes.
    """
    folder = data_folder()
    if (folder / "cifar10_jpeg.npz").exists():
        train, test = _cifar_jpeg(folder / "cifar10_jpeg.npz")
        return _parted("CIFAR-10 (JPEG)", train, test, held)
    path = folder / CIFAR.rsplit("/", 1)[1]
    if not path.exists():
        raise SystemExit(
            f"{folder} has no CIFAR-10. Fetch {CIFAR} and save it there under that name, or set "
            "QKAN_DATA to the folder that has it. cifar10_jpeg.npz, images re-coded as JPEG, does "
            "too, and the results then say so."
        )
    return _parted("CIFAR-10", *_cifar_binary(path), held)


Arrays = tuple[np.ndarray, np.ndarray]


def _parted(name: str, train: Arrays, test: Arrays, held: int) -> Images:
    x, y = (torch.from_numpy(np.ascontiguousarray(part)) for part in train)
    # a file may be sorted by class
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    rest, last = order[held:].sort().values, order[:held].sort().values
    return Images(
        name,
        (x[rest], y[rest].long()),
        (x[last], y[last].long()),
        (torch.from_numpy(np.ascontiguousarray(test[0])), torch.from_numpy(test[1]).long()),
    )


def _mnist_npz(folder: Path) -> list[Arrays] | None:
    """Keras' file."""
    path = folder / "mnist.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        return [(file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test")]


def _mnist_parts(folder: Path) -> list[Arrays] | None:
    """A file a part."""
    paths = [folder / f"mnist_{part}.npz" for part in ("train", "test")]
    if not all(path.exists() for path in paths):
        return None
    found = []
    for path in paths:
        with np.load(path) as file:
            found.append((file["x"], file["y"]))
    return found


def _mnist_idx(folder: Path) -> list[Arrays] | None:
    """The original files, compressed or not."""
    found = []
    for name in IDX_NAMES:
        plain, packed = folder / name, folder / f"{name}.gz"
        if packed.exists():
            found.append(_idx(gzip.decompress(packed.read_bytes())))
        elif plain.exists():
            found.append(_idx(plain.read_bytes()))
        else:
            return None
    return [(found[0], found[1]), (found[2], found[3])]


def _idx(data: bytes) -> np.ndarray:
    """An array of bytes in the idx format: 0 0 8 d, d sizes of four bytes, the values."""
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"An idx file of bytes starts with 0 0 8, this one with {data[:3]!r}.")
    start = 4 + 4 * data[3]
    shape = [int(n) for n in np.frombuffer(data[4:start], dtype=">u4")]
    found = np.frombuffer(data[start:], dtype=np.uint8)
    if len(found) != math.prod(shape):
        raise SystemExit(f"An idx file of shape {shape} has {len(found)} values: fetch it again.")
    return found.reshape(shape).copy()


def _cifar_jpeg(path: Path) -> list[Arrays]:
    from PIL import Image

    found = []
    with np.load(path) as file:
        for part in ("train", "test"):
            packed, offset = file[f"{part}_jpeg"], file[f"{part}_offset"]
            images = np.empty((len(offset) - 1, CIFAR_SIDE, CIFAR_SIDE, 3), dtype=np.uint8)
            for n, (start, end) in enumerate(itertools.pairwise(offset)):
                images[n] = np.asarray(Image.open(io.BytesIO(packed[start:end].tobytes())))
            found.append((images.transpose(0, 3, 1, 2), file[f"{part}_y"]))
    return found


def _cifar_binary(path: Path) -> list[Arrays]:
    """The original archive: a byte of class and 3 · 32 · 32 of pixels an image."""
    names = [[f"data_batch_{n}.bin" for n in range(1, 6)], ["test_batch.bin"]]
    found = []
    with tarfile.open(path) as archive:
        for part in names:
            files = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in part]
            data = b"".join(file.read() for file in files if file is not None)
            rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, 1 + 3 * CIFAR_SIDE**2)
            pixels = rows[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
            found.append((pixels, rows[:, 0].copy()))
    return found
