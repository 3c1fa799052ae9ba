"""Simulate a lowered circuit for every sample and edge, fast and with gradients."""

from .autocast import autocast_dtype as autocast_dtype
from .base import with_base as with_base
from .base_activations import BASE_ACTIVATIONS as BASE_ACTIVATIONS
from .base_activations import BASES as BASES
from .bloch import TorchEngine
from .bloch import edge_values as edge_values
from .bridge import run as run
from .call import LayerCall as LayerCall
from .call import LayerTensors as LayerTensors
from .call import Request as Request
from .call import has_values as has_values
from .call import is_tracing as is_tracing
from .call import layer_call as layer_call
from .call import masked as masked
from .chebyshev import ChebyshevEngine as ChebyshevEngine
from .cpu.numba_engine import NumbaEngine
from .cuda.cupy_engine import CupyEngine
from .engine import Engine as Engine
from .errors import SimulatorError as SimulatorError
from .expectation import expectation as expectation
from .expectation import sample as sample
from .fourier import FourierEngine
from .fourier import fourier_coefficients as fourier_coefficients
from .noise import Channel as Channel
from .noise import Noise as Noise
from .noise import amplitude_damping as amplitude_damping
from .noise import depolarizing as depolarizing
from .noise import phase_damping as phase_damping
from .noise import thermal_relaxation as thermal_relaxation
from .reference import ReferenceEngine
from .registry import Explanation as Explanation
from .registry import engines as engines
from .registry import explain as explain
from .registry import get_engine as get_engine
from .registry import register_engine as register_engine
from .registry import select as select
from .simulate import expectation_of as expectation_of
from .simulate import simulate as simulate

for _engine in (
    ReferenceEngine(), TorchEngine(), FourierEngine(), ChebyshevEngine(), NumbaEngine(),
    CupyEngine(),
):  # fmt: skip
    register_engine(_engine)
