"""Tensors where they are, on the host: zero copy, any strides, clear refusals. The oracle is Python's blake3 of `tobytes()`."""

import gc
import mmap
import random
import resource
import threading
import weakref

import pytest
from conftest import require

require("numpy")
require("blake3")

import blake3
import numpy

import tensorseal
from tensorseal import tensors
from tensorseal._lend import lend


def expected(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


class OnlyDlpack:
    """An object with DLPack and nothing else, which counts what is asked of it."""

    def __init__(self, array, **also):
        self.array, self.also, self.asked = array, also, []

    def __dlpack__(self, **asked):
        self.asked.append(asked)
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self):
        return self.also.get("device", (1, 0))


class OldDlpack(OnlyDlpack):
    """The same of before DLPack 1.0: no version can be asked for."""

    def __dlpack__(self, stream=None):
        self.asked.append(stream)
        return self.array.__dlpack__()


TYPES = {
    "?": "BOOL",
    "u1": "U8",
    "i1": "I8",
    "u2": "U16",
    "i2": "I16",
    "f2": "F16",
    "u4": "U32",
    "i4": "I32",
    "f4": "F32",
    "u8": "U64",
    "i8": "I64",
    "f8": "F64",
    "c8": "C64",
    # No type of safetensors: bytes all the same.
    "c16": None,
}


def make(rng: random.Random, dtype: str) -> numpy.ndarray:
    shape = [rng.randrange(0, 9) if rng.random() < 0.1 else rng.randrange(1, 9) for _ in range(rng.randrange(0, 5))]
    raw = rng.randbytes(int(numpy.prod(shape, dtype=int)) * numpy.dtype(dtype).itemsize)
    return numpy.frombuffer(raw, dtype=dtype).reshape(shape)


def cut(rng: random.Random, array: numpy.ndarray) -> numpy.ndarray:
    """Some view of it, transposed and cut."""
    if array.ndim == 0:
        return array
    axes = list(range(array.ndim))
    rng.shuffle(axes)
    array = array.transpose(axes)
    some = tuple(slice(rng.randrange(0, 3), None, rng.randrange(1, 4)) for _ in range(array.ndim))
    return array[some]


@pytest.mark.parametrize("dtype", TYPES)
def test_any_view_has_the_digest_of_its_bytes(dtype):
    rng = random.Random(dtype)
    views = [view for _ in range(60) for array in [make(rng, dtype)] for view in (array, cut(rng, array))]
    for view in views:
        info = tensors.info(view)
        assert (info.dtype, info.nbytes, info.shape) == (TYPES[dtype], view.nbytes, view.shape)
        assert info.address == view.__array_interface__["data"][0]
        if view.size:
            assert [of * view.itemsize for of in info.strides] == list(view.strides)
        assert tensors.digest(view) == expected(view.tobytes()), (view.shape, view.strides)
        for other in (OnlyDlpack(view), OldDlpack(view)):
            if view.flags.writeable:
                assert tensors.digest(other) == expected(view.tobytes())
        assert tensors.digest(memoryview(view)) == expected(view.tobytes())
    assert tensors.digests(views) == [expected(view.tobytes()) for view in views]
    assert tensors.digest_parts([b"head", *views]) == expected(b"head" + b"".join(view.tobytes() for view in views))


def test_dlpack_says_the_same_as_numpy():
    array = numpy.arange(5 * 70000, dtype=numpy.float32).reshape(5, 70000)
    for view in (array, array[1:4, 3:60000:2], array.T, array[:, :1]):
        for give in (OnlyDlpack, OldDlpack):
            other = give(view)
            assert tensors.info(other) == tensors.info(view)
            assert tensors.digest(other) == expected(view.tobytes())
    # The newest version is asked for, and that nothing be copied.
    new = OnlyDlpack(array)
    tensors.info(new)
    assert new.asked[0] == {"max_version": (1, 1), "copy": False}


def test_buffers_of_python():
    data = bytes(range(256)) * 5000
    for given in (data, bytearray(data), memoryview(data), memoryview(data)[7:90001], memoryview(data)[::3]):
        assert tensors.digest(given) == expected(bytes(given))
    assert tensors.info(data).dtype == "U8"
    array = memoryview(data).cast("H", [100, 6400])
    assert tensors.info(array).shape == (100, 6400) and tensors.info(array).dtype == "U16"
    assert tensors.digest(array) == expected(data)
    assert tensors.digest(b"") == expected(b"")


def test_an_export_is_given_back():
    data = bytearray(b"x" * 1000)
    lent = lend(data)
    with pytest.raises(BufferError):
        data.extend(b"more")
    assert tensorseal._native.digests([lent]) == [expected(data)]
    del lent
    data.extend(b"more")
    assert tensors.digest(data) == expected(data)
    data.extend(b"more")


def test_a_mapped_file_is_read_where_it_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert tensors.digest(mapped) == expected(path.read_bytes())
        view = numpy.memmap(path, dtype=numpy.float32, mode="r", shape=(512, 512))
        assert tensors.digest(view[::2]) == expected(view[::2].tobytes())
    assert tensors.digest_parts([b"a", view, b"b"]) == expected(b"a" + view.tobytes() + b"b")


def test_read_only_empty_and_zero_dimensional():
    array = numpy.arange(12.0).reshape(3, 4)
    array.flags.writeable = False
    assert tensors.digest(array) == expected(array.tobytes())
    assert tensors.digest(numpy.float32(3).reshape(())) == expected(numpy.float32(3).tobytes())
    assert tensors.info(numpy.array(7)).shape == ()
    for shape in [(0,), (3, 0), (0, 1 << 62)]:
        assert tensors.digest(numpy.empty(shape, dtype=numpy.uint8)) == expected(b"")
    assert tensors.digests([]) == []


def test_what_a_class_says_of_its_arrays_does_not_count():
    class Quantity(numpy.ndarray):
        """As if it had one element, elsewhere, and none of its methods may be asked."""

        shape, strides, dtype, __array_interface__ = (1,), (0,), numpy.dtype("i1"), {"data": (4096, True)}

        def view(self, *_):
            raise AssertionError

    array = numpy.arange(12.0).reshape(3, 4)
    assert tensors.info(array.view(Quantity)) == tensors.info(array)
    assert tensors.digest(array.view(Quantity)) == expected(array.tobytes())


def test_huge_strides():
    # Half a gigabyte that is touched at nine places.
    room = mmap.mmap(-1, 512 << 20)
    array = numpy.frombuffer(room, dtype=numpy.uint16).reshape(8, -1)
    array[:, 5] = range(8)
    for view in (array[:, 5:9], array[::7, ::4 << 20], array[:, 5:6]):
        assert tensors.digest(view) == expected(view.tobytes())


def test_nothing_is_copied():
    size = 256 << 20
    array = numpy.ones(size, dtype=numpy.uint8)
    tensors.digest(array[:4096])
    assert tensors.info(array).address == array.ctypes.data
    # What was used most, in KiB: it would grow by as much as is copied.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert tensors.digest(array.reshape(1024, -1)[:, : size // 2048]) == expected(array[: size // 2].tobytes()[: size // 2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The oracle made one copy of half of it; ours would be another.
    assert peak - before < (size // 2 + (64 << 20)) >> 10


def test_other_threads_go_on():
    array = numpy.ones(128 << 20, dtype=numpy.uint8)
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counted[0]
        tensors.digest(array)
        assert counted[0] > before + 1
    finally:
        done.set()
        thread.join()


def test_the_owner_is_kept_as_long_as_needed_and_no_longer():
    class Array(numpy.ndarray):
        pass

    array = numpy.arange(1000).view(Array)
    gone = weakref.ref(array)
    lent = lend(array)
    del array
    gc.collect()
    # An alias keeps the memory; the object itself may go.
    assert tensors.digest(numpy.arange(1000)) == tensorseal._native.digests([lent])[0]
    del lent
    gc.collect()
    assert gone() is None

    owned = OnlyDlpack(numpy.arange(1000))
    kept = weakref.ref(owned.array)
    lent = lend(owned)
    del owned
    gc.collect()
    assert kept() is not None
    del lent
    gc.collect()
    assert kept() is None


class Cuda:
    """An object that is said to be on some device."""

    def __init__(self, kind):
        self.kind = kind

    def __dlpack__(self, **_):
        raise AssertionError("not asked for memory that cannot be read")

    def __dlpack_device__(self):
        return (self.kind, 0)


class Interface:
    def __init__(self, **fields):
        base = {"version": 3, "data": (4096, False), "typestr": "<f4", "shape": (2, 2)}
        self.__cuda_array_interface__ = {**base, **fields}


PLAIN = numpy.arange(24, dtype=numpy.float32).reshape(4, 6)
REFUSED = {
    "backwards": (PLAIN[::-1], r"stride -24 in dimension 0.*\.contiguous\(\)"),
    "repeated": (numpy.broadcast_to(PLAIN[0], (3, 6)), r"stride 0 in dimension 0.*\.contiguous\(\)"),
    "overlapping": (numpy.lib.stride_tricks.sliding_window_view(PLAIN[0], 3), r"overlap"),
    "big-endian": (PLAIN.astype(">f4"), r"big-endian.*astype\('<f4'\)"),
    "a big-endian buffer": (memoryview(PLAIN.astype(">f4")), r"big-endian"),
    "strings": (numpy.array(["x"]), "type <U1"),
    "objects": (numpy.array([None]), "type object"),
    "structures": (numpy.zeros(3, dtype=[("a", "f4")]), "which no file of tensors has"),
    "dates": (numpy.zeros(3, dtype="M8[s]"), "which no file of tensors has"),
    "a mask": (numpy.ma.masked_array(PLAIN, PLAIN > 3), "mask"),
    "no memory": (object(), "DLPack"),
    "text": ("text", "DLPack"),
    "Metal": (Cuda(8), "Metal.*Copy it to the CPU"),
    "ROCm": (Cuda(10), "ROCm"),
    "XPU": (Cuda(14), "XPU"),
    "a device of the future": (Cuda(99), "kind 99"),
    "a mask of CUDA": (Interface(mask=PLAIN), "mask"),
    "an old interface": (Interface(version=1), "version 1"),
    "stream 0": (Interface(stream=0), "stream 0"),
    "a typestr of nothing": (Interface(typestr="<O8"), "<O8"),
    "a shape of less than nothing": (Interface(shape=(-1, 4)), '"shape" of its __cuda_array_interface__'),
    "a typestr beyond all numbers": (Interface(typestr="<V2305843009213693952"), "more than any memory"),
    "scattered": (numpy.empty((1, 600, 600, 2), dtype=numpy.uint8)[..., :1].transpose(0, 2, 3, 1)[..., ::2], None),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_read_in_place_is_refused_by_name(why):
    given, message = REFUSED[why]
    if message is None:
        assert tensors.digest(given) == expected(given.tobytes())
        return
    for ask in (tensors.digest, lambda given, name: tensorseal.Seal.take({name: given})):
        with pytest.raises(tensorseal.UsageError, match=message) as caught:
            ask(given, name='layers.0."w"\n')
        assert '"layers.0.\\"w\\"\\n"' in str(caught.value) and "\n" not in str(caught.value)


def test_too_many_pieces_are_refused():
    array = numpy.zeros((2, 600_000, 3), dtype=numpy.uint8)
    with pytest.raises(tensorseal.UsageError, match="pieces"):
        tensors.digest(array.transpose(1, 0, 2)[..., :2].transpose(0, 2, 1))


def test_lists_name_their_tensors_by_place():
    with pytest.raises(tensorseal.UsageError, match='"#1"'):
        tensors.digests([PLAIN, PLAIN[::-1]])
    with pytest.raises(tensorseal.UsageError, match="no part"):
        tensors.digest_parts([])
    with pytest.raises(tensorseal.UsageError, match="no CUDA stream"):
        tensors.digest(OnlyDlpack(PLAIN), stream="s")


def test_dlpack_that_lies_is_refused():
    with pytest.raises(tensorseal.UsageError, match="says that it is on cuda:0, and gives memory of cpu"):
        tensors.digest(OnlyDlpackOn(PLAIN, (2, 0)))

    class Nothing(OnlyDlpack):
        def __dlpack__(self, **_):
            return 3

    with pytest.raises(TypeError, match="capsule"):
        tensors.digest(Nothing(PLAIN))

    class Twice(OnlyDlpack):
        capsule = PLAIN.__dlpack__()

        def __dlpack__(self, **_):
            return self.capsule

    once = Twice(PLAIN)
    assert tensors.digest(once) == expected(PLAIN.tobytes())
    with pytest.raises(TypeError, match="unused capsule"):
        tensors.digest(once)


def test_a_buffer_is_none_of_a_device():
    class Mirrored(bytearray):
        """On a device, with a copy on the host, as it may have been some time ago."""

        def __dlpack__(self, **_):
            raise BufferError("not now")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(tensorseal.UsageError, match="does not give its memory: .*not now"):
        tensors.digest(Mirrored(b"stale"))

    class OnHost(Mirrored):
        def __dlpack_device__(self):
            return (1, 0)

    assert tensors.digest(OnHost(b"here")) == expected(b"here")


class OnlyDlpackOn(OnlyDlpack):
    def __init__(self, array, device):
        super().__init__(array, device=device)

    def __dlpack__(self, **_):
        return self.array.__dlpack__()


def test_types_of_ml_dtypes():
    require("ml_dtypes")
    import ml_dtypes

    for name, dtype in [("bfloat16", "BF16"), ("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2")]:
        array = numpy.arange(100, dtype=numpy.float32).astype(getattr(ml_dtypes, name)).reshape(10, 10)
        assert tensors.info(array).dtype == dtype
        assert tensors.digest(array[::3, 1:]) == expected(array[::3, 1:].tobytes())
    other = numpy.arange(4, dtype=numpy.float32).astype(ml_dtypes.bfloat16)
    swapped = other.view(other.dtype.newbyteorder(">"))
    with pytest.raises(tensorseal.UsageError, match=r"big-endian.*newbyteorder\('<'\)"):
        tensors.digest(swapped)
