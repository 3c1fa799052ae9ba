"""Trained models on devices: estimate, run, resume, train."""

from .noisy import device_noise as device_noise
from .noisy import noisy as noisy
from .plan import Plan as Plan
from .plan import StagePlan as StagePlan
from .plan import estimate as estimate
from .result import DeviceResult as DeviceResult
from .result import EdgeCheck as EdgeCheck
from .run import cancel as cancel
from .run import resume as resume
from .run import run as run
from .tables import EdgeTables as EdgeTables
from .tables import tabulate as tabulate
from .train import OnDevice as OnDevice
from .train import on_device as on_device
