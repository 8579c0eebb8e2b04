from itertools import combinations

import numpy as np
import pytest
from mlverify.verifier.cover import SET_LIMIT, is_proved, open_atoms, possible_atoms


def by_force(atoms, needed, refuted):
    """No point makes `needed` atoms hold together: every assignment the facts allow has fewer."""
    for chosen in range(1 << atoms):
        holding = frozenset(atom for atom in range(atoms) if chosen >> atom & 1)
        if len(holding) >= needed and not any(fact <= holding for fact in refuted):
            return False
    return True


def test_against_brute_force():
    generator = np.random.default_rng(0)
    answers = []
    for _ in range(600):
        atoms = int(generator.integers(1, 7))
        needed = int(generator.integers(1, atoms + 1))
        facts = [
            frozenset(
                generator.choice(atoms, size=int(generator.integers(1, atoms + 1)), replace=False).tolist()
            )
            for _ in range(int(generator.integers(0, 9)))
        ]
        answers.append(is_proved(atoms, needed, facts))
        assert answers[-1] == by_force(atoms, needed, facts)
    # the test would say nothing if all were alike
    assert 100 < sum(answers) < 500


@pytest.mark.parametrize(
    ("atoms", "needed", "refuted", "proved"),
    [
        (3, 1, [], False),
        (3, 1, [{0}, {1}, {2}], True),
        (3, 1, [{0}, {1}], False),
        (3, 2, [{0}, {1}], True),
        (3, 2, [{0}], False),
        (3, 2, [{0}, {1, 2}], True),
        (4, 2, [{0}, {1, 2}, {1, 3}], False),
        (4, 2, [{0}, {1, 2}, {1, 3}, {2, 3}], True),
        (4, 3, [{0, 1}, {2, 3}], True),
        (4, 3, [{0, 1, 2}], False),
        (2, 2, [{0, 1}], True),
    ],
)
def test_by_hand(atoms, needed, refuted, proved):
    assert is_proved(atoms, needed, [frozenset(item) for item in refuted]) is proved


def test_too_many_sets_are_not_enumerated():
    atoms = 60
    pairs = [frozenset(pair) for pair in combinations(range(atoms), 2)]
    assert len(list(combinations(range(9), 4))) < SET_LIMIT
    assert is_proved(9, 4, [frozenset(pair) for pair in combinations(range(9), 2)])
    assert not is_proved(atoms, 10, pairs)
    # counting needs no enumeration, however many there are
    assert is_proved(1000, 10, [frozenset([atom]) for atom in range(991)])


def test_open_atoms_are_those_not_refuted_alone():
    assert open_atoms(4, [frozenset([1]), frozenset([0, 2])]) == [0, 2, 3]


def test_possible_atoms_are_those_of_sets_without_a_refuted_one():
    pair = frozenset
    assert possible_atoms(4, 2, []) == [0, 1, 2, 3]
    assert possible_atoms(4, 2, [pair([0])]) == [1, 2, 3]
    assert possible_atoms(4, 2, [pair([0]), pair([1, 2])]) == [1, 2, 3]
    assert possible_atoms(4, 2, [pair([0]), pair([1, 2]), pair([1, 3])]) == [2, 3]
    assert possible_atoms(3, 2, [pair([0, 1]), pair([1, 2]), pair([0, 2])]) == []
    assert possible_atoms(60, 20, [pair([0, 1])]) == list(range(60))
