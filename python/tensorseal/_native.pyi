"""The native part. Private: the package's modules give it a face."""

from os import PathLike
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

__version__: str
__all__ = [
    "Finished", "Lent", "LoadedModel", "Measured", "Seal", "Signed", "Signer", "Tensor", "TensorManifest",
    "TensorRecord", "Who", "Writer", "Written", "__version__", "cover", "digest", "digest_parts", "digests",
    "exposition", "lend", "lend_at", "load", "model_of", "sign", "sign_written", "sweep", "tiles", "verify",
    "withdraw",
]

_Path = str | PathLike[str]

# ---- who.rs, verbs.rs: the verbs -----------------------------------------------------------------------------------

@final
class Who:
    """Whom a caller trusts; read once."""

    @staticmethod
    def key(public_key: str) -> Who: ...
    @staticmethod
    def certificate(
        chain: Sequence[str],
        *,
        identities: Sequence[str],
        system_roots: bool,
        any_purpose: bool,
        timestamp_chain: Sequence[str],
        judge_at_not_before: bool,
    ) -> Who: ...
    @staticmethod
    def sigstore(
        *,
        identity: str | None,
        issuer: str | None,
        identity_regexp: str | None,
        issuer_regexp: str | None,
        staging: bool,
        trust_config: str | None,
    ) -> Who: ...
    @staticmethod
    def policy(path: str) -> Who: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def is_policy(self) -> bool: ...

@final
class Signer:
    """Who signs; opened for each signature."""

    @staticmethod
    def key(
        private_key: str, *, password: str | None, timestamp_url: str | None, timestamp_chain: Sequence[str]
    ) -> Signer: ...
    @staticmethod
    def certificate(
        private_key: str,
        certificate: str,
        *,
        chain: Sequence[str],
        password: str | None,
        any_purpose: bool,
        timestamp_url: str | None,
        timestamp_chain: Sequence[str],
    ) -> Signer: ...
    @staticmethod
    def pkcs11(
        uri: str,
        *,
        modules: Sequence[str],
        pin: str | None,
        certificate: str | None,
        chain: Sequence[str],
        any_purpose: bool,
        timestamp_url: str | None,
        timestamp_chain: Sequence[str],
    ) -> Signer: ...
    @staticmethod
    def sigstore(
        *,
        token: str | None,
        token_file: str | None,
        client_id: str | None,
        client_secret: str | None,
        identity: str | None,
        staging: bool,
        trust_config: str | None,
        timeout: float | None,
    ) -> Signer: ...

def verify(
    model: str,
    bundles: Sequence[str],
    who: Who,
    *,
    digests: str,
    strict: bool,
    ignore_unsigned: bool,
    ignore: Sequence[str],
    allow_ignored: Sequence[str],
    symlinks: str,
    git: str,
    tensors: str | None,
    outboard: str | None,
    max_bundle: int | None,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
def sign(
    model: str,
    bundle: str,
    signer: Signer,
    *,
    hash: str,
    shards: int | None,
    shards_compat: bool,
    annotations: bool,
    tensors: bool,
    tensors_out: str | None,
    outboard: str | None,
    ignore: Sequence[str],
    symlinks: str,
    git: str,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
def digest(
    model: str,
    *,
    hash: str,
    shards: int | None,
    ignore: Sequence[str],
    symlinks: str,
    git: str,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...

# ---- tensors.rs, signed.rs, seal.rs: tensors where they are ---------------------------------------------------------

@final
class Lent:
    """The memory of a tensor, for as long as this object is there."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def type_name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def stream(self) -> int | None: ...

def lend(tensor: object, *, name: str, stream: int | None = None) -> Lent: ...
def lend_at(
    owner: object,
    *,
    name: str,
    device: str,
    address: int,
    dtype: str | None,
    type_name: str,
    item: int,
    per: int,
    shape: Sequence[int],
    strides: Sequence[int],
    stream: int | None,
) -> Lent: ...
def digests(tensors: list[Lent]) -> list[str]: ...
def digest_parts(parts: list[Lent]) -> str: ...

@final
class Seal:
    """Named memory, and what was in it. It holds no memory."""

    @staticmethod
    def take(tensors: list[Lent], *, name: str, group: int | None) -> Seal: ...
    def reverify(self, tensors: list[Lent], *, seconds: float | None, bytes: int | None) -> dict[str, Any]: ...
    def reseal(self, tensors: list[Lent]) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def since(self) -> float: ...
    @property
    def broken(self) -> str | None: ...
    @property
    def total(self) -> int: ...
    @property
    def oldest(self) -> float: ...
    def coverage(self) -> list[tuple[str, int, int, float]]: ...

def exposition(seals: list[Seal]) -> str: ...
@final
class Signed:
    """What signatures over a model say, each of which was accepted."""

    @staticmethod
    def read(model: str, bundles: Sequence[str], who: Who) -> Signed: ...
    @property
    def identities(self) -> list[str]: ...
    @property
    def root(self) -> str: ...
    @property
    def files(self) -> set[str]: ...
    @property
    def resources(self) -> dict[str, dict[str, Any]]: ...
    def tensor_manifest(self, path: str | None) -> TensorManifest | None: ...
    def verify_resident(self, files: Sequence[str], tensors: Sequence[tuple[str | None, Lent]]) -> dict[str, Any]: ...

@final
class TensorRecord:
    """A tensor of a tensor manifest."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def file(self) -> str: ...
    @property
    def range(self) -> tuple[int, int]: ...
    @property
    def parts(self) -> list[int]: ...
    @property
    def tiles(self) -> list[str]: ...
    @property
    def root(self) -> str: ...

@final
class Measured:
    """A slice in memory that was as signed."""

    @property
    def tensor(self) -> str: ...
    @property
    def ranges(self) -> list[tuple[int, int]]: ...
    @property
    def tiles(self) -> list[int]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def at(self) -> float: ...
    @property
    def device(self) -> str: ...

@final
class TensorManifest:
    """The signed digests of a model's tensors, and of tiles of them."""

    @property
    def tensors(self) -> dict[str, TensorRecord]: ...
    @property
    def files(self) -> list[str]: ...
    @property
    def identity(self) -> str: ...
    @property
    def root(self) -> str: ...
    def to_bytes(self) -> bytes: ...
    def verify_slices(
        self, slices: Sequence[tuple[str, Sequence[tuple[int, int]] | None, Lent]]
    ) -> list[Measured]: ...
    @staticmethod
    def tile_digests(
        dtype: str, shape: Sequence[int], ranges: Sequence[tuple[int, int]], tensor: Lent
    ) -> dict[int, str]: ...

def cover(
    manifest: TensorManifest,
    checked: Sequence[Measured],
    holds: Sequence[tuple[str, Sequence[tuple[int, int]]]],
    not_held: Sequence[tuple[str, str]],
) -> dict[str, Any]: ...

# Files that are hashed while they are written (training)

_Meant = tuple[str, Sequence[int], dict[int, str]]

@final
class Writer:
    """A file of a model that is hashed while it is written, under a temporary name."""

    def __new__(cls, model: _Path, name: str, size: int, *, tensors: bool = False) -> Writer: ...
    def write(self, bytes: Lent) -> None: ...
    def finish(self) -> Finished: ...
    def discard(self) -> None: ...

@final
class Finished:
    """A file whose bytes are all on the disk, under a temporary name."""

    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def blake3(self) -> str: ...
    @property
    def tensors(self) -> dict[str, _Meant] | None: ...
    def compare(self, blake3: str, tensors: Mapping[str, _Meant]) -> None: ...
    def publish(self) -> Written: ...
    def discard(self) -> None: ...

@final
class Written:
    """A file that was hashed while it was written, or as somebody else left it."""

    @staticmethod
    def of_file(
        model: str,
        name: str,
        *,
        tensors: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> Written: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def blake3(self) -> str: ...
    @property
    def tensors(self) -> dict[str, _Meant] | None: ...
    @property
    def is_local(self) -> bool: ...
    def compare(self, tensors: Mapping[str, _Meant]) -> None: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> Written: ...

def tiles(tensors: list[Lent]) -> list[_Meant]: ...
def sign_written(
    model: str,
    bundle: str,
    signer: Signer,
    written: list[Written],
    *,
    hash: str,
    tensors: bool,
    ignore: Sequence[str],
    symlinks: str,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> dict[str, Any]: ...
def withdraw(model: _Path, bundle: _Path) -> None: ...
def sweep(model: _Path) -> None: ...


# Models in memory (loader.rs).

@final
class Tensor:
    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def as_bytes(self) -> Tensor: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(
        self,
        stream: object = None,
        *,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...

@final
class LoadedModel:
    @property
    def tensor_files(self) -> list[str]: ...
    @property
    def files(self) -> list[str]: ...
    def report(self) -> dict[str, Any]: ...
    def file(self, name: str) -> bytes | None: ...
    def metadata(self, file: str) -> dict[str, str] | None: ...
    def tensors(self, file: str | None = None) -> list[Tensor]: ...
    def tensor(self, name: str) -> Tensor | None: ...

def load(
    model: str,
    bundles: Sequence[str],
    who: Who,
    *,
    only: Sequence[str] | None,
    digests: str,
    strict: bool,
    ignore_unsigned: bool,
    ignore: Sequence[str],
    allow_ignored: Sequence[str],
    symlinks: str,
    git: str,
    keep: int | None,
    threads: int | None,
    device: str,
    progress: Callable[[int, int | None], object] | None,
) -> LoadedModel: ...
def model_of(file: str, bundle: str | None) -> tuple[PathLike[str], PathLike[str], str | None]: ...
