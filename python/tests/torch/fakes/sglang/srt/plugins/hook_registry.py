"""Hooks of the kind that is used, applied at once to whatever they name."""

import enum
import functools
import pkgutil


class HookType(enum.Enum):
    AFTER = "after"
    AROUND = "around"


class HookRegistry:
    @classmethod
    def register(cls, target, hook, hook_type=HookType.AFTER, *, source=None):
        assert hook_type is HookType.AROUND
        where, name = target.rsplit(".", 1)
        owner = pkgutil.resolve_name(where)
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            return hook(original, *args, **kwargs)

        setattr(owner, name, wrapper)
