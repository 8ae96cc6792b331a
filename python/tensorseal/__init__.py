"""Proves that the weights a model runs on are the weights that were signed, where they are used."""

from importlib import import_module as _import
from typing import Any as _Any

from ._native import __version__

# Public name -> the module that has it. They are imported when they are first asked for: `import tensorseal` must cost
# nothing worth mentioning, in a serving process, too.
_PUBLIC: dict[str, str] = {
    "TensorInfo": ".tensors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> _Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'tensorseal' has no attribute {name!r}")
    value = getattr(_import(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
