"""Run the same circuits on devices and their emulators."""

from .backend import Backend as Backend
from .backend import Cost as Cost
from .backend import Measurement as Measurement
from .backend import Run as Run
from .backend import Task as Task
from .calibration import Calibration as Calibration
from .errors import BackendError as BackendError
