"""Measure circuits on devices and their emulators."""

from .backend import Backend as Backend
from .backend import Cost as Cost
from .backend import Measurement as Measurement
from .backend import Run as Run
from .backend import Task as Task
from .calibration import Calibration as Calibration
from .errors import BackendError as BackendError
from .errors import PendingError as PendingError
from .layout import predicted_error as predicted_error
from .options import Options as Options
from .pennylane.backend import PennyLaneBackend as PennyLaneBackend
from .provider import Counts as Counts
from .provider import Job as Job
from .provider import MalformedError as MalformedError
from .provider import Provider as Provider
from .provider import Pub as Pub
from .provider import RejectedError as RejectedError
from .provider import Status as Status
from .provider import UnsureError as UnsureError
from .qiskit.backend import QiskitBackend as QiskitBackend
from .qiskit.runtime import RuntimeProvider as RuntimeProvider
from .run import QiskitRun as QiskitRun
