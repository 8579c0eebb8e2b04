"""Multi-label attacks on torch modules and tensors, and the label knowledge graph.

An attack is an object with one method, ``attack(model, images, flips, ball=..., decision=...)``; see
:mod:`.base`. What to change is a :class:`~.flips.Flips`, how scores become labels a
:class:`~.decision.Decision`, what is allowed a :class:`~.ball.Ball`::

    from mlverify.attacks.ball import Ball
    from mlverify.attacks.decision import TopK
    from mlverify.attacks.flips import Flips
    from mlverify.attacks.mla_lp import MlaLp

    flips = Flips.of(len(images), labels=10, hide=[3])
    record = MlaLp().attack(module, images, flips, ball=Ball(8 / 255), decision=TopK(2))
    record.success, record.images

Which one to take:

================  ==================  ===============================================================
module            class               for
================  ==================  ===============================================================
loss_attack       LossAttack          the quickest way to a counterexample within epsilon
mla_lp            MlaLp               the smallest L-infinity change that holds all other labels
jma, ml_cw        Jma, MlCw           the smallest L2 change: at once, or by patient optimisation
tkml_ap           TkmlAp              a top-k set, in an L2 or L-infinity ball
gmla, consistent  Gmla, Consistent    flips that agree with a label graph
mla_de            MlaDe               a network without gradients
mla               MlaU, MlaC          baselines of the literature
ml_rank           MlRank1, MlRank2    baselines of the literature
ml_deepfool       MlDeepFool          a baseline of the literature
apgd, pgd         Apgd, Pgd           engines over boxes, for any objective
================  ==================  ===============================================================

A new method subclasses :class:`~.base.Attack`, implements ``search`` and nothing else: the frame clips
its images and counts its successes.
"""
