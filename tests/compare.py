"""The comparisons of the suite: those that the package ships for engines."""

from qkan.simulators.problems import EXACT as EXACT
from qkan.simulators.problems import assert_as_exact_as as assert_as_exact_as
from qkan.simulators.problems import assert_close as assert_close
