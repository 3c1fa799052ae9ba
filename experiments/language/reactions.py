"""Made-up reactions as SMILES: named organic reactions between fragments drawn at random.

Every reaction balances its carbon skeleton and is written reactants and reagents before `>>`,
products after it. They are valid, but neither canonical nor taken from any record of experiments.
"""

from __future__ import annotations

import random
from collections.abc import Callable

RINGS = (
    "c1ccccc1{0}", "c1ccc({0})cc1", "c1cccc({0})c1", "c1ncccc1{0}", "c1ccnc({0})c1",
    "c1cc({0})ccn1", "c1csc({0})c1", "c1cnn(C)c1{0}", "c1ccc2[nH]cc({0})c2c1",
    "c1ccc2ncc({0})cc2c1", "c1cnc({0})nc1", "c1coc({0})c1",
)  # fmt: skip
"""Aromatic rings that bind by their first atom and carry one more substituent."""

CHAINS = (
    "C", "CC", "CCC", "C(C)C", "CC(C)C", "C1CC1", "C1CCCCC1", "C1CCOCC1", "CCOC", "CCN(C)C",
    "CCCC", "C1CCN(C)CC1", "CC(F)(F)F", "CCC#N",
)  # fmt: skip
"""Saturated groups that bind by their first atom."""

SMALL = (
    "F", "Cl", "C", "OC", "C#N", "C(F)(F)F", "OC(F)(F)F", "C(C)(C)C", "N(C)C", "S(C)(=O)=O",
    "C(=O)OC", "C(N)=O", "OCC", "C(C)=O", "[N+](=O)[O-]",
)  # fmt: skip
"""What a ring carries."""

SOLVENTS = ("CN(C)C=O", "ClCCl", "C1CCOC1", "CCO", "CO", "C1COCCO1", "Cc1ccccc1", "CC#N", "O")
BASES = ("CCN(CC)CC", "CCN(C(C)C)C(C)C", "[Na+].[OH-]", "O=C([O-])[O-].[K+].[K+]", "c1ccncc1")

Draw = random.Random


def ring(draw: Draw) -> str:
    """A substituted aromatic ring."""
    return draw.choice(RINGS).format(draw.choice(SMALL))


def chain(draw: Draw) -> str:
    """An alkyl group, at times one that ends in a ring."""
    return f"C{ring(draw)}" if draw.random() < 0.3 else draw.choice(CHAINS)


def group(draw: Draw) -> str:
    return ring(draw) if draw.random() < 0.6 else chain(draw)


def amide(draw: Draw) -> tuple[list[str], str]:
    acid, amine = group(draw), group(draw)
    return [f"O=C(O){acid}", f"N{amine}", draw.choice(BASES)], f"O=C(N{amine}){acid}"


def sulfonamide(draw: Draw) -> tuple[list[str], str]:
    sulfonyl, amine = ring(draw), group(draw)
    chloride = f"O=S(=O)(Cl){sulfonyl}"
    return [chloride, f"N{amine}", draw.choice(BASES)], f"O=S(=O)(N{amine}){sulfonyl}"


def ether(draw: Draw) -> tuple[list[str], str]:
    phenol, alkyl = ring(draw), chain(draw)
    halide = draw.choice(("Br", "I", "Cl"))
    return [f"O{phenol}", f"{halide}{alkyl}", draw.choice(BASES)], f"O({alkyl}){phenol}"


def suzuki(draw: Draw) -> tuple[list[str], str]:
    boronic, halide = ring(draw), ring(draw)
    reagents = ["[Na+].[Na+]", "O=C([O-])[O-]", "c1ccc(P(c2ccccc2)c2ccccc2)cc1.[Pd]"]
    # the first atom of one ring takes the other one as a branch
    product = f"{boronic[0]}1(-{_renumbered(halide)}){boronic[2:]}"
    return [f"OB(O){boronic}", f"Br{halide}", *reagents], product


def reductive_amination(draw: Draw) -> tuple[list[str], str]:
    aldehyde, amine = group(draw), group(draw)
    return [f"O=C{aldehyde}", f"N{amine}", "[BH4-].[Na+]"], f"C({aldehyde})N{amine}"


def hydrolysis(draw: Draw) -> tuple[list[str], str]:
    acid = group(draw)
    ester = draw.choice(("C", "CC"))
    return [f"{ester}OC(=O){acid}", "[Na+].[OH-]"], f"OC(=O){acid}"


def reduction(draw: Draw) -> tuple[list[str], str]:
    amine = ring(draw)
    return [f"O=[N+]([O-]){amine}", draw.choice(("[Pd]", "[Fe].[Cl-].[NH4+]"))], f"N{amine}"


def deprotection(draw: Draw) -> tuple[list[str], str]:
    amine = group(draw)
    return [f"CC(C)(C)OC(=O)N{amine}", draw.choice(("O=C(O)C(F)(F)F", "Cl"))], f"N{amine}"


def oxidation(draw: Draw) -> tuple[list[str], str]:
    aldehyde = group(draw)
    return [f"OC{aldehyde}", "O=[Mn]=O"], f"O=C{aldehyde}"


KINDS: tuple[Callable[[Draw], tuple[list[str], str]], ...] = (
    amide, sulfonamide, ether, suzuki, reductive_amination, hydrolysis, reduction, deprotection,
    oxidation,
)  # fmt: skip


def reaction(draw: Draw) -> str:
    """One reaction: what is put together in random order, and what it gives."""
    parts, product = draw.choice(KINDS)(draw)
    parts = [*parts, draw.choice(SOLVENTS)]
    draw.shuffle(parts)
    return f"{'.'.join(parts)}>>{product}"


def reactions(count: int, seed: int) -> list[str]:
    """`count` different reactions; equal seeds give equal lists."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[reaction(draw)] = None
    return [*found]


def _renumbered(fragment: str) -> str:
    """The fragment with its ring closures 1 and 2 written as 3 and 4, for use inside a ring."""
    return fragment.translate(str.maketrans("12", "34"))
