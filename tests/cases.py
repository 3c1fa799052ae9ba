"""Circuits, shapes and random problems of the suite: those that the package ships for engines."""

from qkan.simulators.problems import CIRCUITS as CIRCUITS
from qkan.simulators.problems import SHAPES as SHAPES
from qkan.simulators.problems import TILTED as TILTED
from qkan.simulators.problems import Problem as Problem
from qkan.simulators.problems import Shape as Shape
from qkan.simulators.problems import bare_encoding as bare_encoding
from qkan.simulators.problems import mixed_encodings as mixed_encodings
from qkan.simulators.problems import own_circuit as own_circuit
from qkan.simulators.problems import problem as problem
from qkan.simulators.problems import unmoved as unmoved
