"""torch, imported so that its threads sleep while they have nothing to do.

OpenMP's threads wait for work by spinning. On a machine that does something else too (decoding the next pictures, say) they take
the time away from those they wait for: a picture through EfficientNet-Lite0 on two busy cores took 0.5 s of either, and takes
0.01 s of both with threads that sleep.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from outcrop.schema.starting import importing

POLICY = "OMP_WAIT_POLICY"
COUNT = "GOMP_SPINCOUNT"
"""What a person says about this in the environment is left as it is."""


def import_torch() -> None:
    """Imports torch, if nobody has yet; whoever may be the first calls it before ``import torch``."""
    with importing(), _sleeping():
        importlib.import_module("torch")


@contextmanager
def _sleeping() -> Iterator[None]:
    """OpenMP reads the environment once, when it is loaded; programs that we start later find it as it was."""
    if POLICY in os.environ or COUNT in os.environ:
        yield
        return
    os.environ[POLICY] = "PASSIVE"
    try:
        yield
    finally:
        os.environ.pop(POLICY, None)
