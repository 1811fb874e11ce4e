"""The tests of the installed transformers, out of its source distribution."""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

LEFT_OUT = {  # what the common tests import, and the source distribution has not
    "exporters/test_export.py": "class ExportTesterMixin: ...",
    "generation/test_utils.py": "class GenerationTesterMixin: ...",
    "utils/test_configuration_utils.py": """
config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}
""",
}


def common_tests() -> str:
    """Name of the package that the tests are, importable from now on; fetched once for each version and environment."""
    name = f"transformers_{version('transformers').replace('.', '_')}_tests"
    place = Path(sys.prefix) / "share" / "depthlab"
    if not (place / name).is_dir():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as folder:
            _fetch(Path(folder))
            (Path(folder) / "tests").rename(place / name)
    sys.path.insert(0, str(place))
    return name


def _fetch(folder: Path) -> None:
    """`folder/tests`, complete."""
    wanted = ["--no-deps", "--no-binary", "transformers", f"transformers=={version('transformers')}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted, "--dest", folder], check=True)
    (archive,) = folder.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (folder / archive.name.removesuffix(".tar.gz") / "tests").rename(folder / "tests")
    for file, content in LEFT_OUT.items():
        path = folder / "tests" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    for package in (folder / "tests", *(folder / "tests" / file for file in LEFT_OUT)):
        (package if package.is_dir() else package.parent).joinpath("__init__.py").touch()
