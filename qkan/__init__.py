"""QKAN: Kolmogorov-Arnold networks whose activations are single-qubit circuits.

Each activation is the expectation value of a data re-uploading circuit (arXiv 2509.14026). One
qubit is classically simulable: this package claims no quantum advantage.
"""

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

from . import _peer_check as _peer_check
from .errors import QKANError as QKANError
from .explain import explain as explain
from .fit import AliasingWarning as AliasingWarning
from .fit import fit as fit
from .functional import qkan_layer as qkan_layer
from .history import History as History
from .io import load as load
from .io import save as save
from .layer import QKANLayer as QKANLayer
from .layer import effective_parameters as effective_parameters
from .network import QKAN as QKAN
from .optim import param_groups as param_groups
from .peer import from_qkan as from_qkan

__version__ = "0.1.0"
