import numpy as np
import pytest
from mlverify.errors import PropertyError
from mlverify.verifier.decision import Threshold, TopK, ranking

SCORES = np.array([0.2, 0.9, 0.9, -1.0], dtype=np.float32)


def test_top_k_takes_the_highest_and_breaks_ties_by_number():
    assert TopK(1).predicted(SCORES) == (1,)
    assert TopK(3).predicted(SCORES) == (1, 2, 0)
    assert ranking(SCORES) == (1, 2, 0, 3)


@pytest.mark.parametrize("k", [0, 4, 9])
def test_k_must_leave_a_label_out(k):
    with pytest.raises(PropertyError, match="k must be between 1 and 3"):
        TopK(k).predicted(SCORES)


def test_threshold_is_strict_and_may_select_nothing():
    assert Threshold(0.2).predicted(SCORES) == (1, 2)
    assert Threshold(5.0).predicted(SCORES) == ()
