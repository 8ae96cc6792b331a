"""Proves that the weights a model runs on are the weights that were signed, where they are used."""

from importlib import import_module as _import
from typing import TYPE_CHECKING, Any as _Any

from ._native import __version__

if TYPE_CHECKING:
    # The same names as in _PUBLIC and _MODULES, for type checkers.
    from . import dcp as dcp, distributed as distributed, hf as hf, tensors as tensors
    from .errors import (
        Difference as Difference,
        NoAnswerError as NoAnswerError,
        TensorsealError as TensorsealError,
        UsageError as UsageError,
        VerifyError as VerifyError,
    )
    from ._guard import guard as guard
    from .loading import (
        LoadedModel as LoadedModel,
        load_file as load_file,
        load_model as load_model,
        safe_open as safe_open,
    )
    from .report import Identity as Identity, ModelDigest as ModelDigest, Report as Report, Signed as Signed
    from ._signed import (
        Coverage as Coverage,
        MeasuredAsSigned as MeasuredAsSigned,
        MeasuredSlice as MeasuredSlice,
        SignedModel as SignedModel,
        Slice as Slice,
        TensorManifest as TensorManifest,
        TensorRecord as TensorRecord,
        signed as signed,
        verify_resident as verify_resident,
    )
    from .seal import Seal as Seal, Unchanged as Unchanged, exposition as exposition
    from .tensors import TensorInfo as TensorInfo
    from .training import save_and_sign as save_and_sign
    from .verbs import digest as digest, sign as sign, verify as verify
    from .who import (
        Certificate as Certificate,
        CertificateSigner as CertificateSigner,
        Key as Key,
        KeySigner as KeySigner,
        Pkcs11Signer as Pkcs11Signer,
        Policy as Policy,
        Sigstore as Sigstore,
        SigstoreSigner as SigstoreSigner,
    )

# Public name -> the module that has it. They are imported when they are first asked for: `import tensorseal` must cost
# nothing worth mentioning, in a serving process, too.
_PUBLIC: dict[str, str] = {
    # Who may have signed, and who signs.
    "Key": ".who",
    "Certificate": ".who",
    "Sigstore": ".who",
    "Policy": ".who",
    "KeySigner": ".who",
    "CertificateSigner": ".who",
    "Pkcs11Signer": ".who",
    "SigstoreSigner": ".who",
    # Models as files.
    "verify": ".verbs",
    "sign": ".verbs",
    "digest": ".verbs",
    "Report": ".report",
    "Identity": ".report",
    "Signed": ".report",
    "ModelDigest": ".report",
    # At the end of training.
    "save_and_sign": ".training",
    # What goes wrong.
    "TensorsealError": ".errors",
    "VerifyError": ".errors",
    "NoAnswerError": ".errors",
    "UsageError": ".errors",
    "Difference": ".errors",
    # Tensors where they are.
    "TensorInfo": ".tensors",
    "signed": "._signed",
    "SignedModel": "._signed",
    "TensorRecord": "._signed",
    "MeasuredSlice": "._signed",
    "MeasuredAsSigned": "._signed",
    "Slice": "._signed",
    "TensorManifest": "._signed",
    "Coverage": "._signed",
    "verify_resident": "._signed",
    "Seal": ".seal",
    "Unchanged": ".seal",
    "exposition": ".seal",
    # Models in memory.
    "load_file": ".loading",
    "load_model": ".loading",
    "safe_open": ".loading",
    "LoadedModel": ".loading",
    "guard": "._guard",
}

# Modules that are used by their names: `tensorseal.tensors.digest(..)` after `import tensorseal` alone.
_MODULES = ("dcp", "distributed", "hf", "tensors")

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _import(f".{name}", __name__)
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'tensorseal' has no attribute {name!r}")
    value = getattr(_import(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_MODULES})
