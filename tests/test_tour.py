"""The notebook `experiments/tour.ipynb`."""

import ast
import importlib

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import REPOSITORY

NOTEBOOK = REPOSITORY / "experiments/tour.ipynb"


def test_its_cells_are_python_and_what_they_import_is_there():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for node in (node for cell in cells for node in ast.walk(ast.parse(cell))):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of the kernel's own
def test_it_runs(monkeypatch, tmp_path):
    """From its folder, as it is opened; without a network, and leaving nothing behind there."""
    places = {"PYTHONPATH": REPOSITORY, "IPYTHONDIR": tmp_path, "TMPDIR": tmp_path}
    for name, value in {"HF_HUB_OFFLINE": 1, **places}.items():
        monkeypatch.setenv(name, str(value))
    before = sorted(NOTEBOOK.parent.iterdir())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert sorted(NOTEBOOK.parent.iterdir()) == before
    roles = next(cell for cell in notebook.cells if "roles.round" in cell.source)
    assert "verdict" in roles.outputs[-1].data["text/plain"]
