"""Imports go one way, down the list of rooms; each room says what belongs there; no file is too long to read."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "depthlab"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = """
    __main__
    cli
    commands
    reports
    callbacks
    render
    analysis
    tasks
    data
    models
    metrics optim
    run
    files hub_errors
    errors kinds version
"""
RANKS = {room: rank for rank, line in enumerate(ROOMS.split("\n")) for room in line.split()}
PACKAGES = [path for path in MODULES.values() if path.name == "__init__.py" and path.parent != PACKAGE]


def imports(path, for_types=True):
    """Modules of ours that a file imports, within functions, too; those for types only on demand."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in [] if for_types else ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            submodules = {f"{node.module}.{name.name}" for name in node.names}
            found |= submodules & MODULES.keys() or {node.module}
    return {name for name in found if name.partition(".")[0] == "depthlab"}


def room_of(name):
    return name.split(".")[1]


def test_every_room_is_in_the_list():
    assert {room_of(name) for name in MODULES if "." in name} == RANKS.keys()


def test_imports_go_down():
    arrows = [
        f"{name} -> {other}"
        for name, path in MODULES.items()
        for other in imports(path)
        if "." in name and room_of(name) != room_of(other) and RANKS[room_of(name)] >= RANKS[room_of(other)]
    ]
    assert not arrows


def test_imports_have_no_circle():
    """Modules, not packages: an `__init__` may gather what its modules define."""
    modules = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}
    graph = {name: imports(path, for_types=False) & modules.keys() for name, path in modules.items()}
    TopologicalSorter(graph).prepare()


def test_a_room_says_what_belongs_there():
    docstrings = {path.parent.name: ast.get_docstring(ast.parse(path.read_text())) or "" for path in PACKAGES}
    assert not [room for room, text in docstrings.items() if not 1 <= len(text.splitlines()) <= 4]


def test_a_file_can_be_read_at_once():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length > 350}
