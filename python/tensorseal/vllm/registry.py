"""What this process has loaded in the load format, and what of it is under seal. One list for all models of a worker."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .sealed import SealedModel

if TYPE_CHECKING:
    import torch

@dataclass
class Load:
    """One load of one model, first or again. `report`: for people and programs. `complete`: all of it was verified.

    `refused`: it was not as signed, whether that ended the load (mode enforce) or was logged. `loaded`: bytes of its tensors.
    """

    report: dict[str, Any]
    complete: bool = False
    refused: bool = False
    loaded: int = 0


@dataclass
class Engine:
    """The engine of this process: the configuration and the folder of the model that it serves, as it began, and the mode."""

    config: Any = None
    folder: str | None = None
    mode: str = "enforce"


engine = Engine()
# The last loads: an engine that is trained along reloads for weeks.
_KEPT = 16
_loads: list[Load] = []
_counted = {"begun": 0, "verified": 0, "on-disk": 0, "refused": 0}
_sealed: list[SealedModel] = []


def begin(report: dict[str, Any]) -> Load:
    """A load begins."""
    load = Load(report)
    _counted["begun"] += 1
    _loads.append(load)
    del _loads[:-_KEPT]
    return load


def refuse(load: Load) -> None:
    """Something of it is not as signed."""
    _counted["refused"] += not load.refused
    load.refused = True


def finish(load: Load) -> None:
    """It has come to its end: complete, if nothing was refused. In mode log it was files that were verified, and not what the engine
    read of them: that counts apart."""
    load.complete = not load.refused
    _counted["on-disk" if load.report.get("mode") == "log" else "verified"] += load.complete


def loads() -> list[Load]:
    """The last loads of this process, in order."""
    return _loads


def begun() -> int:
    """How many loads there were."""
    return _counted["begun"]


def keep(sealed: SealedModel) -> None:
    """A model is under seal from now on."""
    _sealed[:] = [other for other in _sealed if other.model is not None and other.model is not sealed.model]
    _sealed.append(sealed)


def sealed() -> list[SealedModel]:
    """The models under seal which the engine still has."""
    _sealed[:] = [model for model in _sealed if model.model is not None]
    return _sealed


def sealed_of(model: "torch.nn.Module") -> SealedModel | None:
    """The seal over this very model."""
    return next((one for one in sealed() if one.model is model), None)


def metrics(rank: int, adapters: dict[str, int]) -> str:
    """What is counted here, in Prometheus' text format. Metrics of the seals themselves are theirs."""
    outcomes = {outcome: _counted[outcome] for outcome in ("verified", "on-disk", "refused")}
    families = [
        ("loads_total", "counter", "Loads of models that were verified whole, whose files alone were (mode log), or refused.", "outcome", outcomes),
        ("adapters_total", "counter", "Adapters that were verified, or refused.", "outcome", adapters),
        (
            "seal_void",
            "gauge",
            "1 while nothing under this name is what was sealed: see the status.",
            "seal",
            {one.name: int(one.spoilt is not None) for one in sealed()},
        ),
    ]
    lines = []
    for name, kind, about, label, samples in families:
        name = f"tensorseal_vllm_{name}"
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        lines += [f'{name}{{rank="{rank}",{label}="{_escaped(value)}"}} {number}' for value, number in samples.items()]
    return "".join(f"{line}\n" for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
