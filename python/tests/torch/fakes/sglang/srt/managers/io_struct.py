"""What is asked of, and answered by, `POST /weights_checker`."""

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class CheckWeightsReqInput:
    action: str = "checksum"


@dataclass(kw_only=True)
class CheckWeightsReqOutput:
    success: bool
    message: str
    payload: Any = None
