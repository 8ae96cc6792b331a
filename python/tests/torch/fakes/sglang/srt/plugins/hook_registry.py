"""Hooks of the kind that is used, applied at once to whatever they name."""

import enum
import functools
import pkgutil


class HookType(enum.Enum):
    AROUND = "around"


class HookRegistry:
    @classmethod
    def register(cls, target, hook, hook_type, *, source=None):
        where, name = target.rsplit(".", 1)
        owner = pkgutil.resolve_name(where)
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            return hook(original, *args, **kwargs)

        setattr(owner, name, wrapper)
