"""Loading: all tensors of a safetensors file in memory of the process, with a check and without."""

from cases import Group, Here


def groups(here: Here) -> list[Group]:
    return []
