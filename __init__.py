"""mlverify: formal verification of multi-label neural networks.

The names below are the public interface; they are imported when first used, so that
``import mlverify`` and ``mlverify --help`` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .api import all_labels as all_labels
    from .api import find_object as find_object
    from .api import find_objects as find_objects
    from .api import load as load
    from .api import synthesize as synthesize
    from .api import verify as verify
    from .api import weakest_points as weakest_points
    from .errors import MlverifyError as MlverifyError
    from .synthesis.largest_margin import WeakestPoint as WeakestPoint
    from .synthesis.largest_margin import WeakestPoints as WeakestPoints
    from .synthesis.layers import Bands as Bands
    from .synthesis.layers import ObjectLayers as ObjectLayers
    from .synthesis.objective import Objective as Objective
    from .synthesis.problem import SynthesisSettings as SynthesisSettings
    from .synthesis.result import Synthesis as Synthesis
    from .synthesis.shape import Order as Order
    from .synthesis.shape import Shape as Shape
    from .verifier.image import load_image as load_image
    from .verifier.label_answers import LabelsResult as LabelsResult
    from .verifier.label_answers import LabelVerdict as LabelVerdict
    from .verifier.label_rules import ThresholdRule as ThresholdRule
    from .verifier.label_rules import TopKRule as TopKRule
    from .verifier.network import Network as Network
    from .verifier.portfolio import Settings as Settings
    from .verifier.preprocessing import Preprocessing as Preprocessing
    from .verifier.property import Property as Property
    from .verifier.property import not_top_k as not_top_k
    from .verifier.property import ranked_above as ranked_above
    from .verifier.property import threshold as threshold
    from .verifier.property import threshold_set as threshold_set
    from .verifier.property import top_k as top_k
    from .verifier.property import top_k_set as top_k_set
    from .verifier.region import Layered as Layered
    from .verifier.region import Region as Region
    from .verifier.result import Result as Result
    from .verifier.result import Verdict as Verdict

_HOMES = {
    "Bands": ".synthesis.layers",
    "LabelVerdict": ".verifier.label_answers",
    "LabelsResult": ".verifier.label_answers",
    "Layered": ".verifier.region",
    "MlverifyError": ".errors",
    "Network": ".verifier.network",
    "Objective": ".synthesis.objective",
    "ObjectLayers": ".synthesis.layers",
    "Order": ".synthesis.shape",
    "Preprocessing": ".verifier.preprocessing",
    "Property": ".verifier.property",
    "Region": ".verifier.region",
    "Result": ".verifier.result",
    "Settings": ".verifier.portfolio",
    "Shape": ".synthesis.shape",
    "Synthesis": ".synthesis.result",
    "SynthesisSettings": ".synthesis.problem",
    "ThresholdRule": ".verifier.label_rules",
    "TopKRule": ".verifier.label_rules",
    "Verdict": ".verifier.result",
    "WeakestPoint": ".synthesis.largest_margin",
    "WeakestPoints": ".synthesis.largest_margin",
    "all_labels": ".api",
    "find_object": ".api",
    "find_objects": ".api",
    "load": ".api",
    "load_image": ".verifier.image",
    "not_top_k": ".verifier.property",
    "ranked_above": ".verifier.property",
    "synthesize": ".api",
    "threshold": ".verifier.property",
    "threshold_set": ".verifier.property",
    "top_k": ".verifier.property",
    "top_k_set": ".verifier.property",
    "verify": ".api",
    "weakest_points": ".api",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlverify' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
