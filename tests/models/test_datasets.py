from pathlib import Path

import numpy as np
import pytest
from dataset_folders import (
    SIDE,
    coco_folder,
    csv_folder,
    nus_folder,
    picture,
    voc_annotations,
    voc_folder,
    write,
)
from mlverify.errors import InputError
from mlverify.models.datasets.catalogue import DatasetKind, DatasetRequest, detect, open_dataset
from mlverify.models.datasets.coco import read_coco
from mlverify.models.datasets.composed import read_composed
from mlverify.models.datasets.dataset import ArrayStore, LabelledImages
from mlverify.models.datasets.nus_wide import read_nus_wide
from mlverify.models.datasets.tables import read_archive, read_csv
from mlverify.models.datasets.voc import NAMES, read_voc
from mlverify.models.multi_mnist import MultiMnist
from mlverify.verifier.image import load_image


def reader(path, shape):
    return load_image(path, shape, resize=True)


def as_dict(data):
    """Names of the present labels, and of the unknown ones, by image."""
    return {
        key: (
            [name for name, mark in zip(data.names, row, strict=True) if mark == 1],
            [name for name, mark in zip(data.names, row, strict=True) if mark == -1],
        )
        for key, row in zip(data.keys, data.marks, strict=True)
    }


class TestVoc:
    def test_class_lists_with_difficult_objects(self, tmp_path):
        data = read_voc(voc_folder(tmp_path), "test", reader)
        assert data.names == NAMES
        assert data.title == "VOC2007 test"
        assert as_dict(data)["000001"] == (["bicycle"], ["bird"])
        pixels = data.pixels(np.array([2, 0]), (3, SIDE, SIDE))
        assert pixels.shape == (2, 3, SIDE, SIDE)
        assert pixels.dtype == np.float32
        assert np.array_equal(
            pixels[1], reader(tmp_path / "VOCdevkit/VOC2007/JPEGImages/000000.jpg", (3, 8, 8))
        )

    def test_annotations_where_there_are_no_lists(self, tmp_path):
        data = read_voc(voc_annotations(tmp_path), "test", reader)
        assert as_dict(data) == {"a": (["tree"], []), "b": ([], ["lamp"]), "c": (["lamp", "tree"], [])}

    @pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
    def test_any_folder_of_the_kit_will_do(self, tmp_path, inside):
        assert len(read_voc(voc_folder(tmp_path) / inside, "test", reader)) == 4

    def test_several_years_need_a_choice(self, tmp_path):
        voc_folder(voc_folder(tmp_path), "2012")
        with pytest.raises(InputError, match=r"VOC2007, VOC2012: name one with --year"):
            read_voc(tmp_path, "test", reader)
        assert read_voc(tmp_path, "test", reader, "2012").title == "VOC2012 test"

    def test_what_is_missing_is_listed(self, tmp_path):
        kit = voc_folder(tmp_path) / "VOCdevkit/VOC2007"
        with pytest.raises(InputError, match=r"no split 'train'.*there is test"):
            read_voc(tmp_path, "train", reader)
        (kit / "JPEGImages/000002.jpg").unlink()
        with pytest.raises(InputError, match=r"1 of 4 files are missing: .*000002.jpg"):
            read_voc(tmp_path, "test", reader)
        (kit / "ImageSets/Main/cow_test.txt").unlink()
        with pytest.raises(InputError, match=r"1 of 20 files are missing: .*cow_test.txt"):
            read_voc(tmp_path, "test", reader)
        with pytest.raises(InputError, match=r"ImageSets/Main is missing; `mlverify dataset --download`"):
            read_voc(tmp_path / "none", "test", reader)

    def test_damaged_lists_are_named(self, tmp_path):
        kit = voc_folder(tmp_path) / "VOCdevkit/VOC2007/ImageSets/Main"
        write(kit / "cow_test.txt", "000000 7")
        with pytest.raises(InputError, match=r"cow_test.txt has the line '000000 7'"):
            read_voc(tmp_path, "test", reader)
        write(kit / "cow_test.txt", "000000 1")
        with pytest.raises(InputError, match=r"cow_test.txt lists other images than aeroplane_test.txt"):
            read_voc(tmp_path, "test", reader)

    def test_damaged_annotations_are_named(self, tmp_path):
        voc_annotations(tmp_path)
        write(tmp_path / "VOC2012/Annotations/b.xml", "<annotation><object></object></annotation>")
        with pytest.raises(InputError, match=r"b.xml has an object without a name"):
            read_voc(tmp_path, "test", reader)
        write(tmp_path / "VOC2012/Annotations/b.xml", "<annotation>")
        with pytest.raises(InputError, match=r"b.xml is no readable annotation"):
            read_voc(tmp_path, "test", reader)

    @pytest.mark.slow
    def test_real_labels_have_the_published_counts(self, tmp_path):
        """The image labels of VOC 2007 trainval, against positives per class counted by another project."""
        folder = Path(__file__).parents[2] / ".." / "shared" / "data" / "labels"
        if not (folder / "voc2007_imagelabels.npz").is_file():
            pytest.skip("the VOC image labels are not at hand")
        with np.load(folder / "voc2007_imagelabels.npz") as arrays:
            keys, labels = arrays["trainval_names"].astype(str), arrays["trainval_labels"]
        with np.load(folder / "voc_adj_20.npz") as arrays:
            published = arrays["nums"]
        kit = tmp_path / "VOC2007"
        (kit / "JPEGImages").mkdir(parents=True)
        for key in keys:
            (kit / "JPEGImages" / f"{key}.jpg").touch()
        for name, column in zip(NAMES, labels.T, strict=True):
            lines = [f"{key} {mark:2d}" for key, mark in zip(keys, column, strict=True)]
            write(kit / "ImageSets" / "Main" / f"{name}_trainval.txt", *lines)
        data = read_voc(tmp_path, "trainval", reader)
        assert len(data) == 5011
        assert np.array_equal((data.marks == 1).sum(axis=0), published)


class TestCoco:
    def test_categories_by_id_and_images_with_annotations(self, tmp_path):
        data = read_coco(coco_folder(tmp_path), reader)
        assert data.names == ("person", "cat", "dog")
        assert as_dict(data) == {
            "000000000007.jpg": (["person", "dog"], []),
            "000000000009.jpg": (["cat"], []),
        }
        assert data.title == "COCO val2014"
        file = tmp_path / "annotations/instances_val2014.json"
        assert read_coco(file, reader, images=tmp_path / "val2014").keys == data.keys

    def test_several_splits_need_a_choice(self, tmp_path):
        coco_folder(coco_folder(tmp_path), "train2014")
        with pytest.raises(
            InputError, match=r"instances of train2014, val2014: name one of them with --split"
        ):
            read_coco(tmp_path, reader)
        assert len(read_coco(tmp_path, reader, "train2014")) == 2

    def test_what_is_missing_or_damaged_is_named(self, tmp_path):
        file = coco_folder(tmp_path) / "annotations/instances_val2014.json"
        (tmp_path / "val2014/000000000009.jpg").unlink()
        with pytest.raises(InputError, match=r"1 of 2 files are missing: .*0009.jpg"):
            read_coco(tmp_path, reader)
        (tmp_path / "val2014").rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=r"val2014 does not exist; name it with --images"):
            read_coco(tmp_path, reader)
        text = file.read_text()
        write(file, text.replace('"category_id": 18', '"category_id": 99'))
        with pytest.raises(InputError, match=r"annotations of category 99"):
            read_coco(tmp_path, reader)
        write(file, text.replace('"file_name"', '"name"'))
        with pytest.raises(InputError, match=r"a field is missing or wrong \(KeyError\('file_name'\)\)"):
            read_coco(tmp_path, reader)
        write(file, text[:50])
        with pytest.raises(InputError, match="no readable JSON"):
            read_coco(tmp_path, reader)
        write(file, "[1]")
        with pytest.raises(InputError, match="no COCO annotation file"):
            read_coco(tmp_path, reader)


class TestNusWide:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_lists(self, tmp_path, split):
        data = read_nus_wide(nus_folder(tmp_path), split, reader)
        assert data.names == ("airport", "animal")
        assert data.marks.tolist() == [[1, 0], [0, 1], [0, 1]]
        assert data.keys[0] == "actor/0001_2.jpg"
        assert data.pixels(np.array([0]), (1, 4, 4)).shape == (1, 1, 4, 4)

    def test_what_is_missing_or_damaged_is_named(self, tmp_path):
        labels = nus_folder(tmp_path) / "Groundtruth/TrainTestLabels"
        write(labels / "Labels_animal_Test.txt", "1", "0")
        with pytest.raises(InputError, match=r"Labels_animal_Test.txt has 2 lines for 3 images"):
            read_nus_wide(tmp_path, "test", reader)
        write(labels / "Labels_animal_Test.txt", "1", "0", "2")
        with pytest.raises(InputError, match=r"has '2' where 0 or 1"):
            read_nus_wide(tmp_path, "test", reader)
        (labels / "Labels_animal_Test.txt").unlink()
        with pytest.raises(InputError, match=r"1 of 2 files are missing: .*Labels_animal_Test.txt"):
            read_nus_wide(tmp_path, "test", reader)
        (tmp_path / "Flickr/zoo/0003_4.jpg").unlink()
        with pytest.raises(InputError, match=r"1 of 3 files are missing: .*0003_4.jpg"):
            read_nus_wide(tmp_path, "train", reader)
        (tmp_path / "Flickr").rename(tmp_path / "photos")
        with pytest.raises(InputError, match="has no Flickr or images"):
            read_nus_wide(tmp_path, "train", reader)


class TestTables:
    def test_csv(self, tmp_path):
        data = read_csv(csv_folder(tmp_path) / "labels.csv", reader)
        assert data.names == ("left", "right")
        assert data.marks.tolist() == [[1, 0], [-1, 1], [0, -1]]

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ((), "should begin with the line image"),
            (("file,a", "x.png,1"), "should begin with the line image"),
            (("image,a",), "no row below"),
            (("image,a", "x.png"), "row 2: 0 cells for 1 labels"),
            (("image,a", "x.png,yes"), "row 2: 'yes' is not 1, 0, -1 or empty"),
            (("image,a", "none.png,1"), "a file is missing: .*none.png"),
            (("image,a", "x.png,1", "x.png,0"), r"image x.png occurs twice"),
            (("image,a,a", "x.png,1,0"), r"label a occurs twice"),
        ],
    )
    def test_damaged_tables_are_named(self, tmp_path, lines, message):
        picture(tmp_path / "x.png", 0)
        with pytest.raises(InputError, match=message):
            read_csv(write(tmp_path / "labels.csv", *lines), reader)

    def test_archives(self, tmp_path):
        images = np.arange(2 * 4, dtype=np.uint8).reshape(2, 1, 2, 2)
        np.savez(tmp_path / "a.npz", images=images, labels=np.array([[1, 0, 0], [0, 1, 1]]), names=["p", "q"])
        data = read_archive(tmp_path / "a.npz")
        assert (data.names, data.keys) == (("0", "1", "2"), ("p", "q"))
        assert np.array_equal(data.pixels(np.array([1]), (1, 2, 2))[0], images[1] / np.float32(255))
        with pytest.raises(InputError, match=r"shape \(1, 2, 2\), the network reads \(1, 4, 4\)"):
            data.pixels(np.array([1]), (1, 4, 4))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"labels": np.zeros((1, 2))}, "no array images"),
            ({"images": np.zeros((1, 1, 2, 2)), "labels": np.zeros((1, 2))}, "give uint8"),
            ({"images": np.zeros((1, 1, 2, 2), np.uint8), "labels": np.full((1, 2), 3)}, "1 for present"),
            ({"images": np.zeros((3, 1, 2, 2), np.uint8), "labels": np.zeros((1, 2))}, "do not fit 3 images"),
        ],
    )
    def test_unusable_archives_are_named(self, tmp_path, arrays, message):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(InputError, match=message):
            read_archive(tmp_path / "a.npz")

    def test_files_that_are_no_archives(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            read_archive(tmp_path / "a.npz")
        write(tmp_path / "a.npz", "text")
        with pytest.raises(InputError, match="can't be read as a data set"):
            read_archive(tmp_path / "a.npz")


class TestInterface:
    @pytest.fixture
    def data(self):
        images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * 51
        marks = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [-1, 1]], np.int8)
        return LabelledImages("five", ("a", "b"), marks, tuple("vwxyz"), ArrayStore(images))

    def test_parts_of_parts(self, data):
        part = data.take(np.array([4, 2, 0])).take(np.array([1, 0]))
        assert part.keys == ("x", "z")
        assert part.marks.tolist() == [[1, 1], [-1, 1]]
        assert part.pixels(np.array([0, 1]), (1, 1, 1)).ravel() == pytest.approx([0.4, 0.8])

    def test_samples_are_seeded_and_in_order(self, data):
        assert data.sample(3, 1).keys == data.sample(3, 1).keys
        assert list(data.sample(3, 1).keys) == sorted(data.sample(3, 1).keys)
        assert data.sample(9, 0) is data

    def test_labels_in_the_order_of_the_network(self, data):
        assert data.for_labels(("b", "a")).marks[0].tolist() == [0, 1]
        assert data.for_labels(("0", "1")).marks[0].tolist() == [1, 0]
        with pytest.raises(
            InputError, match=r"five has 2 labels and the network 2; the data set lacks c; .* a"
        ):
            data.for_labels(("c", "b"))
        with pytest.raises(InputError, match=r"2 labels and the network 3; the data set lacks 0, 1, 2"):
            data.for_labels(("0", "1", "2"))

    def test_no_image_is_no_data_set(self, data):
        with pytest.raises(InputError, match="has no image"):
            data.take(np.array([], np.int64))


class TestCatalogue:
    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (voc_folder, DatasetKind.VOC),
            (coco_folder, DatasetKind.COCO),
            (nus_folder, DatasetKind.NUS_WIDE),
            (csv_folder, DatasetKind.CSV),
        ],
    )
    def test_layouts_are_recognised(self, tmp_path, make, kind):
        assert detect(str(make(tmp_path))) is kind
        data = open_dataset(DatasetRequest(str(tmp_path)), reader)
        assert data.pixels(np.arange(2), (3, 6, 6)).shape == (2, 3, 6, 6)

    def test_what_is_nothing_known_is_said(self, tmp_path):
        with pytest.raises(InputError, match=r"does not exist; give one of VOCdevkit"):
            detect(str(tmp_path / "none"))
        with pytest.raises(InputError, match="no layout that is known"):
            detect(str(tmp_path))
        csv_folder(tmp_path)
        write(tmp_path / "more.csv", "image,a")
        with pytest.raises(InputError, match=r"2 .csv files"):
            open_dataset(DatasetRequest(str(tmp_path)), reader)

    def test_composed_images(self, digits, mnist_folder):
        first, again = (read_composed(digits, MultiMnist.TRIPLE, 6, 3) for _ in range(2))
        assert np.array_equal(first.marks, again.marks)
        assert (first.marks.sum(axis=1) == 3).all()
        assert first.pixels(np.arange(6), (1, 84, 84)).max() <= 1
        request = DatasetRequest("double-mnist", count=5, mnist=mnist_folder)
        assert open_dataset(request, reader).marks.sum() == 10
        with pytest.raises(InputError, match="no split 'val'"):
            open_dataset(DatasetRequest("double-mnist", split="val", mnist=mnist_folder), reader)
