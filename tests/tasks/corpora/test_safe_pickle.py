"""Pickles from strangers: plain data comes out unchanged, everything else is refused unrun."""

import collections
import os
import pickle
import resource
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import UserError
from tasks.corpora.imports import stand_ins
from tasks.corpora.imports.safe_pickle import load
from tasks.corpora.imports.stand_ins import Record

TRAP = "affectloom_was_here"


@pytest.fixture(autouse=True)
def no_trap(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRAP, raising=False)
    yield
    assert TRAP not in os.environ
    assert not list(tmp_path.glob("*.ran"))


def save(content: bytes) -> Path:
    path = Path("x.pkl")
    path.write_bytes(content)
    return path


def through(value, protocol: int = 4):
    return load(save(pickle.dumps(value, protocol)))


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def refused(content: bytes, name: str) -> None:
    with pytest.raises(UserError, match="nothing of it was run") as caught:
        load(save(content))
    assert name in str(caught.value)


# what is refused ----------------------------------------------------------------------------------

BAD = {
    "os.system": Call(os.system, "touch shell.ran"),
    "builtins.eval": Call(eval, f"__import__('os').environ.__setitem__('{TRAP}', '1')"),
    "builtins.exec": Call(exec, f"import os; os.environ['{TRAP}'] = '1'"),
    "builtins.getattr": Call(getattr, "x", "upper"),
    "builtins.open": Call(open, "file.ran", "w"),
    "builtins.__import__": Call(__import__, "antigravity"),
    "subprocess.Popen": Call(__import__("subprocess").Popen, ["touch", "popen.ran"]),
    "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, "touch nested.ran"))),
    "types.SimpleNamespace": types.SimpleNamespace(a=1),
    "pathlib": Path("x"),
}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", BAD)
def test_a_call_is_refused_by_its_name_and_not_run(name, protocol):
    known = {"os.system": "system"}.get(name, name.split(".")[-1])
    refused(pickle.dumps(BAD[name], protocol), known)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": (1, x)}, lambda x: {1: [[x]]}])
def test_a_call_deep_inside_is_refused(wrap):
    refused(pickle.dumps(wrap(Call(os.system, "touch deep.ran"))), "system")


def test_an_object_array_cannot_carry_a_call():
    array = np.empty(2, object)
    array[:] = [1, Call(os.system, "touch array.ran")]
    refused(pickle.dumps(array), "system")


def test_a_dotted_name_cannot_climb_from_an_allowed_one():
    def stack_global(module: str, name: str) -> bytes:
        parts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
        return b"\x80\x04" + parts + b"\x93"

    for name in ("ndarray.__class__", "ndarray.__reduce__", "dtype.__init__.__globals__"):
        refused(stack_global("numpy", name) + b".", f"numpy.{name}")
    refused(stack_global("collections", "OrderedDict.fromkeys") + b".", "OrderedDict.fromkeys")


def test_instructions_of_old_protocols_are_refused_too():
    refused(b"cos\nsystem\n(S'touch inst.ran'\ntR.", "os.system")
    refused(b"(S'touch inst.ran'\nios\nsystem\n.", "os.system")
    refused(b"(cos\nsystem\nS'touch obj.ran'\no.", "os.system")


def test_what_a_name_stands_for_cannot_be_changed():
    for name in (b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode"):
        change = b"c" + name + b"\n}S'__call__'\nI1\nsb."
        refused(change, "a change of")
        slots = b"\x80\x02c" + name + b"\n(N}S'_function'\nI1\nstb."
        refused(slots, "a change of")
    with pytest.raises(UserError):
        load(save(b"ccogmen\nSample\n}S'fields'\nI1\nsb."))
    assert Record().fields == {}


def test_a_class_cannot_be_called_or_kept():
    refused(b"cnumpy\nndarray\n((I4\ntS'O'\ntR.", "a call of a class")
    refused(b"cbuiltins\nobject\n.", "object as a value")


def test_a_forged_type_cannot_turn_bytes_into_objects():
    # the state that numpy itself would believe: type O whose flags say "no objects inside"
    dtype = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    state = b"(I1\n(I1\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb."
    refused(array + state, "forged content")


def test_forged_arrays_are_refused():
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
    refused(array + b"(I1\n(I9\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb.", "8 instead of 72")
    refused(array + b"(I1\n(I-1\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb.", "forged shape")
    refused(b"cnumpy\ndtype\n(S'i4,O'\nI0\nI1\ntR.", "numpy.dtype('i4,O')")
    refused(pickle.dumps(np.zeros(2, "datetime64[s]")), "M8")
    refused(pickle.dumps(np.zeros(2, [("a", "i4"), ("b", "O")])), "numpy.dtype")


def test_torch_is_refused_with_the_way_out():
    refused(b"ctorch._utils\n_rebuild_tensor_v2\n.", "tensor.numpy()")
    refused(b"S'storage'\nQ.", "torch storage")
    refused(b"PK\x03\x04 and so on", "torch.save")


def test_the_file_that_torch_wrote_before_archives_is_refused_by_name():
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    with pytest.raises(UserError, match=r"torch\.save's archive.*tensor\.numpy"):
        load(save(magic + pickle.dumps(1001, 2)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns.",  # key of a dictionary
        b"\x80\x04\x8f(" + b")" + b"\x85" * 1_000_000 + b"\x90.",  # member of a set
        b"\x80\x04(" + b")" + b"\x85" * 1_000_000 + b"\x91.",  # member of a frozenset
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
)
def test_nesting_without_end_is_refused_and_ends_no_process(content):
    with pytest.raises(UserError, match=r"x\.pkl"):
        load(save(content))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr" + struct.pack("<I", 1 << 30) + b".",  # place in the memo
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"a.",  # bytearray
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 33) + b"N.",  # frame
    ],
)
def test_a_claim_of_much_memory_gets_none(content):
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UserError, match="claims to hold more than it does"):
        load(save(content))
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_large_honest_file_is_read():
    value = {"a": np.arange(50_000.0), "b": [float(n) for n in range(50_000)]}
    found = through(value)
    np.testing.assert_array_equal(found["a"], value["a"])
    assert found["b"] == value["b"]


def test_an_unknown_class_is_refused_even_beside_known_ones(monkeypatch):
    module = types.ModuleType("cogmen")
    module.Other = type("Other", (), {"__module__": "cogmen"})
    monkeypatch.setitem(sys.modules, "cogmen", module)
    refused(pickle.dumps(module.Other()), "cogmen.Other")


def test_damaged_files_are_one_sentence():
    whole = pickle.dumps({"a": np.arange(9.0)})
    for content in (b"", b"hello", whole[:-1], whole[:40], b"]\x85R."):
        with pytest.raises(UserError, match=r"x\.pkl"):
            load(save(content))
    with pytest.raises(UserError, match="more than one pickle"):
        load(save(whole + whole))
    claims = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"."
    with pytest.raises(UserError, match=r"x\.pkl"):
        load(save(claims))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_random_bytes_never_do_anything_but_fail_or_yield_plain_data(content):
    try:
        found = load(save(content))
    except UserError:
        return
    assert isinstance(found, (*stand_ins._PLAIN, list, dict, tuple, set, frozenset))


# what comes out -----------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.binary().map(bytearray) | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    | st.tuples(inner, inner)
    | st.sets(st.integers(), max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLAIN, st.integers(0, 5))
def test_plain_data_come_out_as_they_went_in(value, protocol):
    assert through(value, protocol) == value


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(
        st.sampled_from(["f2", "<f4", ">f4", "f8", "i1", ">i8", "u2", "?", "c8", "S3", "U4"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_come_out_as_they_went_in(array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    found = through({"a": array, "b": [array]}, protocol)
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].shape == array.shape
    assert found["a"].dtype.str.lstrip("<>=|") == array.dtype.str.lstrip("<>=|")


def test_objects_scalars_and_special_dictionaries():
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(3), ["a", "b"]]
    found = through(ragged)
    np.testing.assert_array_equal(found[0], [0, 1, 2])
    assert found[1] == ["a", "b"]
    assert through(np.float32(0.5)) == np.float32(0.5)
    assert through(collections.OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert through(collections.defaultdict(list, {"a": [1]})) == {"a": [1]}
    assert through(frozenset({1, 2})) == {1, 2}


def test_shared_and_circular_lists_stay_so():
    shared = [np.arange(2)]
    found = through([shared, shared])
    assert found[0] is found[1]
    loop: list = [1]
    loop.append(loop)
    found = through(loop)
    assert found[1] is found


def test_an_array_shares_the_memory_that_was_read():
    found = through(np.zeros((1000, 100)), 4)
    assert found.base is not None
    assert not found.flags.owndata


def test_pickles_of_python_2_are_read_as_latin_1():
    # what Python 2 and numpy 1 write for {'a': array([1., 2.]), 'b': 'caf\xe9'}, protocol 2
    values = struct.pack("<2d", 1.0, 2.0)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + values + b"tb"
    )
    found = load(save(b"\x80\x02}(U\x01a" + array + b"U\x01bU\x04caf\xe9u."))
    assert found["b"] == "café"
    np.testing.assert_array_equal(found["a"], [1.0, 2.0])


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_the_names_of_numpy_1_and_2_are_both_known(core):
    content = pickle.dumps(np.arange(3), 2)
    for name in ("numpy._core", "numpy.core"):
        content = content.replace(f"c{name}.multiarray".encode(), f"c{core}.multiarray".encode())
    assert f"c{core}.multiarray".encode() in content
    np.testing.assert_array_equal(load(save(content)), [0, 1, 2])


@pytest.mark.parametrize("protocol", range(6))
def test_samples_of_known_projects_become_records(monkeypatch, protocol):
    module = types.ModuleType("cogmen.Sample")
    module.Sample = type("Sample", (), {"__module__": "cogmen.Sample"})
    monkeypatch.setitem(sys.modules, "cogmen", types.ModuleType("cogmen"))
    monkeypatch.setitem(sys.modules, "cogmen.Sample", module)
    sample = module.Sample()
    sample.vid, sample.audio = "Ses01", [np.ones(2)]
    found = through({"train": [sample]}, protocol)["train"][0]
    assert isinstance(found, Record)
    assert found.fields["vid"] == "Ses01"
    np.testing.assert_array_equal(found.fields["audio"][0], [1, 1])


def test_reading_does_not_import_what_a_pickle_names():
    sys.modules.pop("antigravity", None)
    refused(b"cantigravity\nfly\n.", "antigravity.fly")
    assert "antigravity" not in sys.modules
