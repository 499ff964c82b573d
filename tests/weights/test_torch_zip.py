"""Tests of reading torch files: their numbers, and everything that is refused."""

import contextlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weights import torch_writer
from tests.weights.torch_writer import Call, Instance, Name
from weatherlib.weights import errors, flat, opcodes, torch_objects, torch_zip


@pytest.fixture
def path(tmp_path):
    """Where a test writes its file."""
    return tmp_path / "model.ckpt"


def test_every_type_and_layout_that_torch_wrote_is_read(goldens):
    folder = goldens / "torch"
    found = torch_zip.read(folder / "tensors.pt")
    with np.load(folder / "tensors_expected.npz") as expected:
        assert set(found.contents) == set(expected.files)
        for name in expected.files:
            array = found.contents[name]
            assert array.shape == expected[name].shape
            if name != "bf16":
                assert array.dtype == expected[name].dtype
            same = array.astype(expected[name].dtype)
            np.testing.assert_array_equal(same, expected[name])
    assert found.contents["bf16"].dtype == ml_dtypes.bfloat16
    assert found.root == "tensors"
    assert found.stand_ins == ()


def test_arrays_lie_on_the_mapped_file_and_cannot_be_written(goldens):
    found = torch_zip.read(goldens / "torch" / "tensors.pt").contents
    assert not found["f32"].flags.writeable
    assert np.shares_memory(found["f32"], found["transposed"])
    with pytest.raises(ValueError, match="read-only"):
        found["f32"][0] = 1


def test_a_lightning_file_gives_its_settings_and_its_arrays(goldens):
    file = flat.read(goldens / "climax" / "global.ckpt")
    assert file.place == "state_dict"
    assert file.format == "torch"
    assert len(file.arrays) == 65
    assert "pytorch-lightning_version: '1.8.0'" in file.beside


@given(
    st.sampled_from(sorted(torch_writer.KINDS)),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(["little", "big"]),
)
def test_arrays_of_all_types_survive_either_byte_order(kind, shape, order):
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    array = values % 2 == 0 if kind == "bool" else np.asarray(values - 2, dtype)
    array = np.asarray(array)

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.pt"
        torch_writer.save(path, {"a": array}, byteorder=order)
        found = torch_zip.read(path)
        assert found.big_endian == (order == "big")
        assert found.contents["a"].dtype == dtype
        np.testing.assert_array_equal(found.contents["a"], array)


def test_storages_without_a_type_are_read_as_the_tensor_says(path):
    bits = np.arange(6, dtype=np.uint8)
    made = Call(
        Name("torch._utils", "_rebuild_tensor_v3"),
        (
            torch_writer.storage("Untyped", "7", 6),
            1,
            (2,),
            (1,),
            False,
            {},
            Name("torch", "uint16"),
        ),
    )
    torch_writer.save(path, {"a": made}, {"7": bits})
    found = torch_zip.read(path)
    np.testing.assert_array_equal(found.contents["a"], bits.view("<u2")[1:])
    assert found.stand_ins == ()


def test_a_parameter_with_a_subclass_of_tensor_around_it_is_read(path):
    numbers = np.arange(4, dtype=np.float32)
    inner = torch_writer.tensor("Float", "0", 4, (4,), (1,))
    parameter = Call(Name("torch._utils", "_rebuild_parameter"), (inner, True, {}))
    typed = Call(
        Name("torch._tensor", "_rebuild_from_type_v2"),
        (
            Name("torch._utils", "_rebuild_tensor_v2"),
            Name("my.project", "Marked"),
            inner.arguments,
            {},
        ),
    )
    torch_writer.save(path, {"a": parameter, "b": typed}, {"0": numbers})
    found = torch_zip.read(path)
    np.testing.assert_array_equal(found.contents["a"], numbers)
    np.testing.assert_array_equal(found.contents["b"], numbers)
    assert found.stand_ins == ("my.project.Marked",)


def test_settings_of_training_programs_become_stand_ins_that_hold_them(path):
    contents = {
        "hyper_parameters": Instance(
            Name("pytorch_lightning.utilities.parsing", "AttributeDict"),
            pairs=(("lr", 0.5),),
        ),
        "args": Instance(Name("argparse", "Namespace"), {"depth": 8}),
        "config": Instance(Name("omegaconf.dictconfig", "DictConfig"), {"_content": 1}),
        "where": Call(Name("pathlib", "PosixPath"), ("/", "data")),
        "kinds": [Name("__builtin__", "long"), Name("typing", "Any")],
        "callbacks": {Name("my.callbacks", "Saver"): 1},
        "size": Call(Name("torch", "Size"), ((2, 3),)),
        "numbers": Call(Name("__builtin__", "set"), ([1, 2],)),
        "state_dict": {"a": np.ones(2, np.float32)},
    }
    torch_writer.save(path, contents)
    found = torch_zip.read(path)
    held = found.contents
    assert held["hyper_parameters"].fields == {"lr": 0.5}
    assert held["args"].fields == {"depth": 8}
    assert held["where"].arguments == ("/", "data")
    assert held["size"] == (2, 3)
    assert held["numbers"] == {1, 2}
    assert "my.callbacks.Saver" in found.stand_ins
    assert "argparse.Namespace" in found.stand_ins
    assert "torch.FloatStorage" not in found.stand_ins
    file = flat.read(path)
    assert list(file.arrays) == ["a"]
    assert any("my.callbacks.Saver" in line for line in file.beside)


HOSTILE = {
    "a call of os.system": Call(Name("os", "system"), ("touch {flag}",)),
    "its name on posix": Call(Name("posix", "system"), ("touch {flag}",)),
    "a builtin": Call(Name("__builtin__", "eval"), ("open('{flag}', 'w')",)),
    "a new builtin": Call(Name("builtins", "exec"), ("open('{flag}', 'w')",)),
    "a lookup": Call(Name("builtins", "getattr"), (Name("argparse", "Namespace"), "x")),
    "a process": Call(Name("subprocess", "Popen"), (["touch", "{flag}"],)),
    "an import": Call(Name("importlib", "import_module"), ("antigravity",)),
    "a nested load": Call(Name("torch", "load"), ("{flag}",)),
    "another loader": Call(Name("_pickle", "loads"), (b".",)),
    "numpy's loader": Call(Name("numpy", "load"), ("{flag}",)),
    "an unknown function": Call(Name("my.project", "make"), ("{flag}",)),
    "a program": Call(Name("torch.jit._script", "unpackage"), ()),
    "an instance": Instance(Name("subprocess", "Popen"), {"args": "touch {flag}"}),
    "a name alone": Name("os", "system"),
    "a way around": Call(Name("functools", "partial"), (Name("argparse", "x"),)),
    "a dotted name": Call(Name("torch", "_utils.os.system"), ("touch {flag}",)),
}


def _with_flag(value, flag):
    if isinstance(value, str):
        return value.replace("{flag}", flag)
    if isinstance(value, Call):
        return Call(value.function, _with_flag(value.arguments, flag))
    if isinstance(value, tuple | list):
        return type(value)(_with_flag(item, flag) for item in value)
    return value


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_carries_code_is_refused_and_nothing_runs(case, path, tmp_path):
    flag = tmp_path / "it_ran"
    before = set(sys.modules)
    torch_writer.save(path, {"state_dict": _with_flag(HOSTILE[case], str(flag))})
    with pytest.raises(errors.CarriesCodeError) as refused:
        torch_zip.read(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: it carries code: it ")
    assert not flag.exists()
    assert set(sys.modules) == before


def test_a_compiled_program_is_refused(path):
    members = {"data.pkl": torch_writer.encode({}), "code/__torch__.py": b"x = 1"}
    torch_writer.write_members(path, members)
    with pytest.raises(errors.CarriesCodeError, match=r"torch\.jit"):
        torch_zip.read(path)


def test_the_registry_of_extensions_is_never_consulted(path):
    torch_writer.write_members(path, {"data.pkl": b"\x80\x02\x82\x01."})
    with pytest.raises(errors.CarriesCodeError, match="copyreg"):
        torch_zip.read(path)


STREAMS = {
    "nothing": (b"", "ends in the middle"),
    "no end": (b"\x80\x02}", "ends in the middle"),
    "an empty stack": (b"\x80\x02.", "pop from empty"),
    "a future protocol": (b"\x80\x09N.", "protocol 9"),
    "an unknown opcode": (b"\x80\x02\xff.", "opcode 0xff"),
    "a missing mark": (b"\x80\x02e.", "mark is missing"),
    "a key that changes": (b"\x80\x02}]Ns.", "key is no plain value"),
    "a key that nests": (b"\x80\x02}" + b")" + b"\x85" * 9999 + b"Ns.", "key is no"),
    "a key without value": (b"\x80\x02}(Nu.", "key has no value"),
    "an unknown memory": (b"\x80\x02h\x05.", "remembers nothing under 5"),
    "a long text": (b"\x80\x02X\xff\xff\xff\xffab.", "ends in the middle"),
    "a negative length": (b"\x80\x02\x8b\xff\xff\xff\xff.", "ends in the middle"),
    "a huge number": (b"\x80\x02L" + b"9" * 9999 + b"L\n.", "number is too long"),
    "no text": (b"\x80\x02X\x01\x00\x00\x00\xff.", "can't decode"),
    "a wild identifier": (b"\x80\x02K\x05Q.", "identifier is none of a storage"),
    "arguments that are none": (b"\x80\x02cargparse\nNamespace\nNR.", "no tuple"),
    "a call of a number": (b"\x80\x02K\x05)R.", "no function"),
    "items of a number": (b"\x80\x02K\x05(NNu.", "no dictionary"),
    "values of a number": (b"\x80\x02K\x05Na.", "no list"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_description_that_contradicts_itself_is_refused(case, path):
    stream, reason = STREAMS[case]
    torch_writer.write_members(path, {"data.pkl": stream})
    with pytest.raises(errors.DamagedError, match=reason) as refused:
        torch_zip.read(path)
    assert str(refused.value).startswith(str(path))


TENSORS = {
    "too long": (("Float", "0", 4, (5,), (1,)), "ends at element 4 of a storage of 4"),
    "an offset beyond": (("Float", "0", 4, (1,), (1,), 4), "ends at element 4"),
    "a wide stride": (("Float", "0", 4, (2, 2), (4, 1)), "ends at element 5"),
    "a negative stride": (("Float", "0", 4, (2,), (-1,)), "a stride is '-1'"),
    "a negative size": (("Float", "0", 4, (-2,), (1,)), "a size is '-2'"),
    "an offset of text": (("Float", "0", 4, (2,), (1,), "x"), "an offset is 'x'"),
    "unequal axes": (("Float", "0", 4, (2, 2), (1,)), "has strides"),
    "more numbers": (("Float", "0", 5, (2,), (1,)), "5 numbers of float32 need 20"),
    "another type": (("Double", "0", 4, (2,), (1,)), "4 numbers of float64 need 32"),
    "no storage": (("Float", "9", 4, (2,), (1,)), "'9' are lacking"),
    "a path": (("Float", "../data.pkl", 4, (2,), (1,)), "are lacking"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(case, path):
    described, reason = TENSORS[case]
    made = torch_writer.tensor(*described)
    torch_writer.save(path, {"a": made}, {"0": np.zeros(4, np.float32)})
    with pytest.raises(errors.DamagedError, match=reason):
        torch_zip.read(path)


def test_a_tensor_that_repeats_one_number_endlessly_is_refused(path):
    made = torch_writer.tensor("Float", "0", 1, (2**20, 2**20), (0, 0))
    torch_writer.save(path, {"a": made}, {"0": np.zeros(1, np.float32)})
    with pytest.raises(errors.TooLargeError, match="repeats a storage of 1 elements"):
        torch_zip.read(path)


def test_one_storage_described_in_two_ways_is_refused(path):
    first = torch_writer.tensor("Float", "0", 4, (4,), (1,))
    second = torch_writer.tensor("Int", "0", 4, (4,), (1,))
    torch_writer.save(path, [first, second], {"0": np.zeros(4, np.float32)})
    with pytest.raises(errors.DamagedError, match="described in two ways"):
        torch_zip.read(path)


@pytest.mark.parametrize("kind", ["QInt8", "ComplexHalf", "Strange"])
def test_storages_of_other_types_are_refused_by_name(kind, path):
    made = torch_writer.tensor(kind, "0", 4, (4,), (1,))
    torch_writer.save(path, {"a": made}, {"0": np.zeros(4, np.int8)})
    with pytest.raises(errors.UnsupportedError, match=kind.lower()):
        torch_zip.read(path)


def _foreign(folder):
    npz = folder / "a.npz"
    np.savez(npz, a=np.zeros(1))
    tar = folder / "a.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(npz, "storages")
    other = folder / "a.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "x")
    return {
        "npz": (npz.read_bytes(), errors.WrongFormatError, "npz archive of NumPy"),
        "tar": (tar.read_bytes(), errors.LegacyTorchError, "tar archive"),
        "zip": (other.read_bytes(), errors.WrongFormatError, "without data.pkl"),
        "old": (
            bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"\x80\x02M\xe9\x03.",
            errors.LegacyTorchError,
            "before 1.6",
        ),
        "pickle": (b"\x80\x04N.", errors.WrongFormatError, "never read"),
        "empty": (b"", errors.WrongFormatError, "an empty file"),
        "page": (b"<html>", errors.WrongFormatError, "download failed"),
        "text": (b"hello world", errors.WrongFormatError, "begins with"),
        "hdf5": (b"\x89HDF\r\n", errors.WrongFormatError, "HDF5"),
    }


@pytest.mark.parametrize(
    "case", ["npz", "tar", "zip", "old", "pickle", "empty", "page", "text", "hdf5"]
)
def test_a_file_of_another_format_is_named_for_what_it_is(case, path, tmp_path):
    content, kind, reason = _foreign(tmp_path)[case]
    path.write_bytes(content)
    with pytest.raises(kind, match=reason) as refused:
        torch_zip.read(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        torch_zip.read(tmp_path / "none.ckpt")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept, path, goldens):
    content = (goldens / "torch" / "tensors.pt").read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(errors.DamagedError, match="fetch it again"):
        torch_zip.read(path)


def test_changed_numbers_are_noticed_unless_checking_is_turned_off(path):
    numbers = np.arange(64, dtype=np.float32)
    torch_writer.save(path, {"a": numbers})
    content = bytearray(path.read_bytes())
    place = content.index(numbers.tobytes())
    content[place + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(errors.DamagedError, match="checksum of archive/data/0"):
        torch_zip.read(path)
    found = torch_zip.read(path, verify=False).contents["a"]
    assert (found != numbers).sum() == 1


def test_compressed_numbers_are_refused_with_the_way_out(path):
    members = {
        "data.pkl": torch_writer.encode(
            {"a": torch_writer.tensor("Float", "0", 4, (4,), (1,))}
        ),
        "data/0": bytes(16),
    }
    torch_writer.write_members(path, members, zipfile.ZIP_DEFLATED)
    with pytest.raises(errors.UnsupportedError, match="zip -0"):
        torch_zip.read(path)


def test_a_description_of_a_gigabyte_is_refused_before_it_is_read(path):
    torch_writer.write_members(path, {"data.pkl": b"N."})
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<2I", 2**30, 2**30)
    path.write_bytes(content)
    with pytest.raises(errors.TooLargeError, match="1,073,741,824 bytes"):
        torch_zip.read(path)


def test_a_member_that_is_elsewhere_is_refused(path):
    torch_writer.save(path, {"a": np.zeros(8, np.float32)})
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 42 : place + 46] = struct.pack("<I", 0)
    path.write_bytes(content)
    with pytest.raises(errors.DamagedError, match="another member is where"):
        torch_zip.read(path)


def test_names_in_a_file_neither_break_lines_nor_steer_a_terminal(path):
    made = torch_writer.tensor("Float", "9", 4, (4,), (1,))
    torch_writer.save(path, {"a": made}, root="a\n\x1b[2Jb")
    with pytest.raises(errors.DamagedError, match="storage '9' are lacking"):
        torch_zip.read(path)
    hostile = Call(Name("os\x1b[2J", "x"), ())
    torch_writer.save(path, {"a\n\x1b": 1, "b": np.ones(2, np.float32), "c": hostile})
    with pytest.raises(errors.CarriesCodeError) as refused:
        torch_zip.read(path)
    assert str(refused.value).isprintable()
    torch_writer.save(path, {"a\n\x1b": 1, "b": np.ones(2, np.float32)})
    assert flat.read(path).beside == ("a??: 1",)


def test_a_name_that_occurs_twice_is_refused(path):
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/data.pkl", b"N.")
    with pytest.raises(errors.DamagedError, match="twice"):
        torch_zip.read(path)


def test_two_descriptions_in_one_archive_are_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("b/data.pkl", b"N.")
    with pytest.raises(errors.DamagedError, match="several descriptions"):
        torch_zip.read(path)


@given(st.data())
def test_any_changed_byte_gives_arrays_or_an_error_of_ours(data):
    golden = pathlib.Path(__file__).parents[1] / "goldens" / "torch" / "tensors.pt"
    content = bytearray(golden.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.pt"
        path.write_bytes(content)
        try:
            torch_zip.read(path, verify=False)
        except errors.WeightsFileError as error:
            assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_any_stream_gives_a_value_or_an_error_of_ours(stream):
    def no_storage(kind, key, count):
        raise errors.DamagedError("none")

    with contextlib.suppress(errors.WeightsFileError):
        opcodes.interpret(stream, torch_objects.TorchObjects(no_storage))


def test_a_file_without_arrays_by_name_is_refused_with_what_it_holds(path):
    torch_writer.save(path, {"epoch": 3, "settings": {"lr": 1.0}})
    with pytest.raises(errors.WrongFormatError, match="'epoch', 'settings'"):
        flat.read(path)
    torch_writer.save(path, [1, 2])
    with pytest.raises(errors.WrongFormatError, match="list of 2"):
        flat.read(path)


def test_reading_needs_neither_torch_nor_pickle():
    golden = pathlib.Path(__file__).parents[1] / "goldens" / "torch" / "tensors.pt"
    program = (
        "import sys, json; from weatherlib.weights import torch_zip; "
        f"torch_zip.read({str(golden)!r}); print(json.dumps(sorted(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    modules = set(json.loads(found.stdout))
    assert not modules & {"torch", "jax", "xarray"}
