"""The one registry that turns the name of an attack on the command line into its object."""

from collections.abc import Callable, Mapping

from ..attacks.apgd import Apgd
from ..attacks.base import Attack
from ..attacks.consistent import Consistent
from ..attacks.gmla import Gmla
from ..attacks.graph import LabelGraph
from ..attacks.jma import Jma
from ..attacks.loss_attack import LossAttack
from ..attacks.ml_cw import MlCw
from ..attacks.ml_deepfool import MlDeepFool
from ..attacks.ml_rank import MlRank1, MlRank2
from ..attacks.mla import MlaC, MlaU
from ..attacks.mla_de import MlaDe
from ..attacks.mla_lp import MlaLp
from ..attacks.pgd import Pgd
from ..attacks.tkml_ap import TkmlAp
from ..errors import InputError
from .attack_names import MethodName

_PLAIN: Mapping[MethodName, Callable[[], Attack]] = {
    MethodName.PGD: lambda: LossAttack(Pgd(restarts=4)),
    MethodName.APGD: lambda: LossAttack(Apgd(restarts=4)),
    MethodName.MLA_U: MlaU,
    MethodName.MLA_C: MlaC,
    MethodName.MLA_LP: MlaLp,
    MethodName.ML_CW: MlCw,
    MethodName.ML_RANK1: MlRank1,
    MethodName.ML_RANK2: MlRank2,
    MethodName.ML_DEEPFOOL: MlDeepFool,
    MethodName.TKML_AP: TkmlAp,
    MethodName.JMA: Jma,
    MethodName.MLA_DE: MlaDe,
}


def build(name: MethodName, graph: LabelGraph | None, *, consistent: bool = False) -> Attack:
    """The method with its default settings.

    Args:
        name: of the method.
        graph: of the labels; GMLA uses it in any case.
        consistent: whether the other methods use it too.

    Raises:
        InputError: consistency is asked for without a graph.
    """
    if name is MethodName.GMLA:
        return Gmla(graph)
    if not consistent:
        return _PLAIN[name]()
    if graph is None:
        raise InputError("--consistent needs a label graph; give --graph voc, coco or a JSON file")
    return Consistent(_PLAIN[name](), graph)
