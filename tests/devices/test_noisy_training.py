"""`noisy`: the device in closed form, for training before paying."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import assert_close
from exact_backend import ExactBackend
from torch import Tensor

from qkan import QKAN, QiskitBackend, QKANError, QKANLayer, device_noise, fit, noisy, on_device, run
from qkan.backends import Calibration
from qkan.circuits import DeviceNoise, PulseNoise

DOUBLE = torch.float64


class Noisy(ExactBackend):
    """The exact backend with a calibration that says more than it does."""

    def calibration(self) -> Calibration:
        one = np.ones(self.width)
        gates = {"sx_error": 0.002 * one, "sx_seconds": 5e-8 * one, "t1": 5e-5 * one}
        return replace(super().calibration(), **gates, t2=4e-5 * one)


def inputs(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(rows, 2, generator=generator, dtype=DOUBLE) - 1


def network(**options: object) -> QKAN:
    generator = torch.Generator().manual_seed(0)
    return QKAN([2, 3, 1], dtype=DOUBLE, generator=generator, engine="torch", **options)


def test_without_errors_it_is_the_model() -> None:
    perfect = PulseNoise(1.0, 1.0, 0.0)
    for options in ({}, {"ansatz": "px"}, {"group": 1}, {"readout": "amplitude"}):
        model, x = network(**options), inputs(5).requires_grad_()
        wanted = torch.autograd.grad(model(x).sum(), [x, *model.parameters()])
        with noisy(model, DeviceNoise(perfect, perfect)):
            found = torch.autograd.grad(model(x).sum(), [x, *model.parameters()])
            assert_close(model(inputs(0)), torch.zeros(0, 1), "no samples")
        for a, b in zip(found, wanted, strict=True):
            assert_close(a, b, "gradient")


def test_the_readout_error_is_the_devices() -> None:
    model, x = network(), inputs(5)
    backend = ExactBackend(shots=0, readout=(0.05, 0.02))
    measured = run(model, x, backend, progress=False).values
    with noisy(model, backend):
        assert_close(model(x), measured, "noisy")
    with noisy(model, device_noise(backend, readout=False)):
        assert_close(model(x), network()(x), "corrected readout")


def test_gates_shrink_the_activations() -> None:
    noise = device_noise(Noisy(width=3), qubits=[1])
    assert 0.99 < noise.sx.z < 1 and noise.sx.offset == pytest.approx(1 - np.exp(-1e-3))
    model, x = network(base=None, bias=False), inputs(50)
    exact = model.layers[0](x).std()
    with noisy(model, noise):
        faithful = model.layers[0](x).std()
    with noisy(model, noise, fused=True):
        fused = model.layers[0](x).std()
    assert 0.9 * exact < faithful < fused < exact


def test_fine_tuning_for_a_device_pays() -> None:
    x = inputs(64)
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    backend = ExactBackend(shots=0, readout=(0.08, 0.02))
    model = network()
    fit(model, (x, y), steps=15, progress=False)

    def error() -> float:
        return float(((run(model, x, backend, progress=False).values - y) ** 2).mean())

    before = error()
    with noisy(model, backend):
        fit(model, (x, y), steps=5, progress=False)
    assert error() < 0.1 * before


def test_the_hybrid_gradient_is_the_calibrated_simulators() -> None:
    model, x = network(), inputs(5)
    backend = Noisy(shots=0, readout=(0.05, 0.02))
    with noisy(model, backend):
        wanted = torch.autograd.grad(model.layers[0](x).sum(), model.layers[0].theta)[0]
    with on_device(model, backend, gradient="hybrid"):
        found = torch.autograd.grad(model.layers[0](x).sum(), model.layers[0].theta)[0]
    assert_close(found, wanted, "theta")


def test_the_hybrid_gradient_of_an_unknown_device_is_the_ideal_one() -> None:
    class Unknown(ExactBackend):
        def calibration(self) -> Calibration:
            known, nothing = super().calibration(), np.full(self.width, np.nan)
            return replace(known, p=nothing, q=nothing, sx_error=nothing)

    model, x = network(), inputs(5)
    wanted = torch.autograd.grad(model(x).sum(), model.layers[0].theta)[0]
    with on_device(model, Unknown(shots=0), gradient="hybrid"):
        found = torch.autograd.grad(model(x).sum(), model.layers[0].theta)[0]
    assert_close(found, wanted, "theta")


def test_bad_use_is_refused() -> None:
    class Silent(ExactBackend):
        def calibration(self) -> Calibration:
            known = super().calibration()
            return replace(known, t1=np.full(self.width, np.nan))

    with pytest.raises(QKANError, match="says nothing about its gates and relaxation"):
        device_noise(Silent())
    with pytest.raises(QKANError, match=r"exact has no qubits \[9\]"):
        device_noise(ExactBackend(width=3), qubits=[0, 9])
    with (
        pytest.raises(QKANError, match="already computed"),
        noisy(model := network(), ExactBackend()),
    ):
        with noisy(model, ExactBackend()):
            pass


def test_each_edge_has_the_noise_of_the_qubits_that_measure_it() -> None:
    backend = QiskitBackend(
        "FakeSherbrooke", shots=400_000, mitigation="none", emulator="closed_form", seed=3, width=24
    )
    generator = torch.Generator().manual_seed(1)
    layer = QKANLayer(4, 6, base=None, bias=False, dtype=torch.double, generator=generator)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.1, 2.4, 24).reshape(6, 4))
    x = torch.randn(5, 4, dtype=torch.double, generator=generator)
    measured = run(layer, x, backend, progress=False)

    def pulls(device: object) -> float:
        with torch.no_grad(), noisy(layer, device):
            return float((((layer(x) - measured.values) / measured.stderr) ** 2).mean().sqrt())

    # 24 edges, 24 qubits: every edge has one qubit to itself, the heaviest the best
    assert pulls(backend) < 1.5 < pulls(device_noise(backend))
