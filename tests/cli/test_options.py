import click
import pytest
from click.testing import CliRunner
from mlverify.cli.labels import find_label
from mlverify.cli.option_types import EpsilonType, parse_epsilon
from mlverify.cli.options import (
    DecisionOptions,
    DeviceName,
    EngineOptions,
    NetworkOptions,
    SolverName,
    decision_options,
    engine_options,
    network_options,
    output_options,
)
from mlverify.errors import InputError
from mlverify.verifier.preprocessing import Layout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2/255", 2 / 255),
        ("0.01", 0.01),
        ("1e-3", 1e-3),
        (" 2 / 255 ", 2 / 255),
        ("0", 0.0),
        ("1", 1.0),
        ("255/255", 1.0),
    ],
)
def test_epsilons(text, value):
    assert parse_epsilon(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "write 8/255"),
        ("-0.1", "negative"),
        ("nan", "not an epsilon"),
        ("inf", "not an epsilon"),
        ("1/0", "not an epsilon"),
        ("", "not an epsilon"),
        ("two", "not an epsilon"),
        ("1e400", "above 1|not an epsilon"),
    ],
)
def test_what_is_no_epsilon(text, message):
    with pytest.raises(InputError, match=message):
        parse_epsilon(text)


LABELS = ("cat", "Dog", "3", "horse")


@pytest.mark.parametrize(
    ("text", "number"), [("cat", 0), ("dog", 1), ("Dog", 1), ("3", 2), ("1", 1), (" horse ", 3)]
)
def test_labels_by_name_first_then_number(text, number):
    assert find_label(LABELS, text) == number


@pytest.mark.parametrize(
    ("text", "message"), [("hors", "did you mean horse"), ("4", "labels are cat"), ("-1", "labels are")]
)
def test_labels_that_do_not_exist(text, message):
    with pytest.raises(InputError, match=message):
        find_label(LABELS, text)


def options_of(decorator, *arguments):
    """The dataclass that a decorator hands over for these arguments."""
    seen = []

    @click.command()
    @decorator
    def command(**values):
        seen.extend(values.values())

    run = CliRunner().invoke(command, list(arguments))
    assert run.exit_code == 0, run.output
    return seen[0]


def test_defaults():
    assert options_of(network_options) == NetworkOptions(None, (), (), None)
    assert options_of(decision_options) == DecisionOptions(None, None, None)
    assert options_of(engine_options) == EngineOptions(SolverName.AUTO, None, DeviceName.AUTO, None, 0)


def test_values():
    found = options_of(network_options, "--mean", "0.5,1/4", "--std", "0.2", "--layout", "nhwc")
    assert (found.mean, found.std, found.layout) == ((0.5, 0.25), (0.2,), Layout.NHWC)
    engines = options_of(
        engine_options, "--solver", "highs", "--timeout", "2.5", "--device", "cpu", "--threads", "1"
    )
    assert engines == EngineOptions(SolverName.HIGHS, 2.5, DeviceName.CPU, 1, 0)


@pytest.mark.parametrize(
    ("decorator", "arguments", "message"),
    [
        (network_options, ["--mean", "123.7,116.3,103.5"], "divide by 255"),
        (network_options, ["--mean", "a"], "not a list of numbers"),
        (network_options, ["--layout", "hwc"], "not one of nchw, nhwc"),
        (engine_options, ["--timeout", "0"], "positive"),
        (engine_options, ["--timeout", "nan"], "positive"),
        (engine_options, ["--solver", "cplex"], "not one of auto, highs, gurobi"),
        (decision_options, ["--k", "0"], "x>=1"),
        (output_options, ["--format", "xml"], "not one of text, json"),
        (click.option("--eps", type=EpsilonType()), ["--eps", "8"], "write 8/255"),
    ],
)
def test_bad_values_are_usage_errors(decorator, arguments, message):
    @click.command()
    @decorator
    def command(**values):
        pass

    run = CliRunner().invoke(command, arguments)
    assert run.exit_code == 2
    assert message in " ".join(run.stderr.split())
