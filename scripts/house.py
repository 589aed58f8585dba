"""Figures of the house: what one reads for a method, how deep its classes are, what is too long.

    python scripts/house.py                    # this checkout
    python scripts/house.py path/to/another    # to compare with

Prints a Markdown table of the whole, and one of every method that has a YAML of its name. Nothing
of the package is imported: all is found in the source text by :mod:`ast`.

A method's closure is its own file and every module of the package that it imports as it is loaded,
by itself or through others. Imports in the body of a function, and those under ``if
TYPE_CHECKING:``, do not run then; the columns named "all" count them too, so that nothing is
hidden.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

PACKAGE = "tl_runner"
PLACES = (PACKAGE, "scripts", "tests", "docs", "findings", "conf")  # whose files are measured
LONG_LINE, LONG_FILE = 100, 350
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Size:
    """What a set of modules is to read.

    Attributes:
        files, lines: how many, blank lines included.
        code: lines without blank ones, comments and docstrings.
    """

    files: int
    lines: int
    code: int


class House:
    """A checkout, read as text.

    Args:
        root: its folder, the one that holds ``tl_runner``.
    """

    def __init__(self, root: Path):
        self.root = root.resolve()

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module of the package by its dotted name; a package's is that of its folder."""
        found = {}
        for file in sorted((self.root / PACKAGE).rglob("*.py")):
            parts = file.relative_to(self.root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return found

    @cached_property
    def methods(self) -> dict[str, str]:
        """The module of every method that has a YAML of its name, by that name."""
        stems = {file.stem for file in (self.root / "conf" / "method").glob("[!_]*.yaml")}
        inside = f"{PACKAGE}.methods."
        return {
            path.stem: name
            for name, path in sorted(self.modules.items(), key=lambda item: item[1].stem)
            if name.startswith(inside) and path.stem in stems
        }

    # ---- imports

    def tree(self, module: str) -> ast.Module:
        return parsed(self.modules[module])

    def imports(self, module: str, everything: bool = False) -> set[str]:
        """Modules of the package that one imports itself, as it is loaded or, with ``everything``,
        at any time."""
        found = set()
        for node in statements(self.tree(module), everything):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                found |= {full if full in self.modules else node.module for full in names.values()}
        return found & self.modules.keys()

    def closure(self, module: str, everything: bool = False) -> list[str]:
        """A module and all that it imports, by itself or through others."""
        found: list[str] = []
        ahead = [module]
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.append(name)
                ahead += self.imports(name, everything)
        return found

    def size(self, modules: list[str]) -> Size:
        texts = [self.modules[name].read_text(encoding="utf-8") for name in modules]
        return Size(
            len(texts), sum(len(text.splitlines()) for text in texts), sum(map(code_lines, texts))
        )

    # ---- classes

    def chain(self, module: str) -> list[str]:
        """The longest line of the package's own classes that ends in a class of a module, the
        deepest base first."""
        own = [node.name for node in self.tree(module).body if isinstance(node, ast.ClassDef)]
        chains = [self.ancestry(module, name) for name in own]
        methods = [chain for chain in chains if chain[0] == "Method"]
        return max(methods or chains or [[]], key=len)

    def ancestry(self, module: str, name: str) -> list[str]:
        """The longest line of the package's own classes that ends in the one that a module knows by
        a dotted name; empty if it is not of the package."""
        place, found = self.definition(module, name)
        if found is None:
            return []
        above = [self.ancestry(place, dotted(base)) for base in found.bases]
        return [*max(above, key=len, default=[]), found.name]

    def definition(self, module: str, name: str) -> tuple[str, ast.ClassDef | None]:
        """The module that defines a class and its definition; None if that is none of the
        package."""
        first, _, rest = name.partition(".")
        for node in statements(self.tree(module), everything=False):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) != first:
                        continue
                    if rest and f"{node.module}.{alias.name}" in self.modules:
                        return self.definition(f"{node.module}.{alias.name}", rest)
                    if not rest and node.module in self.modules:
                        return self.definition(node.module, alias.name)
        return module, None

    # ---- files

    def files(self, suffix: str) -> Iterator[Path]:
        """Files of a kind at the top and in the folders that are the project's own."""
        yield from sorted(self.root.glob(f"*{suffix}"))
        for place in PLACES:
            yield from sorted((self.root / place).rglob(f"*{suffix}"))

    def long_lines(self, rows: bool = False) -> list[str]:
        """``path:line`` of every line over 100 columns in Python and Markdown.

        Rows of Markdown's tables cannot be broken: they are left out, and found alone with
        ``rows``.
        """
        return [
            f"{file.relative_to(self.root)}:{number}"
            for suffix in (".py", ".md")
            for file in self.files(suffix)
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
            if len(line) > LONG_LINE and rows == (suffix == ".md" and line.startswith("|"))
        ]

    def long_files(self) -> dict[str, int]:
        """The number of lines of every Python file that has more than 350, by its path."""
        sizes = {
            file: len(file.read_text(encoding="utf-8").splitlines()) for file in self.files(".py")
        }
        return {str(file.relative_to(self.root)): n for file, n in sizes.items() if n > LONG_FILE}

    def at_the_top(self) -> list[str]:
        """Names of the modules that stand in no folder of the package."""
        return sorted(file.stem for file in (self.root / PACKAGE).glob("*.py"))

    def readme_lines(self) -> int:
        return len((self.root / "README.md").read_text(encoding="utf-8").splitlines())


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def statements(tree: ast.AST, everything: bool) -> Iterator[ast.AST]:
    """Statements that run as a module is loaded, from top to bottom; with ``everything`` all."""
    for node in ast.iter_child_nodes(tree):
        if not everything and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if (
            not everything
            and isinstance(node, ast.If)
            and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            for other in node.orelse:
                yield other
                yield from statements(other, everything)
            continue
        yield node
        yield from statements(node, everything)


def dotted(node: ast.AST) -> str:
    """``a.b`` of a name or an attribute; of a subscript, as in ``Generic[T]``, that of what is
    subscripted."""
    return ast.unparse(node.value if isinstance(node, ast.Subscript) else node)


def code_lines(text: str) -> int:
    """Lines that are neither blank nor a comment nor part of a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT and token.type not in LAYOUT:
            lines |= {*range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines -= {*range(first.lineno, (first.end_lineno or first.lineno) + 1)}
    return len(lines)


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table, its first column of words and the others of numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def print_figures(house: House) -> None:
    """Both tables, and after them where lines and files are too long."""
    sizes = {name: house.size(house.closure(module)) for name, module in house.methods.items()}
    everything = {
        name: house.size(house.closure(module, everything=True))
        for name, module in house.methods.items()
    }
    chains = {name: house.chain(module) for name, module in house.methods.items()}
    most_files, most_lines, deepest = (
        max(sizes, key=lambda name: sizes[name].files),
        max(sizes, key=lambda name: sizes[name].lines),
        max(chains, key=lambda name: len(chains[name])),
    )
    long_lines, long_files, top = house.long_lines(), house.long_files(), house.at_the_top()
    print(
        table(
            ["figure", "value", "where"],
            [
                ["files to read for a method, at most", sizes[most_files].files, most_files],
                ["lines to read for a method, at most", sizes[most_lines].lines, most_lines],
                ["classes in a chain, at most", len(chains[deepest]), " > ".join(chains[deepest])],
                ["modules at the package's top", len(top), ", ".join(top)],
                ["lines over 100 columns", len(long_lines), ""],
                ["rows of Markdown tables over 100", len(house.long_lines(rows=True)), ""],
                ["Python files over 350 lines", len(long_files), ""],
                ["lines of README.md", house.readme_lines(), ""],
            ],
        )
    )
    head = ["method", "files", "lines", "code", "files, all", "lines, all", "chain"]
    rows: list[list[object]] = [
        [name, s.files, s.lines, s.code, a.files, a.lines, len(chains[name])]
        for (name, s), a in zip(sizes.items(), everything.values(), strict=True)
    ]
    print(f"\n{table(head, rows)}")
    for path, n in long_files.items():
        print(f"\n{path}: {n} lines", end="")
    print(f"\n\nlines over {LONG_LINE} columns: {', '.join(long_lines) or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parent.parent)
    print_figures(House(parser.parse_args().checkout))
