"""The 120 Feynman equations: one formula each, and everything that comes from it agrees."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import pytest
import torch

from qkan import QKAN, QKANError, feynman, feynman_names, fit

DOUBLE = torch.float64
NAMES = feynman_names()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_there_are_120_and_each_has_its_number() -> None:
    assert len(NAMES) == len(set(NAMES)) == 120
    for number, name in enumerate(NAMES, start=1):
        assert feynman(number) is feynman(name)
        assert feynman(name).number == number and feynman(name).name == name


def test_the_file_has_the_equations_that_were_typed() -> None:
    found = [
        (law.number, law.name, law.output, law.formula, law.variables, law.ranges)
        for law in map(feynman, NAMES)
    ]
    # of the table of version 0.1.0
    wanted = "cb773ada1d74bbc5fe2c0017520cfb40ba1281fa47f38fa69d99ee07adc0c50b"
    assert hashlib.sha256(repr(found).encode()).hexdigest() == wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_function_is_the_expression(name: str) -> None:
    law = feynman(name)
    x, y = law.sample(3, generator(law.number), dtype=DOUBLE)
    assert law.expression.free_symbols == set(law.symbols)
    for row, found in zip(x, y, strict=True):
        values = dict(zip(law.symbols, row.tolist(), strict=True))
        wanted = law.expression.evalf(40, subs=values)
        assert wanted.is_real
        assert math.isclose(found.item(), float(wanted), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_it_is_finite_on_its_ranges(name: str, dtype: torch.dtype) -> None:
    law = feynman(name)
    x, y = law.sample(1009, generator(1), dtype=dtype)
    assert x.dtype == y.dtype == dtype
    assert x.shape == (1009, len(law.variables)) and y.shape == (1009, 1)
    assert y.isfinite().all() and y.std() > 0
    low, high = torch.tensor(law.ranges, dtype=dtype).unbind(-1)
    assert (low < high).all() and (x >= low).all() and (x <= high).all()
    # the whole of each range is used
    assert (x.amin(0) - low < 0.02 * (high - low)).all()
    assert (high - x.amax(0) < 0.02 * (high - low)).all()


def test_where_two_frequencies_meet_it_stays_finite() -> None:
    law = feynman("III.9.52")
    x = torch.tensor([[2.0, 1.0, 3.0, 1.0, 4.0, 4.0]], dtype=DOUBLE)
    assert law(x).item() == pytest.approx(2.0 * 3.0 * 2 * math.pi)


KNOWN = {
    # what other tables have wrong: the sum of velocities, 6π, x over y, a sign
    20: ({"u": 0.5, "v": 0.5, "c": 1.0}, 0.8),
    32: ({"q": 2.0, "a": 3.0, "epsilon": 1.0, "c": 1.0}, 36 / (6 * math.pi)),
    113: ({"m": 2.0, "omega": 3.0, "p": 5.0, "y": 4.0, "x": 2.0, "alpha": 0.5}, 51.25),
    114: ({"q": 1.0, "y": 1.0, "Volt": 1.0, "d": 2.0, "epsilon": 1.0}, 2 - 2 / (36 * math.pi)),
    116: ({"Ef": 1.0, "theta": 0.0, "r": 2.0, "d": 2.0, "alpha": 4.0}, -1.0),
    1: ({"theta": 0.0}, 0.3989422804014327),
    14: ({"m1": 2.0, "m2": 3.0, "r1": 2.0, "r2": 1.0, "G": 5.0}, 15.0),
    36: ({"c": 5.0, "v": 3.0, "omega_0": 1.0}, 2.0),
    66: ({"epsilon": 1.0, "c": 1.0, "I": 2 * math.pi, "r": 1.0}, 1.0),
    98: ({"beta": 3.0, "alpha": 1.0, "theta": math.pi}, 0.0),
    110: ({"d": 4.0, "G": 1.0, "m1": 0.5, "m2": 0.5}, 16 * math.pi),
}


@pytest.mark.parametrize("number", KNOWN)
def test_values_known_by_hand(number: int) -> None:
    law, (values, wanted) = feynman(number), KNOWN[number]
    x = torch.tensor([values[name] for name in law.variables], dtype=DOUBLE)
    assert law(x).item() == pytest.approx(wanted, abs=1e-12)


def test_names_of_sympys_own_are_variables() -> None:
    # I, beta and gamma mean something else to sympy
    for name in ("II.13.17", "III.17.37", "I.39.11"):
        law = feynman(name)
        assert {str(symbol) for symbol in law.expression.free_symbols} == set(law.variables)


def test_samples_are_seeded_and_leave_the_global_generator_alone() -> None:
    law = feynman(30)
    state = torch.get_rng_state()
    first, again = law.sample(11, generator(5)), law.sample(11, generator(5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(law.sample(11, generator(6))[0], first[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert law.sample(2)[0].dtype == torch.get_default_dtype()


def test_leading_dimensions_and_gradients() -> None:
    law = feynman("I.6.20b")
    x = law.sample(12, generator(), dtype=DOUBLE)[0]
    assert law(x.reshape(3, 4, 3)).shape == (3, 4, 1)
    assert torch.equal(law(x.reshape(3, 4, 3)).flatten(), law(x).flatten())
    assert torch.autograd.gradcheck(law, (x.requires_grad_(),))


def test_a_model_fits_it() -> None:
    law = feynman("I.14.4")
    train = law.sample(64, generator(), dtype=DOUBLE)
    model = QKAN([2, 2, 1], generator=generator(), dtype=DOUBLE)
    history = fit(model, train, steps=5, progress=False)
    assert history.train_loss[-1] < 1e-2 * train[1].var().item()


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(QKANError, match=r"I\.16\.6"):
        feynman("I.16.66")
    for number in (0, 121, -1):
        with pytest.raises(QKANError, match="1 to 120"):
            feynman(number)
    with pytest.raises(QKANError, match="no such equation"):
        feynman(True)


def test_wrong_inputs_are_refused() -> None:
    law = feynman("I.16.6")
    for wrong in (torch.ones(4, 2), torch.tensor(1.0)):
        with pytest.raises(QKANError, match="the columns c, v, u"):
            law(wrong)
    for wrong in (torch.ones(4, 3, dtype=torch.long), [[1.0, 2.0, 3.0]]):
        with pytest.raises(QKANError, match="real floats"):
            law(wrong)
    for wrong in (0, 2.0, True):
        with pytest.raises(QKANError, match="whole number of samples"):
            law.sample(wrong)


def test_the_table_needs_no_sympy() -> None:
    code = """
import sys
sys.modules["sympy"] = None
import qkan
print(qkan.feynman("I.16.6"), len(qkan.feynman_names()))
try:
    qkan.feynman(1).sample(2)
except ImportError as error:
    print("qkan-hybrid[symbolic]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["20. I.16.6: v1 = (u + v)/(1 + u*v/c**2) 120", "True"]
