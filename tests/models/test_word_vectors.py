import numpy as np
import pytest
from mlverify.errors import InputError
from mlverify.models.word_vectors import one_hot_vectors, read_word_vectors


def saved(tmp_path, names=("cat", "dining table"), vectors=((1.0, 2.0), (3.0, 4.0))):
    np.savez(tmp_path / "v.npz", names=np.array(names), vectors=np.array(vectors, np.float32))
    return tmp_path / "v.npz"


def glove(tmp_path, text):
    (tmp_path / "v.txt").write_text(text, "utf-8")
    return tmp_path / "v.txt"


def test_npz_in_the_order_of_the_labels(tmp_path):
    found = read_word_vectors(saved(tmp_path), ("Dining_Table", "cat"))
    assert found.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert found.dtype == np.float32


def test_glove_text_with_names_of_several_words(tmp_path):
    path = glove(tmp_path, "the 9 9\ncat 1 2\ndining 3 4\ntable 5 8\ncat 7 7\n")
    assert read_word_vectors(path, ("cat", "dining table")).tolist() == [[1.0, 2.0], [4.0, 6.0]]


def test_labels_without_a_vector_are_listed(tmp_path):
    with pytest.raises(InputError, match=r"v\.npz' has no word vector of dog, pet bird:"):
        read_word_vectors(saved(tmp_path), ("cat", "dog", "pet bird"))
    names = tuple(f"word{number}" for number in range(30))
    with pytest.raises(InputError, match="word9 and 20 more"):
        read_word_vectors(glove(tmp_path, "cat 1 2\n"), names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat one two\n", "line 1: could not convert"),
        ("dog 1 2\ncat\n", "line 2: no finite numbers"),
        ("cat 1 nan\n", "no finite numbers"),
        ("cat 1 2\ndog 1 2 3\n", r"different lengths \[2, 3\]"),
    ],
)
def test_damaged_text_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_word_vectors(glove(tmp_path, text), ("cat", "dog"))


def test_damaged_files_are_one_line(tmp_path):
    (tmp_path / "v.npz").write_bytes(b"PK\x03\x04 cut")
    for path in (tmp_path / "v.npz", tmp_path / "none.txt"):
        with pytest.raises(InputError, match="can't be read as word vectors"):
            read_word_vectors(path, ("cat",))
    (tmp_path / "v.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can't be read as word vectors"):
        read_word_vectors(tmp_path / "v.txt", ("cat",))
    with pytest.raises(InputError, match="vectors of shape"):
        read_word_vectors(saved(tmp_path, vectors=((1.0, 2.0),)), ("cat",))


def test_one_axis_per_label():
    assert one_hot_vectors(("a", "b")).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_published_vectors_are_found_by_name(label_folder):
    names = tuple((label_folder / "voc_names.txt").read_text().split("\n"))[:20]
    found = read_word_vectors(label_folder / "voc_glove_20.npz", names)
    assert found.shape == (20, 300)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    likeness = unit @ unit.T
    cat, dog, sofa = (names.index(name) for name in ("cat", "dog", "sofa"))
    assert likeness[cat, dog] > likeness[cat, sofa]
