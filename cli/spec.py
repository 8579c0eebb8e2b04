"""Questions that a VNN-LIB file asks."""

from pathlib import Path

from ..errors import InputError
from ..verifier.files import sha256_of
from ..verifier.network import Network
from ..verifier.preprocessing import Preprocessing
from ..verifier.problem import Problem
from ..verifier.vnnlib import read_vnnlib
from .options import NetworkOptions
from .question import open_network
from .results import ResultFile
from .verify_output import Asked

# in the field "region" of a result
KIND = "vnnlib"


def ask_spec(model: Path, spec: Path, options: NetworkOptions) -> Asked:
    """Load a network and the file that asks about it.

    Raises:
        InputError: for an unusable file, or options that change what the network's inputs are.
    """
    if options.changes_inputs:
        raise InputError("--vnnlib speaks of the inputs of the file: leave out --mean, --std and --layout")
    # what the file declares about pixels is no matter either
    network = open_network(model, options, Preprocessing())
    problems = _problems(spec, network)
    text = f"no counterexample of {spec.name}"
    region = {"kind": KIND, "path": spec, "sha256": sha256_of(spec), "cases": len(problems)}
    fields = {"property": text, "question": {"vnnlib": spec.name}, "region": region}
    return Asked(network, None, problems, text, fields, None)


def problems_of(result: ResultFile, network: Network) -> tuple[Problem, ...]:
    """The cases of a result about a VNN-LIB file, from that very file.

    Raises:
        InputError: when the file is missing or another one.
    """
    region = result.get("region", dict)
    return _problems(result.find(region), network)


def _problems(path: Path, network: Network) -> tuple[Problem, ...]:
    return tuple(Problem(network, case.region, case.property) for case in read_vnnlib(path, network))
