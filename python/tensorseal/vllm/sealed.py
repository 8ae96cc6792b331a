"""The memory of a model, sealed after the engine has processed it, and measured again later.

A seal says *unchanged since*, never *as signed*: engines re-lay, cast and quantise what was verified. What it covers is counted
in bytes of whole allocations, each once, whoever shares it.
"""

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tensorseal.errors import TensorsealError, VerifyError

from . import walk

if TYPE_CHECKING:
    import torch

    from tensorseal.seal import Seal

_log = logging.getLogger("tensorseal.vllm")

# Written to by the engine whenever it serves.
_NEVER_SEALED = ("*.kv_cache", "*.kv_cache.*")

_Shape = tuple[str, tuple[int, ...], tuple[int, ...], int]


@dataclass(frozen=True)
class _Place:
    """Where a name leads to: an allocation, and how it is looked at."""

    device: str
    address: int
    nbytes: int
    seen_as: _Shape


@dataclass(frozen=True)
class Coverage:
    """`sealed` and `loaded` in bytes: allocations under seal, and tensors that were handed to the engine in this rank.

    The second counts whole tensors, of which a rank may keep a slice. `empty` names tensors without a byte: an engine that packs
    a weight where no tensor reaches it leaves such. `ignored` names those that were left out on purpose, and `elsewhere`
    those on other devices than the model's.
    """

    sealed: int
    loaded: int
    regions: int
    empty: tuple[str, ...]
    ignored: tuple[str, ...]
    elsewhere: tuple[str, ...]


class SealedModel:
    """A model of the engine under seal, and what may be said of it."""

    def __init__(
        self,
        model: "torch.nn.Module",
        *,
        name: str,
        device: str,
        loaded: int,
        ignore: tuple[str, ...] = (),
        wraps: Callable[["torch.nn.Module"], str | None] = lambda module: None,
    ) -> None:
        """Takes the seal. `device`: the type of the device ("cuda", "cpu") that the model runs on.

        Raises `TensorsealError` where nothing can be sealed.
        """
        self.name = name
        self.device = device
        self._model = weakref.ref(model)
        self._ignore = (*_NEVER_SEALED, *ignore)
        self._wraps = wraps
        self.spoilt: str | None = None
        self._seal: Seal | None = None
        self.take(loaded)

    @property
    def model(self) -> "torch.nn.Module | None":
        """The model, if the engine still has it."""
        return self._model()

    def take(self, loaded: int) -> None:
        """Seals what is there now: only after a load in which everything was verified. `loaded`: its bytes."""
        from tensorseal.seal import Seal

        found, ignored, elsewhere = self._walk()
        empty = tuple(sorted(name for name, (place, _) in found.items() if place.nbytes == 0))
        places = {name: place for name, (place, _) in found.items() if place.nbytes > 0}
        regions: dict[tuple[str, int, int], str] = {}
        for name, place in places.items():
            regions.setdefault((place.device, place.address, place.nbytes), name)
        sealed = sum(nbytes for _, _, nbytes in regions)
        if sealed == 0:
            raise VerifyError(
                f"no byte of the model {self.name} is in a tensor that can be found, so there is nothing to seal: "
                f'{len(empty)} tensors are empty, {len(ignored)} are ignored. "seal": false leaves it without a seal'
            )
        shown = {name: _allocation(found[name][1]) for name in regions.values()}
        if self._seal is None:
            self._seal = Seal.take(shown, name=self.name)
        else:
            self._seal.reseal(shown)
        self._places = places
        self._regions = tuple(regions.values())
        self.coverage = Coverage(sealed, loaded, len(regions), empty, tuple(ignored), tuple(elsewhere))
        self.taken = time.time()
        self.spoilt = None

    def spoil(self, why: str) -> None:
        """From now on it is no more what was sealed, whatever is in memory, until it is taken again."""
        _log.error("%s: the seal is void: %s", self.name, why)
        self.spoilt = why

    def reverify(self) -> dict[str, Any]:
        """Measures everything again, and says how that ended: `result` is `unchanged`, `broken` or `no_answer`."""
        try:
            unchanged = self._measure()
        except VerifyError as error:
            _log.error("%s: %s", self.name, error)
            return {"seal": self.name, "result": "broken", "message": str(error)}
        except TensorsealError as error:
            _log.error("%s: no answer: %s", self.name, error)
            return {"seal": self.name, "result": "no_answer", "message": str(error)}
        return {"seal": self.name, "result": "unchanged", "message": str(unchanged), "bytes": self.coverage.sealed}

    def _measure(self) -> object:
        if self.spoilt is not None or self._seal is None:
            raise VerifyError(self.spoilt or "nothing is sealed")
        found, _, _ = self._walk()
        shown = {name: _allocation(found[name][1]) for name in self._regions if name in found}
        # Names that lead to one allocation have to go on leading to it, and it is to be looked at in the same way.
        moved = [name for name, place in self._places.items() if name not in found or found[name][0] != place]
        unchanged = self._seal.reverify(shown)
        if moved:
            self.spoilt = f"{len(moved)} sealed tensors are gone, or are other memory now: {', '.join(moved[:5])}"
            raise VerifyError(self.spoilt)
        return unchanged

    def _walk(self) -> tuple[dict[str, "tuple[_Place, torch.Tensor]"], list[str], list[str]]:
        """Name -> tensor, then names that are ignored, then names on other devices."""
        model = self.model
        if model is None:
            raise VerifyError(f"the engine has dropped the model {self.name} that was sealed")
        found: dict[str, tuple[_Place, torch.Tensor]] = {}
        ignored, elsewhere = [], []
        for name, tensor in walk.tensors(model, wraps=self._wraps):
            if any(fnmatchcase(name, pattern) for pattern in self._ignore):
                ignored.append(name)
            elif tensor.device.type != self.device:
                elsewhere.append(name)
            else:
                found.setdefault(name, (_place(tensor), tensor))
        return found, ignored, elsewhere

    def status(self) -> dict[str, Any]:
        """What is sealed, for whoever asks over HTTP: names of tensors only where they are not sealed."""
        coverage = self.coverage
        return {
            "seal": self.name,
            "taken": self.taken,
            "device": self.device,
            "sealed_bytes": coverage.sealed,
            "loaded_bytes": coverage.loaded,
            "regions": coverage.regions,
            "empty_tensors": list(coverage.empty),
            "ignored_tensors": list(coverage.ignored),
            "tensors_on_other_devices": list(coverage.elsewhere),
            "spoilt": self.spoilt,
        }

    @property
    def seal(self) -> "Seal | None":
        """The seal itself, for its metrics."""
        return self._seal


def _place(tensor: "torch.Tensor") -> _Place:
    storage = tensor.untyped_storage()
    seen_as = (str(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
    return _Place(str(tensor.device), storage.data_ptr(), storage.nbytes(), seen_as)


def _allocation(tensor: "torch.Tensor") -> "torch.Tensor":
    """The whole allocation that a tensor lies in, as bytes."""
    import torch

    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
