"""Who may import whom: the dependency rule as two tables, held against every import in src/; what stays unloaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlmsift

ROOT = Path(vlmsift.__file__).parent

# A part may import what stands in its line and itself, which stands above it: top to bottom is the data's way.
MAY_IMPORT = {
    "types": "",
    "errors": "",
    "tables": "",
    "texts": "",
    "parameters": "errors",
    "specs": "errors parameters",
    "files": "errors",
    "folders": "errors files",
    "places": "errors files folders",
    "pools": "types errors texts files places specs",
    "models": "types errors specs",
    "passes": "types errors parameters models",
    "signals": "types errors parameters models passes",
    "proofs": "types errors models passes",
    "check": "types errors models passes proofs",
    "runs": "types errors files folders places pools models",
    "scoring": "types errors files folders specs pools models passes signals proofs runs",
    "proxy": "errors runs",
    "plants": "errors specs places pools runs scoring types",
    "choosing": "types errors texts parameters places runs",
    "selectors": "types errors parameters choosing",
    "selecting": "types errors parameters runs choosing selectors",
    "augment": "types errors parameters files models passes runs",
    "train": "types errors parameters files specs places pools models proofs scoring",
    "evaluate": "types errors specs pools models scoring train",
    "methods": "types errors parameters specs places pools models signals runs scoring proxy plants choosing selectors "
    "selecting train",
    "experiment": "types errors parameters tables specs files folders places pools models signals runs scoring plants "
    "choosing selectors selecting augment train evaluate methods",
    "calibrate": "types errors parameters tables specs files pools models passes signals runs scoring plants selecting "
    "train experiment",
    "report": "types errors tables parameters specs files folders pools models passes signals runs proxy choosing",
    "terminal": "types errors tables signals check runs scoring choosing train methods experiment calibrate report",
    "demo": "types errors specs files pools models runs scoring plants selectors selecting train evaluate methods "
    "report terminal",
    "cli": "types errors parameters specs folders models check runs scoring choosing selecting augment train methods "
    "experiment calibrate report terminal demo",
    "__main__": "cli",
    "__init__": "types specs pools models runs scoring choosing selectors selecting augment methods",
}

# The only places that may import a library, in any way; elsewhere it would make importing dear or the layer impure.
ONLY_IN = {
    "torch": "models/ passes/ signals/ scoring/ proofs.py check.py augment/ train/ evaluate.py",
    "transformers": "models/ passes/intervene.py train/",
    "pyarrow": "folders.py places.py pools/ choosing/ selectors/ selecting.py runs/ proxy.py augment/rankings.py "
    "calibrate/ experiment/ report/",
    "datasets": "pools/",
    "duckdb": "runs/",
    "sklearn": "choosing/ selectors/ plants/ proxy.py demo/",
    "scipy": "choosing/ selectors/ proxy.py calibrate/",
    "matplotlib": "demo/ experiment/",
    "rich": "terminal/",
    "jinja2": "report/",
    "markupsafe": "report/",
    "umap": "report/",
    "typer": "cli/",
    "peft": "train/",
    "yaml": "signals/config.py calibrate/ train/configs.py experiment/",
    "fsspec": "folders.py",
    "ray": "scoring/ray_actors.py",
}

# Peers: the members of a family, which never import each other.
PEERS = {
    "signals": {path.stem for path in (ROOT / "signals").glob("*.py")} - {"__init__", "config"},
    "pools": {"llava", "messages", "sharegpt"},
    "selectors": {path.stem for path in (ROOT / "selectors").glob("*.py")} - {"__init__"},
    "augment": {"attended", "token_level_masking", "head_mask", "answer_mask", "neftune"},
}

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def statements(tree: ast.AST, for_types: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import below `tree`, also inside functions; True where it only serves type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, for_types
        only_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        yield from statements(node, for_types or only_types)


def imports(file: str, for_types: bool) -> set[str]:
    """Dotted names that a file imports, at run time and, where asked for, for type checkers."""
    found = set()
    for node, only_types in statements(ast.parse((ROOT / file).read_text())):
        if only_types and not for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            # `from vlmsift import store` names a module, `from vlmsift.runs.run import Run` a thing in one
            found |= {
                f"{node.module}.{name.name}" if node.module == "vlmsift" else str(node.module) for name in node.names
            }
    return found


def part_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def test_the_first_table_names_every_part_and_no_other():
    assert {part_of(file) for file in FILES} == set(MAY_IMPORT)


def test_the_first_table_stands_in_a_line():
    """Only what stands above may be imported, so there is no circle among the parts."""
    parts = list(MAY_IMPORT)
    for place, part in enumerate(parts):
        assert set(MAY_IMPORT[part].split()) <= set(parts[:place]), part


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_part_may(file):
    part = part_of(file)
    names = {name.split(".")[1] for name in imports(file, for_types=True) if name.startswith("vlmsift.")}
    seen = {name for name in names if name in MAY_IMPORT}
    assert seen <= {part, *MAY_IMPORT[part].split()}


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_no_library_that_is_kept_to_other_places(file):
    libraries = {name.split(".")[0] for name in imports(file, for_types=False)}
    places = {library: ONLY_IN[library].split() for library in libraries & set(ONLY_IN)}
    assert [name for name, allowed in places.items() if not file.startswith(tuple(allowed))] == []


@pytest.mark.parametrize("part", PEERS)
def test_peers_do_not_import_each_other(part):
    for peer in PEERS[part]:
        others = {f"vlmsift.{part}.{other}" for other in PEERS[part] - {peer}} | {f"vlmsift.{part}"}
        assert imports(f"{part}/{peer}.py", for_types=True) & others == set(), peer


def test_a_line_of_the_first_table_is_used():
    """A right that nobody needs is taken back."""
    used: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for file in FILES:
        names = {name.split(".")[1] for name in imports(file, for_types=True) if name.startswith("vlmsift.")}
        used[part_of(file)] |= names
    common = {"types", "errors"}
    assert {part: set(line.split()) - used[part] - common for part, line in MAY_IMPORT.items()} == {
        part: set() for part in MAY_IMPORT
    }


HEAVY = ["torch", "transformers", "pyarrow", "datasets", "duckdb", "sklearn", "matplotlib", "numpy"]


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import vlmsift", ""),
        ("import vlmsift; vlmsift.Sample, vlmsift.Signal", ""),
        ("import vlmsift.errors, vlmsift.types", ""),
        ("import sys; sys.argv = ['vlmsift', '--help']; from vlmsift.cli import main; main()", ""),
        ("import sys; sys.argv = ['vlmsift', 'score', '--help']; from vlmsift.cli import main; main()", ""),
        ("import sys; sys.argv = ['vlmsift', 'train', '--help']; from vlmsift.cli import main; main()", ""),
        ("import vlmsift.train", ""),
        ("import vlmsift; vlmsift.open_pool", "pyarrow numpy"),
        ("import vlmsift; vlmsift.Run", "pyarrow numpy"),
        ("import vlmsift.selectors", "pyarrow numpy"),
        ("import vlmsift; vlmsift.score, vlmsift.sift", "pyarrow numpy"),
        ("import vlmsift; vlmsift.select, vlmsift.Selection, vlmsift.Top", "pyarrow numpy"),
    ],
)
def test_what_is_not_needed_stays_unloaded(program, allowed):
    told = f"import sys, atexit; atexit.register(lambda: print('LOADED', *(set({HEAVY}) & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", f"{told}\n{program}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert loaded <= set(allowed.split())
