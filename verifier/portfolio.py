"""The portfolio: who is asked, for how long, in which order; and what an answer rests on."""

import math
from collections.abc import Callable
from dataclasses import replace

from ..errors import SolverUnavailableError
from .bounds_engine import BoundsEngine, BoundsOutcome, atom_interval
from .budget import Budget
from .cover import possible_atoms
from .falsify import Falsifier
from .interval import Interval
from .lirpa import LirpaBounds
from .milp import MilpOutcome, MilpSettings, solve_clause
from .milp_encoding import Refuted
from .milp_gurobi import GurobiBackend
from .milp_highs import HighsBackend
from .milp_model import MilpBackend
from .network import Network
from .problem import Problem
from .property import Clause
from .replay import Replay
from .result import Result, Stage
from .run import Run
from .settings import ALL_ENGINES as ALL_ENGINES
from .settings import Engine as Engine
from .settings import Settings as Settings
from .settings import Solver as Solver
from .threads import few_threads
from .torch_network import TorchNetwork

Notice = Callable[[str], None]


def silent(message: str) -> None:
    """The notice that goes nowhere."""
    del message


def unwatched(stage: Stage) -> None:
    """The observer of stages that does nothing."""
    del stage


class Verifier:
    """Answers questions about one network; keeps what is prepared once."""

    def __init__(
        self,
        network: Network,
        settings: Settings | None = None,
        notice: Notice = silent,
        watch: Callable[[Stage], None] = unwatched,
    ) -> None:
        """Prepare the engines.

        Args:
            network: the network.
            settings: solver, threads, seed, device, engines.
            notice: told once about each fallback.
            watch: told about every stage when it ends.
        """
        self.watch = watch
        self.network = network
        self.settings = settings or Settings()
        self.replay = Replay(network)
        self.bounds = BoundsEngine(network, self.settings.device)
        self.falsifier = Falsifier(TorchNetwork(network), self.replay, self.settings.device)
        self._notice = notice
        self._told: set[str] = set()

    def tell(self, subject: str, message: str) -> None:
        """Pass a notice on, once per subject."""
        if subject not in self._told:
            self._told.add(subject)
            self._notice(message)

    def second_opinion(self, problem: Problem) -> BoundsOutcome | None:
        """Bounds by auto_LiRPA, None where it can't give them."""
        try:
            lirpa = LirpaBounds(self.network)
            uppers = [
                lirpa.upper(problem.region, clause.weights) + clause.offsets
                for clause in problem.property.clauses
            ]
        except SolverUnavailableError as error:
            self.tell("auto_LiRPA", f"{error}; there is no second opinion on bounds")
            return None
        known = self.bounds.crown(problem.region, problem.property)
        return self.bounds.judge(problem.property, known.values, uppers)

    def verify(self, problem: Problem, budget: Budget | None = None) -> Result:
        """Ask the engines in order of cost until one decides.

        ``holds`` comes with a negative bound on the margin, ``violated`` with a witness that onnxruntime
        replayed on the user's file; everything else is ``unknown`` with its reason.
        """
        with few_threads():
            return Run(self, problem, budget or Budget()).decide()

    def solve_milp(
        self,
        problem: Problem,
        known: BoundsOutcome,
        clause: int,
        budget: Budget,
    ) -> MilpOutcome:
        """The MILP's word on one clause, by Gurobi where it is wanted and able, else by HiGHS."""
        settings = MilpSettings(self.settings.threads, self.settings.seed)
        if self.settings.solver is not Solver.HIGHS:
            try:
                return self._solve_with(GurobiBackend(), problem, known, clause, budget, settings)
            except SolverUnavailableError as error:
                self.tell("gurobi", f"{error}; HiGHS solves what Gurobi may not")
        return self._solve_with(HighsBackend(), problem, known, clause, budget, settings)

    def _solve_with(
        self,
        backend: MilpBackend,
        problem: Problem,
        known: BoundsOutcome,
        position: int,
        budget: Budget,
        settings: MilpSettings,
    ) -> MilpOutcome:
        clause, said = problem.property.clauses[position], known.clauses[position]
        atoms = atom_interval(clause, said, known.values[self.network.output])
        # pairs that are proven not to reach the target together leave few atoms that can take part
        chosen, left_out = possible_atoms(clause.atoms, clause.needed, said.refuted), -math.inf
        refuted = Refuted(said.refuted, said.refuted_bound)
        if clause.needed <= len(chosen) < clause.atoms:
            left_out = said.refuted_bound
            clause = Clause(clause.weights[chosen], clause.offsets[chosen], clause.needed)
            atoms = Interval(atoms.lower[chosen], atoms.upper[chosen])
            refuted = refuted.renumbered(chosen)
        outcome = solve_clause(self.network, known.values, clause, backend, budget, settings, atoms, refuted)
        # the margin of a point may be that of a refuted set, which the program does not see
        return replace(outcome, bound=max(outcome.bound, left_out))
