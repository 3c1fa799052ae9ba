"""Run a lowered circuit for every (sample, output, input) edge, fast, with gradients."""

from .base import BASES as BASES
from .base import LayerTensors as LayerTensors
from .base import masked as masked
from .base import with_base as with_base
from .chebyshev import ChebyshevEngine as ChebyshevEngine
from .engine import Engine as Engine
from .engine import Request as Request
from .errors import SimulatorError as SimulatorError
from .expectation import expectation as expectation
from .expectation import sample as sample
from .fourier import fourier_coefficients as fourier_coefficients
from .noise import Channel as Channel
from .noise import Noise as Noise
from .noise import amplitude_damping as amplitude_damping
from .noise import depolarizing as depolarizing
from .noise import phase_damping as phase_damping
from .noise import thermal_relaxation as thermal_relaxation
from .registry import Explanation as Explanation
from .registry import engines as engines
from .registry import explain as explain
from .registry import get_engine as get_engine
from .registry import select as select
from .simulate import expectation_of as expectation_of
from .simulate import simulate as simulate
