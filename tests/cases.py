"""Circuits, shapes and random problems of the suite: those that the package ships for engines."""

from qkan.simulators.testing import CIRCUITS as CIRCUITS
from qkan.simulators.testing import SHAPES as SHAPES
from qkan.simulators.testing import TILTED as TILTED
from qkan.simulators.testing import Problem as Problem
from qkan.simulators.testing import Shape as Shape
from qkan.simulators.testing import bare_encoding as bare_encoding
from qkan.simulators.testing import mixed_encodings as mixed_encodings
from qkan.simulators.testing import own_circuit as own_circuit
from qkan.simulators.testing import problem as problem
from qkan.simulators.testing import unmoved as unmoved
