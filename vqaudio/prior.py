"""The learned prior of codes, and the coder that a file written under one asks for."""

from __future__ import annotations

from vqaudio.container import Coder
from vqaudio.errors import ModelError


def find(fingerprint: bytes) -> Coder:
    """The coder of a prior by its fingerprint.

    Raises:
        ModelError: where no prior at hand has it.
    """
    raise ModelError(
        f"The codes were written under the prior {fingerprint.hex()}, which is not at hand; it comes with the model "
        "that made the codes, and --prior FILE names it."
    )
