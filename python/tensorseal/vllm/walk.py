"""Which tensors a model holds, wherever in it they lie.

An engine that has processed weights keeps them as parameters, as buffers, as plain attributes, in lists and dictionaries, in
objects of its own, in what a closure has captured, and in wrappers of tensors. `named_parameters` sees the first two.
"""

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Deep enough for an attribute of a method object of a layer (object, list, tuple, tensor), and an end to whatever has none.
_DEPTH = 8
# Their objects hold no weights, but lead to every other model of the process: configurations have a register of layers.
_NOT_INTO = (
    "torch", "transformers", "logging", "threading", "vllm.config", "vllm.compilation", "vllm.distributed", "vllm.lora",
    "vllm.v1.core", "vllm.v1.engine", "vllm.v1.worker",
)  # fmt: skip


def tensors(
    model: "torch.nn.Module",
    *,
    wraps: Callable[["torch.nn.Module"], str | None] = lambda module: None,
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """All tensors of `model` with a path to each: a tensor that is reachable by several names comes with all of them.

    Parameters and buffers come first, under the names that torch gives them. `wraps` says of a module in which attribute
    it has the module that it stands for, if it is a wrapper that an engine puts in a module's place later: then names are those
    from before, and what the wrapper itself holds is left out.
    """
    tree: set[int] = set()
    modules = list(_modules(model, "", wraps, tree))
    for kind in ("_parameters", "_buffers"):
        for path, module in modules:
            for name, tensor in getattr(module, kind).items():
                if tensor is not None:
                    yield from _tensor(_join(path, name), tensor, set(), _DEPTH)
    for path, module in modules:
        known = {"_parameters", "_buffers", "_modules"}
        for name, value in list(vars(module).items()):
            if name not in known:
                # By attribute: a second one that leads to the same object names it, too. What a module of the tree has, it
                # says itself.
                yield from _value(_join(path, name), value, set(tree), _DEPTH)


def _modules(
    module: "torch.nn.Module", path: str, wraps: Callable[["torch.nn.Module"], str | None], seen: set[int]
) -> Iterator[tuple[str, "torch.nn.Module"]]:
    """As `named_modules(remove_duplicate=True)`, but looks through wrappers."""
    inner = wraps(module)
    while inner is not None:
        module = getattr(module, inner)
        inner = wraps(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _modules(child, _join(path, name), wraps, seen)


def _value(path: str, value: Any, seen: set[int], depth: int) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Tensors in anything that an attribute may hold."""
    import torch

    if value is None or isinstance(value, (str, bytes, int, float, complex, type, types.ModuleType)):
        return
    if isinstance(value, torch.Tensor):
        yield from _tensor(path, value, seen, depth)
        return
    if depth == 0 or id(value) in seen:
        return
    seen.add(id(value))
    for name, part in _parts(value):
        yield from _value(_join(path, name), part, seen, depth - 1)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What is in a container, a function or an object, each with a name."""
    import torch

    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((str(index), part) for index, part in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("func", value.__func__))
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                yield name, cell.cell_contents
            except ValueError:
                continue  # A variable that has no value yet.
        yield "defaults", value.__defaults__
        yield "keywords", value.__kwdefaults__
    elif isinstance(value, torch.nn.Module):
        # A module that is nobody's child: in a list, say.
        yield from list(vars(value).items())
    elif not _foreign(type(value).__module__):
        yield from list(vars(value).items()) if hasattr(value, "__dict__") else ()
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    yield name, getattr(value, name)


def _foreign(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in _NOT_INTO)


def _tensor(path: str, tensor: "torch.Tensor", seen: set[int], depth: int) -> Iterator[tuple[str, "torch.Tensor"]]:
    """A tensor, or those that a wrapper of tensors is made of, and what was attached to either."""
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _tensor(_join(path, name), getattr(tensor, name), seen, depth)
    else:
        yield path, tensor
    if depth > 0 and id(tensor) not in seen:
        seen.add(id(tensor))
        for name, value in list(vars(tensor).items()) if hasattr(tensor, "__dict__") else ():
            yield from _value(_join(path, name), value, seen, depth - 1)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
