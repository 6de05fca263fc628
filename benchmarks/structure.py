"""Measure the size and shape of Python packages from their syntax trees.

    python -m benchmarks.structure maxgate tests benchmarks [--against DIR]
    python -m benchmarks.structure maxgate starlette httpx

Prints a Markdown table with one column per package. A name is a directory or an installed package.
`--against` adds a column for the same directories of another checkout, e.g. a git worktree of an
older commit. Percentiles are nearest-rank. Files under 5 lines are skipped: they are empty
`__init__.py` files and version numbers.
"""

import argparse
import ast
import importlib.util
import io
import math
import tokenize
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar,
    ast.Match,
)  # fmt: skip
MIN_FILE_LINES = 5
SKIPPED_DIRECTORIES = {"__pycache__", "node_modules"}


@dataclass
class Module:
    """Measurements of one file."""

    name: str
    lines: int
    classes: int = 0
    function_lines: list[int] = field(default_factory=list)
    nesting: list[int] = field(default_factory=list)
    private_functions: int = 0
    private_used_once: int = 0
    comment_lines: int = 0
    docstring_lines: int = 0
    public: int = 0
    documented: int = 0
    arguments: int = 0
    typed: int = 0
    any_names: int = 0
    noqa: int = 0
    broad_excepts: int = 0
    global_statements: int = 0
    imports: set[str] = field(default_factory=set)


def scan_module(source: str, name: str, *, is_package: bool = False) -> Module:
    """Measure the source of a module; `name` is its dotted name."""
    nodes = list(ast.walk(ast.parse(source)))
    module = Module(name, len(source.splitlines()))
    functions = [node for node in nodes if isinstance(node, Function)]
    module.classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    module.function_lines = [count_lines(node) for node in functions]
    module.nesting = [nesting_depth(node) for node in functions]
    module.any_names = names_used(nodes)["Any"]
    module.broad_excepts = sum(is_broad_except(node) for node in nodes)
    module.global_statements = sum(isinstance(node, ast.Global) for node in nodes)
    module.docstring_lines = sum(map(count_docstring_lines, nodes))
    _count_private(module, functions, names_used(nodes))
    _count_comments(module, source)
    _count_arguments(module, functions)
    definitions = [node for node in nodes if isinstance(node, Definition)]
    public = [node for node in definitions if not node.name.startswith("_")]
    module.public = len(public)
    module.documented = sum(ast.get_docstring(node) is not None for node in public)
    module.imports = imported_names(nodes, name if is_package else name.rpartition(".")[0])
    return module


def names_used(nodes: Iterable[ast.AST]) -> Counter[str]:
    """Count the uses of each name and attribute; definitions and imports are not uses."""
    uses: Counter[str] = Counter()
    for node in nodes:
        if isinstance(node, ast.Name):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
    return uses


def _count_private(module: Module, functions: Sequence[Function], uses: Counter[str]) -> None:
    private = [f for f in functions if f.name.startswith("_") and not f.name.endswith("__")]
    module.private_functions = len(private)
    module.private_used_once = sum(uses[function.name] == 1 for function in private)


def _count_comments(module: Module, source: str) -> None:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            module.noqa += "# noqa" in token.string
            module.comment_lines += token.line.lstrip().startswith("#")


def _count_arguments(module: Module, functions: Sequence[Function]) -> None:
    for function in functions:
        args = function.args
        extra = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, *extra]:
            if arg.arg not in {"self", "cls"}:
                module.arguments += 1
                module.typed += arg.annotation is not None


def count_lines(node: ast.stmt) -> int:
    """Lines from the `def` (decorators excluded) to the end, docstring included."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def count_docstring_lines(node: ast.AST) -> int:
    """Lines of the docstring of a module, class or function; 0 for other nodes."""
    if not isinstance(node, ast.Module | Definition) or ast.get_docstring(node) is None:
        return 0
    return count_lines(node.body[0])


def nesting_depth(node: ast.AST, depth: int = 0) -> int:
    """Deepest nesting of blocks in a function; `elif` adds none, nested functions are excluded."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        adds = isinstance(child, BLOCKS) and not is_elif
        deepest = max(deepest, nesting_depth(child, depth + adds))
    return deepest


def is_broad_except(node: ast.AST) -> bool:
    """Whether the node catches everything, Exception or BaseException."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {caught_type.id for caught_type in caught if isinstance(caught_type, ast.Name)}
    return node.type is None or not names.isdisjoint({"Exception", "BaseException"})


def imported_names(nodes: Iterable[ast.AST], package: str) -> set[str]:
    """Absolute dotted names that the imports in this package may refer to."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def count_single_importers(modules: Sequence[Module]) -> int:
    """Count the modules that exactly one other module of the same tree imports."""
    known = {module.name for module in modules}
    importers: Counter[str] = Counter()
    for module in modules:
        parents = {name if name in known else name.rpartition(".")[0] for name in module.imports}
        importers.update((parents & known) - {module.name})
    return sum(count == 1 for count in importers.values())


def scan_tree(directory: Path, name: str) -> list[Module]:
    """Measure the Python files below a directory; `name` is the dotted name of its package."""
    modules = []
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory).with_suffix("").parts
        if any(part in SKIPPED_DIRECTORIES or part.startswith(".") for part in parts):
            continue
        is_package = parts[-1] == "__init__"
        dotted = ".".join([name, *(parts[:-1] if is_package else parts)])
        module = scan_module(path.read_text(encoding="utf-8"), dotted, is_package=is_package)
        if module.lines >= MIN_FILE_LINES:
            modules.append(module)
    if not modules:
        raise SystemExit(f"{directory} has no Python files of {MIN_FILE_LINES} lines or more")
    return modules


def percentiles(values: Iterable[int], *percents: int) -> str:
    """Nearest-rank percentiles, and the maximum for 100, joined by slashes."""
    ordered = sorted(values) or [0]
    ranks = (math.ceil(len(ordered) * percent / 100) - 1 for percent in percents)
    return "/".join(f"{ordered[rank]:,}" for rank in ranks)


def summarize(modules: Sequence[Module]) -> dict[str, str]:
    """Map each measure to its printed value."""
    lines, files = sum(module.lines for module in modules), len(modules)
    function_lines = [value for module in modules for value in module.function_lines]
    nesting = [value for module in modules for value in module.nesting]
    file_lines = [module.lines for module in modules]

    def total(name: str) -> int:
        return sum(getattr(module, name) for module in modules)

    def percent(part: float, whole: float, digits: int = 0) -> str:
        return f"{100 * part / whole:.{digits}f} %" if whole else "-"

    once, functions = total("private_used_once"), len(function_lines)
    return {
        "files / lines": f"{files:,} / {lines:,}",
        "file lines p50/p90/max": percentiles(file_lines, 50, 90, 100),
        "function lines p50/p90/p99/max": percentiles(function_lines, 50, 90, 99, 100),
        "classes, functions per file": f"{total('classes') / files:.1f}, {functions / files:.1f}",
        "nesting p90/max": percentiles(nesting, 90, 100),
        "comment lines (own line)": percent(total("comment_lines"), lines, 1),
        "docstring lines": percent(total("docstring_lines"), lines, 1),
        "public names with docstring": percent(total("documented"), total("public")),
        "arguments typed": percent(total("typed"), total("arguments")),
        "Any per 1,000 lines": f"{1000 * total('any_names') / max(lines, 1):.1f}",
        "noqa per 1,000 lines": f"{1000 * total('noqa') / max(lines, 1):.1f}",
        "broad excepts, global": f"{total('broad_excepts')}, {total('global_statements')}",
        "private functions used once, of all": f"{once} = {percent(once, functions)}",
        "files under 50 lines": str(sum(count < 50 for count in file_lines)),
        "modules with exactly one importer": str(count_single_importers(modules)),
    }


def locate(name: str) -> tuple[Path, str]:
    """Directory and dotted name of a directory or an installed package."""
    path = Path(name)
    if path.is_dir():
        return path, path.name if path.is_absolute() else ".".join(path.parts)
    spec = importlib.util.find_spec(name.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name} is neither a directory nor an installed package")
    return Path(spec.submodule_search_locations[0]), spec.name


def format_table(columns: dict[str, dict[str, str]]) -> str:
    """Lay out summaries as a Markdown table, one column per key."""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[row, *(c[row] for c in columns.values())] for row in next(iter(columns.values()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.structure", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="directory or installed package")
    parser.add_argument("--against", type=Path, metavar="DIR", help="checkout to compare with")
    chosen = parser.parse_args()
    columns = {}
    for given in chosen.names:
        directory, name = locate(given)
        if chosen.against and (other := chosen.against / given).is_dir():
            columns[f"{given} before"] = summarize(scan_tree(other, name))
        columns[given] = summarize(scan_tree(directory, name))
    print(format_table(columns))


if __name__ == "__main__":
    main()
