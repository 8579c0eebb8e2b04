"""Counting without |C|^2 queries: which facts about few atoms rule out that many hold together.

A fact refutes a set of atoms: not all of them reach zero at one point of the region. A clause that needs m
atoms together is proved once every set of m atoms contains a refuted one. Atoms refuted alone drop out; if
fewer than m are left there is nothing more to show, otherwise every m of those left must be refuted, by
bounding a convex combination of them (if all reached zero, so would the combination).
"""

import math
from collections.abc import Collection
from itertools import combinations

# More sets than this are not enumerated; the engines that need no enumeration take over.
SET_LIMIT = 20_000

AtomSet = frozenset[int]


def open_atoms(atoms: int, refuted: Collection[AtomSet]) -> list[int]:
    """Atoms that are not refuted alone."""
    alone = {next(iter(item)) for item in refuted if len(item) == 1}
    return [atom for atom in range(atoms) if atom not in alone]


def is_proved(atoms: int, needed: int, refuted: Collection[AtomSet]) -> bool:
    """Whether every set of ``needed`` atoms contains a refuted one; False where that can't be enumerated."""
    left = open_atoms(atoms, refuted)
    if len(left) < needed:
        return True
    if math.comb(len(left), needed) > SET_LIMIT:
        return False
    facts = [item for item in refuted if len(item) > 1]
    return all(any(fact <= frozenset(chosen) for fact in facts) for chosen in combinations(left, needed))


def possible_atoms(atoms: int, needed: int, refuted: Collection[AtomSet]) -> list[int]:
    """Atoms of the sets of ``needed`` open atoms that contain no refuted set; no other can take part.

    All open atoms where the sets are too many to be enumerated.
    """
    left = open_atoms(atoms, refuted)
    if math.comb(len(left), needed) > SET_LIMIT:
        return left
    facts = [item for item in refuted if len(item) > 1]
    sets = (set(chosen) for chosen in combinations(left, needed))
    return sorted(set().union(*(chosen for chosen in sets if not any(fact <= chosen for fact in facts))))
