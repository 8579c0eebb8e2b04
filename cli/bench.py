"""``mlverify bench SUITE``: the benchmarks behind the tables of the README."""

import ast
import difflib
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import click

from ..errors import InputError
from .render import print_table

_FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def suites() -> Mapping[str, str]:
    """The modules that are commands, by name, with the first line of their documentation; none is imported."""
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.py"))}
    return {
        name: (ast.get_docstring(tree) or "").splitlines()[0]
        for name, tree in trees.items()
        if any(isinstance(item, ast.FunctionDef) and item.name == "main" for item in tree.body)
    }


@click.command("bench", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("suite", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench_command(suite: str | None, arguments: tuple[str, ...]) -> None:
    """Run the benchmark SUITE with its own ARGUMENTS; without SUITE, list them all.

    `mlverify bench SUITE --help` says what it measures and what it needs. The same as
    `python -m mlverify.benchmarks.SUITE`.
    """
    known = suites()
    if suite is None:
        print_table(("suite", "what it measures"), list(known.items()))
        return
    if suite not in known:
        near = difflib.get_close_matches(suite, known, n=3) or list(known)
        raise InputError(f"there is no benchmark '{suite}'; did you mean {', '.join(near)}?")
    sys.argv = [f"mlverify bench {suite}", *arguments]
    try:
        import_module(f"...benchmarks.{suite}", __name__).main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise InputError(ended.code.removeprefix("error: ")) from None
        raise
