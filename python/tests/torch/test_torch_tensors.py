"""Tensors of torch where they are. The oracle is Python's blake3 of the bytes that torch itself copies out."""

import itertools
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import require

require("torch")
require("blake3")

import blake3
import torch

import tensorseal
from tensorseal import tensors

TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    # Safetensors has no name for these.
    "complex32": None,
    "complex128": None,
    "uint4": None,
    "int4": None,
    "uint1": None,
    "bits8": None,
}


def of(dtype: torch.dtype, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random bytes of that type."""
    size = torch.empty(0, dtype=dtype).element_size()
    count = size
    for dimension in shape:
        count *= dimension
    raw = torch.frombuffer(bytearray(random.Random(seed).randbytes(max(count, 1))), dtype=torch.uint8)[:count]
    return (raw & 1 if dtype == torch.bool else raw).view(dtype).reshape(shape)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Its elements in C order, copied one after the other, whatever torch can compute with this type."""
    size = tensor.element_size()
    whole = torch.as_strided(tensor, (tensor.untyped_storage().nbytes() // size,), (1,), 0).view(torch.uint8).numpy().tobytes()
    found = bytearray()
    for index in itertools.product(*map(range, tensor.shape)):
        at = tensor.storage_offset() + sum(i * stride for i, stride in zip(index, tensor.stride(), strict=True))
        found += whole[at * size :][:size]
    return bytes(found)


def expected(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_read_where_it_is(name):
    dtype = getattr(torch, name)
    whole = of(dtype, 6, 5, 16)
    views = [whole, whole[1:, ::2], whole.transpose(0, 2), whole[..., 3:11], whole[2, 3], whole[2, 3, 4], whole[:0]]
    for view in views:
        info = tensors.info(view)
        assert (info.address, info.device, info.dtype) == (view.data_ptr(), "cpu", TYPES[name])
        assert (info.shape, info.strides) == (tuple(view.shape), view.stride())
        assert info.nbytes == view.numel() * view.element_size()
        assert tensors.digest(view) == expected(bytes_of(view)), view.shape
    assert tensors.digests(views) == [expected(bytes_of(view)) for view in views]


def test_two_elements_in_a_byte():
    whole = of(torch.uint8, 6, 32).view(torch.float4_e2m1fn_x2)
    info = tensors.info(whole)
    assert (info.dtype, info.shape, info.strides, info.nbytes) == ("F4", (6, 64), (64, 1), 192)
    assert info.address == whole.data_ptr()
    for view in (whole, whole[::2], whole[:, 4:20]):
        assert tensors.digest(view) == expected(bytes_of(view.view(torch.uint8)))


def test_torch_speaks_dlpack_as_we_read_it():
    class Only:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **asked):
            return self.tensor.__dlpack__(**asked)

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    read = 0
    for name in [*TYPES, "float4_e2m1fn_x2"]:
        dtype = getattr(torch, name)
        tensor = of(torch.uint8, 8, 64).view(dtype) if name != "bool" else of(dtype, 8, 64)
        try:
            tensor.__dlpack__(max_version=(1, 1))
        except (BufferError, RuntimeError, ValueError, TypeError):
            continue
        read += 1
        if TYPES.get(name, ""):
            assert tensors.info(Only(tensor)) == tensors.info(tensor), name
        assert tensors.digest(Only(tensor)) == tensors.digest(tensor), name
        if name != "float4_e2m1fn_x2":
            assert tensors.digest(Only(tensor[1::2, ::2])) == tensors.digest(tensor[1::2, ::2]), name
    # What they have in common, at least: no type may go missing unseen.
    assert read >= 16


def test_gradients_do_not_matter():
    layer = torch.nn.Linear(7, 5, bias=False)
    weight = layer.weight
    assert weight.requires_grad and tensors.info(weight).address == weight.data_ptr()
    assert tensors.digest(weight) == expected(weight.detach().numpy().tobytes())
    assert tensors.digest(weight.T) == expected(weight.detach().T.contiguous().numpy().tobytes())
    # And are not made to.
    (layer(torch.ones(2, 7)) * tensors.info(weight).nbytes).sum().backward()
    assert weight.grad is not None
    with torch.inference_mode():
        assert tensors.digest(weight) == tensors.digest(weight.clone())


def test_parameters_of_engines_are_tensors_too():
    class Parameter(torch.nn.Parameter):
        """As vLLM has them: a subclass with attributes, and a hook that must not be asked."""

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise AssertionError(func)

        def detach(self):
            raise AssertionError("nor methods")

    parameter = torch.Tensor._make_subclass(Parameter, torch.arange(12.0), True)
    assert tensors.digest(parameter) == expected(torch.arange(12.0).numpy().tobytes())


def test_memory_stays_while_a_tensor_gets_other():
    from tensorseal._lend import lend

    tensor = torch.arange(1000)
    data = tensor.numpy().tobytes()
    lent = lend(tensor)
    tensor.data = torch.zeros(3)
    assert tensorseal._native.digests([lent]) == [expected(data)]


def _fake():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.empty(3)


def _transformed(of):
    caught = []

    def function(x):
        try:
            tensors.digest(x, name="w")
        except tensorseal.UsageError as error:
            caught.append(error)
        return x.sum()

    of(function)(torch.ones(2, 3))
    raise caught[0]


class Two(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError


class Denies(torch.Tensor):
    """What a class says of its tensors is not what they are."""

    is_quantized = False

    def is_conj(self):
        return False

    def is_neg(self):
        return False


COMPLEX = torch.view_as_complex(torch.arange(8.0).reshape(4, 2))
REFUSED = {
    "meta": (lambda: torch.empty(3, device="meta"), "meta device"),
    "coo": (lambda: torch.eye(3).to_sparse(), r"sparse.*\.values\(\)"),
    "csr": (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), r"\.int_repr\(\)"),
    "conjugated": (lambda: COMPLEX.conj(), r"\.resolve_conj\(\)"),
    "negated": (lambda: COMPLEX.conj().imag, r"\.resolve_neg\(\)"),
    "denied to be conjugated": (lambda: COMPLEX.conj().as_subclass(Denies), r"\.resolve_conj\(\)"),
    "denied to be negated": (lambda: COMPLEX.conj().imag.as_subclass(Denies), r"\.resolve_neg\(\)"),
    "fake": (_fake, "FakeTensor"),
    "a wrapper": (lambda: Two(torch.ones(3)), "made of other tensors"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    "jagged": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "NestedTensor"),
    "flipped": (lambda: torch.ones(3).expand(4, 3), r"\.contiguous\(\)"),
    "unfolded": (lambda: torch.arange(9.0).unfold(0, 3, 1), r"\.contiguous\(\)"),
    "grad": (lambda: _transformed(torch.func.grad), "no memory"),
    "vmap": (lambda: _transformed(torch.vmap), "no memory"),
    "uninitialized": (lambda: torch.nn.LazyLinear(3).weight, "UninitializedParameter|no memory|no bytes"),
    "freed": (lambda: _freed(slice(None), 0), "no memory"),
    "a freed part": (lambda: _freed(slice(40, None), 0), "no memory"),
    "freed in part": (lambda: _freed(slice(None, None, 99), 396), "no memory"),
}


def _freed(some, size):
    # As FSDP leaves a parameter whose memory it has given back.
    view = torch.ones(100)[some]
    view.untyped_storage().resize_(size)
    return view


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("why", REFUSED)
def test_what_is_no_memory_is_refused_by_name(why):
    make, message = REFUSED[why]
    with pytest.raises(tensorseal.UsageError, match=message) as caught:
        tensors.digest(make(), name="w")
    assert str(caught.value).startswith('tensor "w"')


def test_a_dtensor_is_refused_with_what_to_pass(tmp_path):
    import torch.distributed as dist
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        tensor = distribute_tensor(torch.arange(12.0), mesh, [Shard(0)])
        with pytest.raises(tensorseal.UsageError, match=r'tensor "w".*DTensor.*\.to_local\(\).*tensorseal\.distributed'):
            tensors.digest(tensor, name="w")
        assert tensors.digest(tensor.to_local()) == expected(torch.arange(12.0).numpy().tobytes())
    finally:
        dist.destroy_process_group()


def test_nothing_is_copied():
    import resource

    tensor = torch.ones(64 << 20, dtype=torch.bfloat16)
    tensors.digest(tensor[:4096])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = tensors.digest(tensor.reshape(1024, -1)[:, ::2])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (16 << 20) >> 10
    assert found == expected(b"\x80\x3f" * (32 << 20))


def test_seals_of_a_module():
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64))
    state = lambda: dict(module.state_dict(keep_vars=True))
    seal = tensorseal.Seal.take(state(), name="module")
    assert seal.reverify(state()).bytes == seal.total
    with torch.no_grad():
        module[0].weight[3, 4] += 1
    with pytest.raises(tensorseal.VerifyError, match='"0.weight" has changed') as caught:
        seal.reverify(state())
    assert [(of.name, of.kind) for of in caught.value.differences] == [("0.weight", "changed")]


def test_modes_of_torch_do_not_matter():
    with torch.inference_mode():
        made = torch.arange(10.0)
    data = expected(torch.arange(10.0).numpy().tobytes())
    assert tensors.digest(made) == data
    with torch.device("meta"), torch.no_grad():
        assert tensors.digest(made) == data
    with torch.set_grad_enabled(True):
        assert tensors.digest(torch.nn.Parameter(torch.arange(10.0))) == data


def test_the_current_stream_of_its_device_comes_first(monkeypatch):
    """There is no GPU here: a tensor of the host whose alias says that it is on one, and what the native part is told of it."""
    from types import SimpleNamespace

    from tensorseal import _lend

    host, device = torch.ones(4), torch.device("cuda", 1)
    alias = SimpleNamespace(device=device, data_ptr=lambda: 4096, untyped_storage=lambda: SimpleNamespace(nbytes=lambda: 16))
    alias.shape, alias.stride, alias.element_size = host.shape, host.stride, host.element_size
    alias.storage_offset, alias.numel, alias.dtype = host.storage_offset, host.numel, host.dtype
    alias.is_quantized, alias.is_conj, alias.is_neg = host.is_quantized, host.is_conj, host.is_neg
    told: list[dict[str, object]] = []
    monkeypatch.setattr(torch.Tensor, "detach", lambda tensor: alias)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: SimpleNamespace(cuda_stream=(1234, of)))
    monkeypatch.setattr(_lend._native, "lend_at", lambda owner, **named: told.append(named))
    _lend.lend(host)
    _lend.lend(host, stream=7)
    _lend.lend(host, stream=SimpleNamespace(cuda_stream=8))
    assert [(one["device"], one["address"], one["stream"]) for one in told] == [
        ("cuda:1", 4096, (1234, device)),
        ("cuda:1", 4096, 7),
        ("cuda:1", 4096, 8),
    ]
