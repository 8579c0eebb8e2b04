"""The checkout is the package: its list of packages, its layers, its imports, its wheel."""

import ast
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import mlverify
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("attacks", "models", "verifier", "synthesis", "evaluation", "benchmarks", "cli")
# What each folder may import from its neighbours; adam.py, errors.py, memory.py and the version are for all.
MAY_IMPORT = {
    "attacks": set(),
    "models": {"attacks"},
    "verifier": {"attacks"},
    "synthesis": {"verifier", "attacks"},
    "evaluation": {"attacks", "models", "verifier"},
    "benchmarks": {"attacks", "models", "verifier", "synthesis", "evaluation", "cli"},
    "cli": {"attacks", "models", "verifier", "synthesis", "evaluation", "benchmarks"},
}
FOR_ALL = {"adam", "arrays", "errors", "memory", "__version__"}


def imported_neighbours(path, *, lazy):
    """Names directly under ``mlverify`` that a file imports; inside functions too when ``lazy``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.walk(tree) if lazy else at_import(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == depth:
                found |= {module.split(".")[0]} if module else {alias.name for alias in node.names}
            elif node.level == 0 and module.split(".")[0] == "mlverify":
                found |= {module.split(".")[1]} if "." in module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "mlverify" and len(name) > 1}
    return found


def at_import(tree):
    """Nodes that run when the module is imported: not in functions, not under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_list_of_packages_is_that_of_the_folders():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"mlverify"}
    for folder in FOLDERS:
        for path in files(folder):
            if path.name == "__init__.py":
                found.add(".".join(("mlverify", *path.parent.relative_to(ROOT).parts)))
    assert sorted(found) == sorted(listed)
    # no folder with code is forgotten
    others = {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(FOLDERS) - {"tests"}
    assert {name for name in others if not name.startswith(".") and name not in ("build", "dist")} == set()
    for folder in FOLDERS:
        for path in files(folder):
            assert (path.parent / "__init__.py").is_file(), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_what_lies_below_them(folder):
    for path in files(folder):
        allowed = MAY_IMPORT[folder] | FOR_ALL | {folder}
        assert imported_neighbours(path, lazy=True) <= allowed, path


def test_folders_do_not_import_one_another_in_a_circle():
    below = {
        folder: set().union(*(imported_neighbours(path, lazy=False) for path in files(folder))) & set(FOLDERS)
        for folder in FOLDERS
    }
    left = {folder: names - {folder} for folder, names in below.items()}
    while left:
        free = {folder for folder, names in left.items() if not names & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {folder: names for folder, names in left.items() if folder not in free}


def test_nothing_below_the_command_line_prints():
    for folder in ("attacks", "models", "verifier", "synthesis"):
        for path in files(folder):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), (
                path
            )


@pytest.mark.parametrize("name", mlverify.__all__)
def test_every_public_name_resolves(name):
    assert getattr(mlverify, name) is not None
    assert name in dir(mlverify)


def test_other_names_do_not():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        mlverify.nonsense  # noqa: B018


def test_public_names_are_typed_too():
    """The names for type checkers are the same as those that resolve."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname for node in block.body for alias in node.names}
    assert typed | {"__version__"} == set(mlverify.__all__)


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "matplotlib", "highspy", "gurobipy")
    code = f"import sys, mlverify; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert declared == mlverify.__version__


def can_build():
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("setuptools") is None:
        return False
    return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77


@pytest.mark.slow
@pytest.mark.skipif(not can_build(), reason="needs build and setuptools >= 77")
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "runs")
    shutil.copytree(ROOT, source, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in FOLDERS:
        for path in files(folder):
            assert f"mlverify/{path.relative_to(ROOT).as_posix()}" in names
    for path in (ROOT / "models" / "zoo").iterdir():
        if path.is_file():
            assert f"mlverify/models/zoo/{path.name}" in names
    assert {"mlverify/py.typed", "mlverify/__init__.py", "mlverify/__main__.py", "mlverify/api.py"} <= names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"mlverify"}
    assert not any(name.startswith("mlverify/tests") for name in names)
