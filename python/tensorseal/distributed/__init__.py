"""Signing and verifying what is spread over ranks, on torch.distributed: one verdict on all of them.

`save_and_sign` at the end of training, `verify` where the model is used, in whatever layout, `publish` and `receive` for new
weights while it serves. Torch is imported by the calls, not by this package.
"""

from .checking import VerifiedAcross, verify
from .control import RankError
from .refit import publish, receive
from .saving import SignedAcross, save_and_sign

__all__ = ["RankError", "SignedAcross", "VerifiedAcross", "publish", "receive", "save_and_sign", "verify"]
