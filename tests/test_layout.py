"""The house: imports run downward, without circles; a room holds what its name says; no file is too long to read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import diffmatch

ENGINE = Path(diffmatch.__path__[0])
ROOT = ENGINE.parent
ORDER = (
    *("cli", "conformance", "running", "model", "scoring", "data", "methods", "learning", "networks", "diffusion"),
    *("records", "progress", "settings", "plugins", "readers", "invented", "domain", "card", "shared"),
)
"""The rooms from the top floor down. A room imports rooms after it; the commands alone import the reports."""
PLUGIN_SURFACE = {"domain", "readers", "invented"}
"""What a dataset plugin may import of the engine."""
REPORTS_MAY = {"card", "domain", "progress", "records", "scoring.metrics", "settings", "shared"}
"""What the reports may import of the engine: no network, no plugin, no torch."""
LONGEST = 350


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also late and for types alone."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            modules |= {f"{node.module}.{name.name}" for name in node.names}
    return modules


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "tests" not in path.relative_to(folder).parts)


def room(path: Path) -> str:
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def engine_rooms(path: Path) -> set[str]:
    return {module.split(".")[1] for module in imported(path) if module.startswith("diffmatch.")}


@pytest.mark.parametrize("path", sources(ENGINE), ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_imports_run_downward(path):
    own = room(path)
    if own == "__init__":
        return
    above = {name for name in engine_rooms(path) - {own} if name in ORDER and ORDER.index(name) < ORDER.index(own)}
    assert not above, f"{path.name} is in {own}/ and imports upward: {', '.join(sorted(above))}"
    assert own == "cli" or not any(module.startswith("diffmatch_") for module in imported(path))


def test_every_room_has_its_floor():
    rooms = {room(path) for path in sources(ENGINE)} - {"__init__"}
    assert rooms <= set(ORDER), f"name the floor of {rooms - set(ORDER)} in ORDER"


def test_no_circle_between_modules():
    """Within a room too, no module imports itself through others. Imports for types never run and do not count."""
    names = {path: "diffmatch." + ".".join(path.relative_to(ENGINE).with_suffix("").parts) for path in sources(ENGINE)}
    known = set(names.values())
    arrows: dict[str, set[str]] = {}
    for path, name in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
        typed = {id(inner) for block in blocks for inner in ast.walk(block)}
        wanted = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typed:
                wanted |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
        arrows[name] = (wanted & known) - {name}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in sorted(arrows[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


def test_methods_holds_methods_only():
    """Each file defines a class that is installed as a method, or the one that it was made for."""
    points = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in sources(ENGINE / "methods"):
        if path.name != "__init__.py":
            entry = f'= "diffmatch.methods.{path.stem}:'
            assert entry in points, f"methods/{path.name} is no method; learning/ has what they share"


@pytest.mark.parametrize("path", sources(ROOT / "datasets"), ids=lambda path: path.name)
def test_a_plugin_imports_the_plugin_surface_alone(path):
    assert engine_rooms(path) <= PLUGIN_SURFACE


@pytest.mark.parametrize("path", sources(ROOT / "reports"), ids=lambda path: path.name)
def test_reports_read_records_and_never_a_model(path):
    for module in imported(path):
        if module.startswith("diffmatch."):
            rooms = module.removeprefix("diffmatch.")
            assert any(rooms == name or rooms.startswith(f"{name}.") for name in REPORTS_MAY), module
        assert module.split(".")[0] != "torch"


def test_files_can_be_read_at_one_sitting():
    long = {}
    for folder in (ENGINE, ROOT / "reports", ROOT / "datasets", ROOT / "benchmarks", ROOT / "tests"):
        for path in folder.rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > LONGEST:
                long[path.relative_to(ROOT).as_posix()] = lines
    assert not long
