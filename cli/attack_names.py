"""The names of the attacks, apart from their objects so that ``--help`` imports no torch."""

from enum import StrEnum


class MethodName(StrEnum):
    """Attacks by the names of their papers."""

    PGD = "pgd"
    APGD = "apgd"
    MLA_U = "mla-u"
    MLA_C = "mla-c"
    MLA_LP = "mla-lp"
    ML_CW = "ml-cw"
    ML_RANK1 = "ml-rank1"
    ML_RANK2 = "ml-rank2"
    ML_DEEPFOOL = "ml-deepfool"
    TKML_AP = "tkml-ap"
    GMLA = "gmla"
    JMA = "jma"
    MLA_DE = "mla-de"

    @property
    def needs_budget(self) -> bool:
        """Whether the method fills a ball; the others look for the smallest change."""
        return self in _BALL_METHODS


_BALL_METHODS = {
    MethodName.PGD,
    MethodName.APGD,
    MethodName.MLA_U,
    MethodName.MLA_C,
    MethodName.TKML_AP,
    MethodName.GMLA,
    MethodName.MLA_DE,
}
