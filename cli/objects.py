"""The object of a question: from a mask, or found by the network, with the layers around it."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..synthesis.layers import ObjectLayers, read_mask
from ..synthesis.localisation import Localisation, Method, locate
from ..verifier.session import Judge
from .question import Question

# Below this share of the evidence the user should look at the object before trusting it.
_DOUBTFUL = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class FoundObject:
    """An object and its layers.

    Attributes:
        layers: the object's mask and the distance of every pixel from it.
        localisation: how it was found, None when the user gave a mask.
    """

    layers: ObjectLayers
    localisation: Localisation | None

    @property
    def doubt(self) -> str | None:
        """What to tell the user about an uncertain localisation, None when there is nothing to say."""
        found = self.localisation
        if found is None or (found.method is not Method.SALIENCY and found.confidence >= _DOUBTFUL):
            return None
        how = f"{found.method} with {found.confidence:.0%} of the evidence"
        return f"the object was found by {how} only; check it in the figure or pass --mask PNG"


def find_object(question: Question, label: int | None, mask: Path | None) -> FoundObject:
    """The object whose surroundings are asked about.

    Args:
        question: network and image.
        label: whose object is wanted; needed without a mask. The other predicted labels are its rivals.
        mask: a PNG that marks the object; it wins over ``label``.

    Raises:
        InputError: when the network reads no images, or neither a mask nor a label is given.
        ImageError: when the mask can't be used or no object is found.
    """
    if len(question.image.shape) != 3:
        raise InputError(
            f"{question.network.path} reads inputs of shape {question.image.shape}; layers need images"
        )
    if mask is not None:
        height, width = question.image.shape[1:]
        return FoundObject(ObjectLayers.around(read_mask(mask, (height, width))), None)
    if label is None:
        raise InputError(
            "which object may change is not clear; name its label with --object or mark it with --mask"
        )
    found = locate(Judge(question.network).logits, question.image, label, question.predicted)
    return FoundObject(ObjectLayers.around(found.mask), found)
