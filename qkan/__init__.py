"""QKAN: Kolmogorov-Arnold networks whose activations are single-qubit circuits.

Each activation is the expectation value of a data re-uploading circuit (arXiv 2509.14026). One
qubit is classically simulable: this package claims no quantum advantage.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import _peer_check as _peer_check

__version__ = "0.1.0"

# what type checkers see; `_EXPORTS` says the same to Python, which imports a module, and torch with
# it, when a name of it is first used: the command line answers --help without
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

    from .activation_fit import ActivationFit as ActivationFit
    from .activation_fit import fit_activation as fit_activation
    from .basis import Daruan as Daruan
    from .basis import Fourier as Fourier
    from .basis import Rational as Rational
    from .basis import Spline as Spline
    from .devices import DeviceResult as DeviceResult
    from .devices import EdgeTables as EdgeTables
    from .devices import Plan as Plan
    from .devices import estimate as estimate
    from .devices import on_device as on_device
    from .devices import tabulate as tabulate
    from .devices.noisy import device_noise as device_noise
    from .devices.noisy import noisy as noisy
    from .devices.run import cancel as cancel
    from .devices.run import resume as resume
    from .devices.run import run as run
    from .errors import DivergenceWarning as DivergenceWarning
    from .errors import QKANError as QKANError
    from .errors import ScaleWarning as ScaleWarning
    from .estimators import QKANClassifier as QKANClassifier
    from .estimators import QKANRegressor as QKANRegressor
    from .explain import explain as explain
    from .export import to_onnx as to_onnx
    from .extend import extend as extend
    from .extend import fit_extending as fit_extending
    from .feynman import FeynmanEquation as FeynmanEquation
    from .feynman import feynman as feynman
    from .feynman import feynman_names as feynman_names
    from .fisher import Redundancy as Redundancy
    from .fisher import fisher_information as fisher_information
    from .fisher import redundancy as redundancy
    from .fit import AliasingWarning as AliasingWarning
    from .fit import fit as fit
    from .fold import FoldedLayer as FoldedLayer
    from .fold import FoldedQKAN as FoldedQKAN
    from .fold import fold as fold
    from .formula import Formula as Formula
    from .functional import qkan_layer as qkan_layer
    from .history import History as History
    from .hybrid import HQKAN as HQKAN
    from .hybrid import Distillation as Distillation
    from .hybrid import QKANAttention as QKANAttention
    from .hybrid import QKANConv2d as QKANConv2d
    from .hybrid import QKANExperts as QKANExperts
    from .hybrid import Replaced as Replaced
    from .hybrid import distill_ffn as distill_ffn
    from .hybrid import ffn_names as ffn_names
    from .hybrid import from_pretrained as from_pretrained
    from .hybrid import replace_ffn as replace_ffn
    from .importance import Importance as Importance
    from .importance import importance as importance
    from .importance import sparse_loss as sparse_loss
    from .io import load as load
    from .io import save as save
    from .kan import KAN as KAN
    from .kan import KANLayer as KANLayer
    from .layer import QKANLayer as QKANLayer
    from .layer import effective_parameters as effective_parameters
    from .network import QKAN as QKAN
    from .optim import param_groups as param_groups
    from .peer import from_qkan as from_qkan
    from .pennylane_layer import PennyLaneLayer as PennyLaneLayer
    from .plot import plot as plot
    from .plot import plot_bloch as plot_bloch
    from .plot import plot_circuit as plot_circuit
    from .plot import plot_spectrum as plot_spectrum
    from .prune import compact as compact
    from .prune import prune as prune
    from .qnode import qnode as qnode
    from .splines import SplineKAN as SplineKAN
    from .symbolic import symbolic as symbolic
    from .table_model import TableModel as TableModel
    from .to_kan import from_kan as from_kan
    from .to_kan import to_kan as to_kan

_EXPORTS = {
    ".backends": "BackendError PennyLaneBackend QiskitBackend",
    ".circuits": "Circuit CircuitError ansatz ansatze register_ansatz",
    ".simulators": "Noise SimulatorError engines expectation simulate",
    ".activation_fit": "ActivationFit fit_activation",
    ".basis": "Daruan Fourier Rational Spline",
    ".devices": "DeviceResult EdgeTables Plan estimate on_device tabulate",
    ".devices.noisy": "device_noise noisy",
    ".devices.run": "cancel resume run",
    ".errors": "DivergenceWarning QKANError ScaleWarning",
    ".explain": "explain",
    ".export": "to_onnx",
    ".extend": "extend fit_extending",
    ".feynman": "FeynmanEquation feynman feynman_names",
    ".fisher": "Redundancy fisher_information redundancy",
    ".fit": "AliasingWarning fit",
    ".fold": "FoldedLayer FoldedQKAN fold",
    ".formula": "Formula",
    ".functional": "qkan_layer",
    ".history": "History",
    ".hybrid": "HQKAN Distillation QKANAttention QKANConv2d QKANExperts Replaced distill_ffn "
    "ffn_names from_pretrained replace_ffn",
    ".importance": "Importance importance sparse_loss",
    ".io": "load save",
    ".kan": "KAN KANLayer",
    ".layer": "QKANLayer effective_parameters",
    ".network": "QKAN",
    ".optim": "param_groups",
    ".peer": "from_qkan",
    ".pennylane_layer": "PennyLaneLayer",
    ".plot": "plot plot_bloch plot_circuit plot_spectrum",
    ".prune": "compact prune",
    ".qnode": "qnode",
    ".splines": "SplineKAN",
    ".symbolic": "symbolic",
    ".table_model": "TableModel",
    ".to_kan": "from_kan to_kan",
    ".estimators": "QKANClassifier QKANRegressor",
}
"""The names that each module gives to the package."""

_HOMES = {name: home for home, names in _EXPORTS.items() for name in names.split()}
__all__ = [*_HOMES, "__version__"]


class _Package(ModuleType):
    """The package as a module of which `fit` is the function, once the module `fit` is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        # the import system sets every submodule, also those that share a name with what they give
        if isinstance(value, ModuleType) and _HOMES.get(name) == f".{name}":
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
