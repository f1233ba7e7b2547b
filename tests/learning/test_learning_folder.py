from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.learning.datasets import folder, tables
from app.protocol.errors import DataError


def read(path, label=None, group=None, seed=0):
    return folder.load(str(path), label, group, 0.25, seed)


def encoded(value: int, size=(5, 7), form="PNG", mode="L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(out, form)
    return out.getvalue()


def parquet(path, **columns) -> None:
    pq.write_table(pa.table(columns), path)


CSV = "size,colour,label\n1.5,red,b\n2,blue,a\n3,red,b\n4,red,a\n5,blue,a\n6,red,b\n7,red,a\n8,blue,b\n"


class TestTables:
    def test_csv_one_file_is_split_by_the_seed(self, tmp_path) -> None:
        (tmp_path / "mine.csv").write_text(CSV)
        source = read(tmp_path)
        assert (source.train.kind, source.train.classes) == ("table", ("a", "b"))
        assert (len(source.train), len(source.test)) == (6, 2)
        both = np.concatenate([source.train.inputs, source.test.inputs])
        assert sorted(both[:, 0]) == [1.5, 2, 3, 4, 5, 6, 7, 8]
        assert set(map(tuple, both[:, 1:])) == {(1, 0), (0, 1)}
        np.testing.assert_array_equal(source.test.inputs, read(tmp_path).test.inputs)

    def test_category_that_train_lacks_is_all_zeros(self, tmp_path) -> None:
        (tmp_path / "train.csv").write_text(CSV)
        (tmp_path / "test.csv").write_text("size,colour,label\n9,green,a\n")
        np.testing.assert_array_equal(read(tmp_path).test.inputs, [[9, 0, 0]])

    def test_labels_that_are_numbers_sort_by_value(self, tmp_path) -> None:
        rows = "\n".join(f"{k},{k}" for k in range(12))
        (tmp_path / "train.csv").write_text(f"x,label\n{rows}\n")
        (tmp_path / "test.csv").write_text("x,label\n10,10\n")
        source = read(tmp_path)
        assert source.train.classes == tuple(map(str, range(12)))
        np.testing.assert_array_equal(source.train.labels, source.train.inputs[:, 0])
        assert source.test.labels.tolist() == [10]

    def test_named_label_and_group_column_are_no_inputs(self, tmp_path) -> None:
        (tmp_path / "train.csv").write_text("home,x,kind\nh1,1,a\nh1,2,b\nh2,3,a\nh2,4,b\n")
        (tmp_path / "test.csv").write_text("x,kind\n1,a\n")
        source = read(tmp_path, label="kind", group="home")
        assert source.train.inputs.tolist() == [[1], [2], [3], [4]]
        assert source.train.groups.tolist() == ["h1", "h1", "h2", "h2"]
        assert source.test.groups is None

    def test_npz_columns(self, tmp_path) -> None:
        np.savez(tmp_path / "train.npz", x=np.ones((4, 3)), y=np.arange(4), label=np.array(["u", "v", "u", "v"]))
        np.savez(tmp_path / "test.npz", x=np.ones((2, 3)), y=np.arange(2), label=np.array(["u", "v"]))
        source = read(tmp_path)
        assert (source.train.kind, source.train.input_shape) == ("table", (4,))

    def test_parquet_dictionary_text_and_booleans(self, tmp_path) -> None:
        text = pa.array(["p", "q", "p", "q"]).dictionary_encode()
        parquet(tmp_path / "all.parquet", t=text, on=[True, False, True, False], label=[1, 0, 1, 0])
        source = read(tmp_path)
        assert source.train.input_shape == (3,)
        assert source.train.classes == ("0", "1")


class TestImages:
    @pytest.mark.parametrize("form", ["PNG", "JPEG"])
    @pytest.mark.parametrize("struct", [True, False])
    def test_encoded_images_are_recognised_whatever_their_name(self, tmp_path, form, struct) -> None:
        pictures = [encoded(value, form=form) for value in (0, 80, 160, 240)]
        column = [{"bytes": picture, "path": None} for picture in pictures] if struct else pictures
        parquet(tmp_path / "train.parquet", photo=column, label=[0, 1, 0, 1], size=[1, 2, 3, 4])
        parquet(tmp_path / "test.parquet", photo=column, label=[0, 1, 0, 1], size=[1, 2, 3, 4])
        source = read(tmp_path)
        assert (source.train.kind, source.train.input_shape) == ("image", (7, 5))
        assert source.train.inputs.dtype == np.uint8
        assert np.abs(source.train.inputs[:, 0, 0].astype(int) - [0, 80, 160, 240]).max() <= 2
        assert source.ignored == ("size",)

    def test_colour_images_have_three_channels(self, tmp_path) -> None:
        column = [encoded(value, mode="RGB") for value in (0, 80, 160, 240)]
        parquet(tmp_path / "train.parquet", z=column, label=["a", "b", "a", "b"])
        assert read(tmp_path).train.input_shape == (7, 5, 3)

    def test_nested_numbers_are_images(self, tmp_path) -> None:
        parquet(tmp_path / "d.parquet", z=[[[1, 2], [3, k]] for k in range(4)], label=[0, 1, 0, 1])
        assert read(tmp_path).train.input_shape == (2, 2)

    def test_npz_images_channels_first_become_last(self, tmp_path) -> None:
        np.savez(tmp_path / "d.npz", pictures=np.zeros((4, 3, 9, 8)) + 0.5, label=[0, 1, 0, 1])
        source = read(tmp_path)
        assert (source.train.input_shape, source.train.inputs.dtype) == ((9, 8, 3), np.float32)

    def test_images_of_differing_size_name_the_row(self, tmp_path) -> None:
        column = [encoded(1), encoded(2), encoded(3, size=(6, 6)), encoded(4)]
        parquet(tmp_path / "d.parquet", z=column, label=[0, 1, 0, 1])
        with pytest.raises(DataError, match=r"column 'z', row 2: image of shape \(6, 6\)"):
            read(tmp_path)

    def test_damaged_image_names_the_row(self, tmp_path) -> None:
        column = [encoded(1), encoded(2)[:40], encoded(3), encoded(4)]
        parquet(tmp_path / "d.parquet", z=column, label=[0, 1, 0, 1])
        with pytest.raises(DataError, match="row 1: damaged image"):
            read(tmp_path)

    def test_missing_image_names_the_row(self, tmp_path) -> None:
        parquet(tmp_path / "d.parquet", z=[encoded(1), None, encoded(3), encoded(4)], label=[0, 1, 0, 1])
        with pytest.raises(DataError, match="row 1: a PNG or JPEG"):
            read(tmp_path)

    def test_two_image_columns_are_refused(self, tmp_path) -> None:
        column = [encoded(k) for k in range(4)]
        parquet(tmp_path / "d.parquet", left=column, right=column, label=[0, 1, 0, 1])
        with pytest.raises(DataError, match="left, right all hold images"):
            read(tmp_path)


class TestSignals:
    @pytest.mark.parametrize("lengths", [(3, 3, 3, 3), (3, 5, 1, 9)])
    def test_lists_of_numbers_are_signals(self, tmp_path, lengths) -> None:
        parquet(tmp_path / "d.parquet", current=[[1.0] * n for n in lengths], label=[0, 1, 0, 1])
        source = read(tmp_path)
        assert source.train.kind == "signal"
        found = [len(signal) for signal in source.train.inputs + source.test.inputs]
        assert sorted(found) == sorted(lengths)

    @pytest.mark.parametrize("bad", [[], None, [1.0, None], [float("inf")]])
    def test_bad_signal_names_the_row(self, tmp_path, bad) -> None:
        parquet(tmp_path / "d.parquet", current=[[1.0], [2.0], bad, [3.0]], label=[0, 1, 0, 1])
        with pytest.raises(DataError, match=r"column 'current', row 2: a list of finite numbers"):
            read(tmp_path)


MISTAKES = {
    "empty file": ("", "CSV"),
    "no rows": ("x,label\n", "no rows"),
    "no label": ("x,y\n1,2\n", r"has no column 'label'; set data.label to one of: x, y"),
    "label alone": ("label\n1\n2\n", "no column beside the label"),
    "one class": ("x,label\n1,a\n2,a\n", "all records are of class 'a'"),
    "label missing": ("x,label\n1,a\n2,\n3,b\n", "no value in row 1"),
    "number missing in label": ("x,label\n1,0\n2,\n3,1\n", "no value in row 1"),
    "label is a measurement": ("x,label\n1,0.5\n2,1.5\n", "fractions"),
    "label beyond what a float can tell": (
        "x,label\n1,9007199254740993.0\n2,9007199254740992.0\n",
        "whole numbers or text",
    ),
    "value missing": ("x,label\n1,a\n,b\n3,a\n", "'x' has a missing or infinite value in row 1"),
    "value infinite": ("x,label\n1,a\n1e99,b\n3,a\n", "'x' has a missing or infinite value in row 1"),
    "text missing": ("x,label\nu,a\n,b\nv,a\n", "'x' has a missing or infinite value in row 1"),
    "identifier": ("x,label\n" + "".join(f"id{k},{k % 2}\n" for k in range(99)), "99 different values"),
    "too many classes": ("x,label\n" + "".join(f"{k},{k}\n" for k in range(1001)), "1001 classes"),
    "ragged": ("x,label\n1,a\n1,2,3,4\n", "CSV"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_csv_are_one_clear_line(tmp_path, name) -> None:
    text, expected = MISTAKES[name]
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "test.csv").write_text(CSV)
    with pytest.raises(DataError, match=expected) as caught:
        read(tmp_path)
    assert "train.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


FOLDERS = {
    "no file": ([], "has no data file"),
    "other files": (["a.txt"], "has no data file"),
    "two files": (["a.csv", "b.csv"], "exactly one file"),
    "two trains": (["train.csv", "train.npz", "test.csv"], "which is train"),
    "test alone": (["test.csv"], "exactly one file"),
    "train and another": (["train.csv", "more.csv"], "exactly one file"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_mistakes_in_a_folder_are_one_clear_line(tmp_path, name) -> None:
    files, expected = FOLDERS[name]
    for file in files:
        (tmp_path / file).write_text(CSV)
    with pytest.raises(DataError, match=expected):
        read(tmp_path)


def test_no_folder(tmp_path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.path"):
        folder.load(None, None, None, 0.2, 0)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("size,colour,label\n1,red,c\n", "class 'c' is not in train"),
        ("colour,label\nred,a\n", "'size' of train is missing"),
        ("size,colour,label\nbig,red,a\n", "'size' holds text, in train it holds numbers"),
        ("size,colour,label\n1,2,a\n", "'colour' holds numbers, in train it holds text"),
        ("size,colour,kind\n1,red,a\n", "no column 'label'"),
    ],
)
def test_test_must_follow_train(tmp_path, test, expected) -> None:
    (tmp_path / "train.csv").write_text(CSV)
    (tmp_path / "test.csv").write_text(test)
    with pytest.raises(DataError, match=expected):
        read(tmp_path)


def test_test_images_must_have_the_size_of_train(tmp_path) -> None:
    for part, size in (("train", 4), ("test", 5)):
        np.savez(tmp_path / f"{part}.npz", p=np.zeros((4, size, size)), label=[0, 1, 0, 1])
    with pytest.raises(DataError, match=r"test\.npz: records of shape \(5, 5\)"):
        read(tmp_path)


def test_pickled_objects_are_never_loaded(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([[1], "two", None, 3], dtype=object), label=[0, 1, 0, 1])
    with pytest.raises(DataError, match="Python objects"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_damaged_files_are_refused(tmp_path, suffix) -> None:
    (tmp_path / f"d.{suffix}").write_bytes(b"PK\x03\x04 this is no archive")
    with pytest.raises(DataError, match="not a readable"):
        read(tmp_path)


def test_columns_of_differing_length_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros(4), label=[0, 1, 0])
    with pytest.raises(DataError, match="differ in length"):
        read(tmp_path)


@pytest.mark.parametrize("limit", ["MAX_FILE_BYTES", "MAX_EXPANDED_BYTES"])
def test_large_files_are_refused_before_they_are_expanded(tmp_path, monkeypatch, limit) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1000, 10)), label=np.arange(1000) % 2)
    monkeypatch.setattr(tables, limit, 500)
    with pytest.raises(DataError, match="too large"):
        read(tmp_path)
