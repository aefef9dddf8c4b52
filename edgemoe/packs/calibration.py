"""What is known of the inputs that experts see, which tells the encoders which weights matter."""

from __future__ import annotations

from typing import Protocol

from edgemoe.packs.planes import Floats


class Calibration(Protocol):
    """Statistics of the inputs of expert tensors. Methods are called from several threads at once."""

    @property
    def fingerprint(self) -> str:
        """Differs wherever the statistics differ: packs of different fingerprints are not mixed when resuming."""

    def input_of(self, tensor: str) -> str:
        """Names the input of a tensor: tensors of one name see the same, and have the same statistics."""

    def importance(self, tensor: str, expert: int) -> Floats | None:
        """The second moment of each input channel: float32 [columns]; None where the expert was never used."""

    def mean_input(self, tensor: str, expert: int) -> Floats | None:
        """The mean of each input channel: float32 [columns], or None."""

    def hessian(self, tensor: str, expert: int) -> Floats | None:
        """The second moments of pairs of input channels: float32 [columns, columns], or None."""
