"""The one registry that turns the name of an attack on the command line into its object."""

from collections.abc import Callable, Mapping

from ..attacks.apgd import Apgd
from ..attacks.base import Attack
from ..attacks.gmla import Gmla
from ..attacks.graph import LabelGraph
from ..attacks.jma import Jma
from ..attacks.loss_attack import LossAttack
from ..attacks.losses import worst_margin
from ..attacks.ml_cw import MlCw
from ..attacks.ml_deepfool import MlDeepFool
from ..attacks.ml_rank import MlRank1, MlRank2
from ..attacks.mla import MlaC, MlaU
from ..attacks.mla_de import MlaDe
from ..attacks.mla_lp import MlaLp
from ..attacks.pgd import Pgd
from ..attacks.tkml_ap import TkmlAp
from .attack_names import MethodName

_PLAIN: Mapping[MethodName, Callable[[], Attack]] = {
    MethodName.PGD: lambda: LossAttack(Pgd(restarts=4), worst_margin),
    MethodName.APGD: lambda: LossAttack(Apgd(restarts=4), worst_margin),
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


def build(name: MethodName, graph: LabelGraph | None) -> Attack:
    """The method with its default settings; only GMLA uses the graph."""
    return Gmla(graph) if name is MethodName.GMLA else _PLAIN[name]()
