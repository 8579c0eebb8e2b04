"""A problem: what is asked of which network, where."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PropertyError
from .network import Network
from .property import Property
from .region import Region


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Does ``property`` hold of the scores of ``network`` for every input in ``region``?

    Attributes:
        start: where searches begin (the clean image), or None for the centre of the region.
    """

    network: Network
    region: Region
    property: Property
    start: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check that region and property fit the network.

        Raises:
            PropertyError: when shapes or the number of labels differ.
        """
        if self.region.shape != self.network.input_shape:
            raise PropertyError(
                f"the region has shape {self.region.shape}, the network reads {self.network.input_shape}"
            )
        if self.property.labels != len(self.network.labels):
            raise PropertyError(
                f"the property speaks of {self.property.labels} scores, the network has {len(self.network.labels)}"
            )
