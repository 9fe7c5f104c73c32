"""A model as it was written: its class, the classes it inherits from, and what these use of their files."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import symtable
import sys
import textwrap


def source_of(kind: type) -> str:
    """The text of a model's class with everything of the user's own that it rests on, in the order in which it was written.

    Of every file the imports, the parent classes, functions and constants that are used, each file's after those it inherits from;
    the cells of a notebook that were run are one file. Nothing where Python cannot find a text (a class made at a prompt).
    """
    files: dict[str, list[type]] = {}
    for one in reversed([k for k in kind.__mro__ if _own(k)]):
        files.setdefault(one.__module__, []).append(one)
    parts = [part for classes in files.values() if (part := _of_file(classes))]
    return "\n\n\n".join(parts)


def code_of(source: str) -> str:
    """What a text does, without its comments, spacing and docstrings: two texts with the same are the same model."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError):
        return source
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    return ast.dump(tree)


def _own(kind: type) -> bool:
    """Whether a class was written by the user: not this library's base classes, equinox's or Python's."""
    return kind.__module__.split(".")[0] not in ("builtins", "equinox", "abc", "typing") and (
        not kind.__module__.startswith("nlme.") or kind.__module__.startswith("nlme.models.")
    )


def _of_file(classes: list[type]) -> str:
    """The part of one file that these of its classes need."""
    try:
        texts = [] if _in_cells(classes[0]) else [inspect.getsource(kind) for kind in classes]
    except (OSError, TypeError, IndentationError, SyntaxError):
        return ""
    try:
        whole = _cells() if _in_cells(classes[0]) else inspect.getsource(inspect.getmodule(classes[0]))
        tree = ast.parse(whole)
    except (OSError, TypeError, SyntaxError, ValueError):
        return "\n\n\n".join(textwrap.dedent(text).strip() for text in texts)
    named = {name: node for node in tree.body for name in _names_of(node)}
    if not all(kind.__qualname__ in named for kind in classes):  # defined inside a function: its text alone
        return "\n\n\n".join(textwrap.dedent(text).strip() for text in texts)
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    needed, open_ = set(future), [named[kind.__qualname__] for kind in classes]
    while open_:
        node = open_.pop()
        if node not in needed:
            needed.add(node)
            open_ += [named[word] for word in _outside(ast.unparse(node)) if word in named]
    pieces = {_text(whole, node): node for node in tree.body if node in needed}  # several may stand on one line
    lines = [
        text if isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign) else f"\n\n{text}\n"
        for text, node in pieces.items()
    ]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip()


def _outside(text: str) -> set[str]:
    """Names that a statement takes from the module: not those of arguments and variables of its functions."""

    def of(table: symtable.SymbolTable) -> set[str]:
        module = table.get_type() == "module"
        own = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (module or s.is_global())}
        return own.union(*map(of, table.get_children()))

    return of(symtable.symtable(text, "model", "exec"))


def _in_cells(kind: type) -> bool:
    """Whether a class was written where there is no file: in a notebook, or at IPython's prompt."""
    return kind.__module__ == "__main__" and not getattr(sys.modules["__main__"], "__file__", None)


def _cells() -> str:
    """The cells run so far, in their order: IPython gives each to Python's line cache as a text that is in no file (without a time)."""
    texts = ["".join(entry[2]) for entry in linecache.cache.values() if len(entry) == 4 and entry[1] is None]
    return "\n".join(text for text in texts if _parses(text))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _names_of(node: ast.stmt) -> list[str]:
    """The names that a statement of a file defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _text(whole: str, node: ast.stmt) -> str:
    """The lines of a statement, its decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(whole.splitlines()[first - 1 : node.end_lineno])
