"""How PyTorch's allocator of card memory is to behave: said in the environment, before CUDA is first used."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping

SETTING = "PYTORCH_ALLOC_CONF"
# Their names of today and of before; ROCm's. Whoever has set one of them knows what for.
_USERS_OWN = (SETTING, "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def allocator_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to `environment`: segments that grow, so that memory given back in pieces is of use as a whole.

    Nothing where the user has a setting of their own, nor where the driver cannot do it: on Windows and in its Linux.
    """
    if any(name in environment for name in _USERS_OWN) or not _can_expand():
        return {}
    return {SETTING: "expandable_segments:True"}


def _can_expand() -> bool:
    return sys.platform == "linux" and "microsoft" not in platform.release().lower()
