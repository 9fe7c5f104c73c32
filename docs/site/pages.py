"""What mkdocs is given besides this folder: the pages of docs/, the notebooks as written, and a page for each public word."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Room of the package -> the heading under which its words stand, in the order of a user's work.
TOPICS = {
    "typing": "Models", "language": "Models", "parameters": "Models", "structure": "Models", "dynamics": "Models",
    "observation": "Observations",
    "neural": "Networks", "training": "Networks", "learning": "Networks", "discovery": "Networks",
    "data": "Data",
    "fitting": "Fits", "marginal": "Fits", "search": "Fits",
    "uncertainty": "Uncertainty and comparison",
    "posterior": "Bayes and individuals", "dosing": "Bayes and individuals",
    "diagnostics": "Checks",
    "simulation": "Simulation",
    "selection": "Covariates",
    "noncompartmental": "Non-compartmental analysis",
    "design": "Design",
    "reporting": "Tables and reports",
    "exchange": "From other programs",
    "errors": "Errors",
}  # fmt: skip


def public_words() -> dict[str, dict[str, str]]:
    """Heading -> public word -> where it is defined; read from the text of nlme/__init__.py, nothing is imported."""
    tree = ast.parse((ROOT / "nlme" / "__init__.py").read_text(encoding="utf-8"))
    named = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    homes, rooms = ast.literal_eval(named["_HOMES"]), ast.literal_eval(named["_ROOMS"])
    headings: dict[str, dict[str, str]] = {heading: {} for heading in TOPICS.values()}
    for home, words in homes.items():
        headings.setdefault(TOPICS.get(home.split(".")[1], "Others"), {}).update({word: f"{home}.{word}" for word in words})
    # models/ and datasets/ stand at top level
    shelves = {room: room if (ROOT / room).is_dir() else f"nlme.{room}" for room in rooms}
    return headings | {"Collections": shelves}


def notebook_page(path: Path) -> str:
    """A notebook's cells as Markdown, with a link to the notebook itself under its heading."""
    pieces = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        pieces.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    heading, _, rest = pieces[0].partition("\n")
    download = f'[Download the notebook]({path.name}){{: download="{path.name}" }}'
    return "\n\n".join([heading, download, rest.strip(), *pieces[1:]]) + "\n"


def word_page(word: str, home: str) -> str:
    """The page of a public word; a collection (nlme.pk, nlme.plots, nlme.models) has its members below it."""
    return f"::: {home}\n    options: {{heading: nlme.{word}, show_submodules: {str(word == 'models').lower()}}}\n"


def on_config(config):
    """The navigation's "notebooks" and "api", from what there is."""
    notebooks = [f"notebooks/{path.stem}.md" for path in _notebooks()]
    words = [
        {heading: [{f"nlme.{word}": f"api/{word}.md"} for word in sorted(of, key=str.lower)]}
        for heading, of in public_words().items()
        if of
    ]
    filled = {"notebooks": notebooks, "api": words}
    config.nav = [
        {name: filled.get(pages, pages) if isinstance(pages, str) else pages for name, pages in part.items()}
        if isinstance(part, dict)
        else part
        for part in config.nav
    ]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "docs").glob("*.md")):
        files.append(File.generated(config, path.name, content=_linked(path.read_text(encoding="utf-8"))))
    for path in _notebooks():
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=_linked(notebook_page(path))))
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    for words in public_words().values():
        for word, home in words.items():
            files.append(File.generated(config, f"api/{word}.md", content=word_page(word, home)))
    return files


def _notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def _linked(text: str) -> str:
    """Links as the site has them: notebooks are pages, docs lie beside them, files of the package are named without a link."""
    text = re.sub(r"\]\((?:\.\./)?(notebooks/\w+)\.ipynb\)", r"](\1.md)", text)
    text = text.replace("](../docs/", "](../").replace("](../notebooks/)", "](notebooks/01_first_fit.md)")
    return re.sub(r"\[([^\]]+)\]\(\.\./(?:nlme|tests|models|datasets)/[^)]*\)", r"\1", text)
