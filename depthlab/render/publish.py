"""A report into its files, and into the terminal."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from html import unescape
from pathlib import Path

from depthlab.analysis.survey import LeftOut
from depthlab.errors import UserError
from depthlab.files import all_or_nothing, cannot_write
from depthlab.render.document import Bullets, Document, Figure, Heading
from depthlab.render.html import to_html


def publish(name: str, to: str, document: Document, left_out: Sequence[LeftOut], others: Mapping[str, str]) -> None:
    """Write `NAME.md`, `NAME.html`, pictures and what else there is; show the Markdown, and say where all of it lies.

    Args:
        name: Of the report.
        to: Folder; it is made if it is not there. An earlier report of that name is replaced, with all that was
            written for it; nothing else is.
        document: The report.
        left_out: To list at its end.
        others: Contents of other files, by name.

    Raises:
        UserError: A file of one of these names is there, but not from such a report; or the folder can't be written.
    """
    if left_out:
        listed = Bullets([f"{other.path}: {other.reason}" for other in left_out])
        document = Document(document.title, [*document.blocks, Heading("What is left out"), listed])
    mark = f"depthlab report {name}"
    markdown = document.to_markdown()
    pictures = {block.file: block.png for block in document.blocks if isinstance(block, Figure)}
    beside = {f"{name}.md": markdown, **others, **pictures}
    files = {**beside, f"{name}.html": to_html(document, mark, beside)}
    target = Path(to)
    with cannot_write(f"the report to --to {to}"):
        page = target / f"{name}.html"
        earlier = page.read_text(errors="replace") if page.is_file() else ""
        is_ours = f'content="{mark}"' in earlier
        foreign = [file for file in files if (target / file).exists() and not is_ours]
        if foreign:
            raise UserError(f"--to {to} has a {foreign[0]} that is not of an earlier `{mark}`: name another directory")
        _write(target, files)
        for file in _files_of(earlier) - files.keys() if is_ours else ():
            (target / file).unlink(missing_ok=True)
    print(markdown)
    print("\n".join(f"report  {target / file}" for file in files))


def _files_of(page: str) -> set[str]:
    """What a page says that belongs to it."""
    listed = re.search('<meta name="files" content="(.*?)">', page)
    return set(unescape(listed[1]).split("/")) if listed else set()


def _write(target: Path, files: Mapping[str, str | bytes]) -> None:
    """None of them before all of them are complete."""
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as all_files:
        for name, content in files.items():
            unfinished = all_files.enter_context(all_or_nothing(target / name))
            unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
