"""The native part. Private: the package's modules give it a face."""

from collections.abc import Sequence

__version__: str

# Tensors where they are (tensors)

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
