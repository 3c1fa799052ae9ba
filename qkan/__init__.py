"""QKAN: Kolmogorov-Arnold networks whose activations are single-qubit circuits.

Each activation is the expectation value of a data re-uploading circuit (arXiv 2509.14026). One
qubit is classically simulable: this package claims no quantum advantage.
"""

import importlib
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import _old_paths as _old_paths
from . import _peer_check as _peer_check
from ._version import __version__ as __version__

# what type checkers see; `_EXPORTS` tells Python the same, which imports a module, and with it
# torch, when one of its names is first used, so that the command line answers --help without torch
if TYPE_CHECKING:
    from qkan.backends import BackendError as BackendError
    from qkan.backends import PennyLaneBackend as PennyLaneBackend
    from qkan.backends import QiskitBackend as QiskitBackend
    from qkan.circuits import Circuit as Circuit
    from qkan.circuits import CircuitError as CircuitError
    from qkan.circuits import ansatz as ansatz
    from qkan.circuits import ansatze as ansatze
    from qkan.circuits import register_ansatz as register_ansatz
    from qkan.simulators import Noise as Noise
    from qkan.simulators import SimulatorError as SimulatorError
    from qkan.simulators import engines as engines
    from qkan.simulators import expectation as expectation
    from qkan.simulators import simulate as simulate

    from .devices.noisy import device_noise as device_noise
    from .devices.noisy import noisy as noisy
    from .devices.pennylane_layer import PennyLaneLayer as PennyLaneLayer
    from .devices.plan import Plan as Plan
    from .devices.plan import estimate as estimate
    from .devices.qnode import qnode as qnode
    from .devices.result import DeviceResult as DeviceResult
    from .devices.run import cancel as cancel
    from .devices.run import resume as resume
    from .devices.run import run as run
    from .devices.tables import EdgeTables as EdgeTables
    from .devices.tables import tabulate as tabulate
    from .devices.train import on_device as on_device
    from .errors import DivergenceWarning as DivergenceWarning
    from .errors import QKANError as QKANError
    from .errors import ScaleWarning as ScaleWarning
    from .hybrid.activations import replace_activation as replace_activation
    from .hybrid.distill import Distillation as Distillation
    from .hybrid.distill import distill_ffn as distill_ffn
    from .hybrid.experts import QKANExperts as QKANExperts
    from .hybrid.pretrained import from_pretrained as from_pretrained
    from .hybrid.replace import Replaced as Replaced
    from .hybrid.replace import ffn_names as ffn_names
    from .hybrid.replace import replace_ffn as replace_ffn
    from .interpret.explain import explain as explain
    from .interpret.fisher import Redundancy as Redundancy
    from .interpret.fisher import fisher_information as fisher_information
    from .interpret.fisher import redundancy as redundancy
    from .interpret.formula import Formula as Formula
    from .interpret.importance import Importance as Importance
    from .interpret.importance import importance as importance
    from .interpret.importance import sparse_loss as sparse_loss
    from .interpret.plot import plot as plot
    from .interpret.plot import plot_bloch as plot_bloch
    from .interpret.plot import plot_circuit as plot_circuit
    from .interpret.plot import plot_spectrum as plot_spectrum
    from .interpret.symbolic import symbolic as symbolic
    from .interpret.view import View as View
    from .interpret.view import view as view
    from .io.feynman import FeynmanEquation as FeynmanEquation
    from .io.feynman import feynman as feynman
    from .io.feynman import feynman_names as feynman_names
    from .io.files import load as load
    from .io.files import save as save
    from .io.from_qkan import from_qkan as from_qkan
    from .nn.activation import DARUAN as DARUAN
    from .nn.attention import QKANAttention as QKANAttention
    from .nn.basis import DaruanBasis as DaruanBasis
    from .nn.basis import Fourier as Fourier
    from .nn.basis import Rational as Rational
    from .nn.basis import Spline as Spline
    from .nn.conv import QKANConv2d as QKANConv2d
    from .nn.fast_weights import FastWeightQKAN as FastWeightQKAN
    from .nn.functional import qkan_layer as qkan_layer
    from .nn.hqkan import HQKAN as HQKAN
    from .nn.kan import KAN as KAN
    from .nn.kan import KANLayer as KANLayer
    from .nn.layer import QKANLayer as QKANLayer
    from .nn.layer import effective_parameters as effective_parameters
    from .nn.network import QKAN as QKAN
    from .nn.parameter_groups import param_groups as param_groups
    from .nn.recurrent import QKANGRU as QKANGRU
    from .nn.recurrent import QKANLSTM as QKANLSTM
    from .nn.recurrent_cells import QKANGRUCell as QKANGRUCell
    from .nn.recurrent_cells import QKANLSTMCell as QKANLSTMCell
    from .nn.splines import SplineKAN as SplineKAN
    from .nn.starts import ActivationFit as ActivationFit
    from .nn.starts import fit_activation as fit_activation
    from .nn.warm_up import WarmUp as WarmUp
    from .nn.warm_up import warm_up as warm_up
    from .surgery.export import to_onnx as to_onnx
    from .surgery.extend import extend as extend
    from .surgery.fit_extending import fit_extending as fit_extending
    from .surgery.fold import FoldedLayer as FoldedLayer
    from .surgery.fold import FoldedQKAN as FoldedQKAN
    from .surgery.fold import fold as fold
    from .surgery.fold_activation import FoldedActivation as FoldedActivation
    from .surgery.prune import compact as compact
    from .surgery.prune import prune as prune
    from .surgery.to_kan import from_kan as from_kan
    from .surgery.to_kan import to_kan as to_kan
    from .tabular.estimators import QKANClassifier as QKANClassifier
    from .tabular.estimators import QKANRegressor as QKANRegressor
    from .tabular.table_model import TableModel as TableModel
    from .training.fit import AliasingWarning as AliasingWarning
    from .training.fit import fit as fit
    from .training.history import History as History
    from .training.lbfgs import LBFGS as LBFGS

_EXPORTS = {
    ".circuits": "Circuit CircuitError ansatz ansatze register_ansatz",
    ".simulators": "Noise SimulatorError engines expectation simulate",
    ".backends": "BackendError PennyLaneBackend QiskitBackend",
    ".errors": "DivergenceWarning QKANError ScaleWarning",
    ".nn.activation": "DARUAN",
    ".nn.attention": "QKANAttention",
    ".nn.basis": "DaruanBasis Fourier Rational Spline",
    ".nn.conv": "QKANConv2d",
    ".nn.fast_weights": "FastWeightQKAN",
    ".nn.functional": "qkan_layer",
    ".nn.hqkan": "HQKAN",
    ".nn.kan": "KAN KANLayer",
    ".nn.layer": "QKANLayer effective_parameters",
    ".nn.network": "QKAN",
    ".nn.parameter_groups": "param_groups",
    ".nn.recurrent": "QKANGRU QKANLSTM",
    ".nn.recurrent_cells": "QKANGRUCell QKANLSTMCell",
    ".nn.splines": "SplineKAN",
    ".nn.starts": "ActivationFit fit_activation",
    ".nn.warm_up": "WarmUp warm_up",
    ".training.fit": "AliasingWarning fit",
    ".training.history": "History",
    ".training.lbfgs": "LBFGS",
    ".interpret.explain": "explain",
    ".interpret.fisher": "Redundancy fisher_information redundancy",
    ".interpret.formula": "Formula",
    ".interpret.importance": "Importance importance sparse_loss",
    ".interpret.plot": "plot plot_bloch plot_circuit plot_spectrum",
    ".interpret.symbolic": "symbolic",
    ".interpret.view": "View view",
    ".surgery.export": "to_onnx",
    ".surgery.extend": "extend",
    ".surgery.fit_extending": "fit_extending",
    ".surgery.fold": "FoldedLayer FoldedQKAN fold",
    ".surgery.fold_activation": "FoldedActivation",
    ".surgery.prune": "compact prune",
    ".surgery.to_kan": "from_kan to_kan",
    ".io.feynman": "FeynmanEquation feynman feynman_names",
    ".io.files": "load save",
    ".io.from_qkan": "from_qkan",
    ".hybrid.activations": "replace_activation",
    ".hybrid.distill": "Distillation distill_ffn",
    ".hybrid.experts": "QKANExperts",
    ".hybrid.pretrained": "from_pretrained",
    ".hybrid.replace": "Replaced ffn_names replace_ffn",
    ".devices.noisy": "device_noise noisy",
    ".devices.pennylane_layer": "PennyLaneLayer",
    ".devices.plan": "Plan estimate",
    ".devices.qnode": "qnode",
    ".devices.result": "DeviceResult",
    ".devices.run": "cancel resume run",
    ".devices.tables": "EdgeTables tabulate",
    ".devices.train": "on_device",
    ".tabular.estimators": "QKANClassifier QKANRegressor",
    ".tabular.table_model": "TableModel",
}
"""The names that the package exports from each module."""

_RENAMED = {"Daruan": "DaruanBasis"}
"""Old names of version 0.1.0, which warn, and the new names."""

_HOMES = {name: home for home, names in _EXPORTS.items() for name in names.split()}
__all__ = [*_HOMES, "__version__"]


class _Package(ModuleType):
    """The package as a module whose public names cannot be replaced by submodules.

    The import system sets every submodule as an attribute of its package. A module of version 0.1.0
    may be imported by its old name, such as `qkan.fit`, but `qkan.fit` must remain the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(
            f"qkan.{name} is called qkan.{_RENAMED[name]} now; use that name.",
            DeprecationWarning,
            stacklevel=2,
        )
        return __getattr__(_RENAMED[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# last, since it imports rooms of this package if transformers is imported already
importlib.import_module("._auto_loading", __name__)
