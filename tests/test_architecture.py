"""The house rules of docs/architecture.md, held by globs so that a new file can't slip past them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "histo"

BASE = (
    "blocks", "processes", "errors", "statistics", "weighting", "geometry", "outlines", "files", "owning", "schema",
    "timing", "wording", "out_folder", "precedence",
)  # fmt: skip
RECORDS = (*BASE, "results", "config", "training_options")
LEAVES = ("data*", "models*")

# Which room may import which; the first pattern that fits a module is its room.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "__init__": (),
    "blocks": (),
    "processes": (),
    "statistics": (),
    "weighting": (),
    "streams": (),
    "errors": (),
    "files": ("errors",),
    "owning": ("errors",),
    "out_folder": ("errors",),
    "timing": (),
    "wording": (),
    "geometry": ("errors",),
    "outlines": ("geometry", "errors"),
    "precedence": (),
    "results": BASE,
    "schema": (),
    "training_options": BASE,
    "config": (*BASE, "training_options"),
    "data*": ("data*", *RECORDS),
    "models*": ("models*", *RECORDS),
    "export*": ("export*", *RECORDS),
    "phantom*": ("phantom*", *RECORDS),
    "evidence": (*LEAVES, *RECORDS),
    "opening": (*LEAVES, *RECORDS),
    "judging": ("opening", *LEAVES, *RECORDS),
    "scoring": ("opening", *LEAVES, *RECORDS),
    "screening": ("opening", "scoring", "models*", *RECORDS),
    "infer": ("evidence", "judging", "opening", "scoring", "screening", *LEAVES, *RECORDS, "__init__"),
    "reference": ("opening", *LEAVES, *RECORDS),
    "archive*": ("archive*", "console", "export*", "infer", "opening", *LEAVES, *RECORDS),
    "learning*": ("learning*", "infer", "reference", "data*", "models*", *RECORDS, "__init__"),
    "calibrate": ("archive*", "infer", "data*", "models*", *RECORDS),
    "evaluation*": ("evaluation*", "data*", "export*", *RECORDS),
    "faithfulness": ("evaluation.deletion", "opening", *LEAVES, *RECORDS),
    "evaluate": ("evaluation*", "faithfulness", "reference", "models*", "data*", *RECORDS),
    "train": ("learning*", "infer", "data*", "models*", *RECORDS, "__init__"),
    "stress*": ("stress*", "phantom*", "export*", "infer", "console", *LEAVES, *RECORDS, "__init__"),
    "console": RECORDS,
    "demo": ("console", "archive*", "infer", "phantom*", *RECORDS),
    "labelling": ("console", "archive*", "infer", "data*", *RECORDS),
    "inspection": ("console", "infer", "data*", "export*", *RECORDS),
    "doctor": ("console", "infer", *LEAVES, *RECORDS, "__init__"),
    "cli*": ("*",),
}
# `python -m histo.infer` hands over to the command line, at the very end of these files.
HANDS_OVER = {("infer", "cli"), ("train", "cli")}
ONLY_HOME = {"openslide": "data.slide", "albumentations": "data.transforms", "pytorch_lightning": "train"}
NO_TORCH = (
    "errors",
    "geometry",
    "outlines",
    "files",
    "owning",
    "out_folder",
    "results",
    "schema",
    "wording",
    "training_options",
    "config",
    "export*",
    "archive.ledger",
    "phantom*",
)
MAX_LINES, MAX_FUNCTION_LINES = 350, 55


def modules(root: Path) -> dict[str, Path]:
    """Return all modules below `root` by dotted name, packages by their folder's name."""
    names = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield every module that is imported at run time, and whether that happens under `if __name__`."""

    def walk(node: ast.AST, at_end: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        at_end = at_end or (isinstance(node, ast.If) and "__main__" in ast.dump(node.test))
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_end) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or "", at_end
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_end)

    yield from walk(tree, False)


def violations(root: Path) -> list[str]:
    """Return every breach of the import rules and lengths below `root`, a line each."""
    found = []
    for name, path in sorted(modules(root).items()):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        room = next((pattern for pattern in MAY_IMPORT if fnmatch(name, pattern)), None)
        if room is None:
            found.append(f"{name} stands in no room")
            continue
        for imported, at_end in imports(tree):
            package, _, rest = imported.partition(".")
            if package in ONLY_HOME and ONLY_HOME[package] != name:
                found.append(f"{name} imports {package}, which only {ONLY_HOME[package]} may")
            if package != "histo":
                continue
            target = rest or "__init__"
            if at_end and (name, target) in HANDS_OVER:
                continue
            if not any(fnmatch(target, allowed) for allowed in MAY_IMPORT[room]):
                found.append(f"{name} imports {target}")
        if text.count("\n") > MAX_LINES:
            found.append(f"{name} has more than {MAX_LINES} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES:
                found.append(f"{name}.{node.name} has more than {MAX_FUNCTION_LINES} lines")
    return found


def test_imports_run_one_way_and_files_stay_small():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("geometry.py", "import histo.results", "geometry imports results"),
        ("data/new.py", "from histo.models.bundle import load_bundle", "data.new imports models.bundle"),
        ("export/new.py", "def f():\n    import openslide", "export.new imports openslide, which only data.slide may"),
        ("infer.py", "import histo.archive.local", "infer imports archive.local"),
        ("models/new.py", "import pytorch_lightning.x", "models.new imports pytorch_lightning, which only train may"),
        ("utils.py", "", "utils stands in no room"),
        ("cli.py", "x = 1\n" * 351, "cli has more than 350 lines"),
        ("cli.py", "def f():\n" + "    x = 1\n" * 60, "cli.f has more than 55 lines"),
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(path, code, expected, tmp_path):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(code)
    assert violations(tmp_path) == [expected]


def test_a_type_checking_import_is_none(tmp_path):
    (tmp_path / "geometry.py").write_text("if TYPE_CHECKING:\n    import histo.cli\n")
    assert violations(tmp_path) == []


def test_rooms_without_torch_load_without_torch():
    names = [n for n in modules(ROOT) if any(fnmatch(n, p) for p in NO_TORCH)]
    assert len(names) > 20
    code = f"import importlib, sys\nfor n in {names}: importlib.import_module('histo.' + n)\n"
    code += (
        "sys.exit(f'{sorted(sys.modules)}' if {'torch', 'pytorch_lightning', 'openslide'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_importing_histo_imports_nothing_heavy():
    code = "import sys, histo; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
