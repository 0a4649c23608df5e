"""The house rules, as tests over everything that is in the repository.

Each rule is a function from files to violations; a second test plants a violation of each, so that no
rule can rot into one that finds nothing.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The best projects measured differ from the rest in the tail, not in the median: h11 has no function
# over 64 lines and no file over 659.
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# mypy of everything, cold, on two slow cores.
CHECKER_TIMEOUT_SECONDS = 600


class File(NamedTuple):
    """A text file of the repository; `path` is relative to its root."""

    path: str
    text: str

    @property
    def package(self) -> str:
        """The first folder."""
        return self.path.partition("/")[0]


@cache
def tree(text: str) -> ast.Module:
    """Return the syntax tree of Python text."""
    return ast.parse(text)


@cache
def repository() -> tuple[File, ...]:
    """Return all text files that are tracked, or new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = sorted({name.decode() for name in listing.stdout.split(b"\0") if name})
    return tuple(file for name in names if (file := _read(name)) is not None)


def _read(name: str) -> File | None:
    path = ROOT / name
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return File(name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None


def python_files() -> list[File]:
    """Return the Python files, tests included."""
    return [file for file in repository() if file.path.endswith(".py")]


def long_functions(file: File) -> Iterator[str]:
    """Functions that do not fit a screen."""
    for node in ast.walk(tree(file.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{file.path}:{node.lineno}: {node.name} has {lines} lines"


def long_files(file: File) -> Iterator[str]:
    """Files that hold more than one idea."""
    lines = len(file.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{file.path}: {lines} lines"


# Put together, so that this file does not find itself.
_MARKER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
_HASH_COMMENT_SUFFIXES = (".sh", ".yaml", ".yml", ".toml", ".cfg", ".service", ".conf", ".j2", "Makefile")


def task_markers(file: File) -> Iterator[str]:
    """Comments that say that the work is not done."""
    for line, comment in _comments(file):
        if _MARKER.search(comment):
            yield f"{file.path}:{line}: {comment.strip()}"


def _comments(file: File) -> Iterator[tuple[int, str]]:
    if file.path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    elif file.path.endswith(_HASH_COMMENT_SUFFIXES) or file.text.startswith("#!"):
        for number, line in enumerate(file.text.splitlines(), 1):
            if "#" in line:
                yield number, line[line.index("#") :]


def prints(file: File) -> Iterator[str]:
    """Calls of print outside commands and scripts: everything else logs or returns."""
    # harness/guest holds the scripts that the harness runs on nodes; what they print is their answer.
    if "/commands/" in file.path or file.path.startswith(("harness/guest/", "scripts/", "tests/")):
        return
    for node in ast.walk(tree(file.text)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "print":
            continue
        # Printing to a stream that was handed over is writing, not printing.
        if not any(keyword.arg == "file" for keyword in node.keywords):
            yield f"{file.path}:{node.lineno}: print"


_BROAD = frozenset({"Exception", "BaseException"})


def broad_excepts(file: File) -> Iterator[str]:
    """Handlers that take everything, do not raise it again, and do not say why."""
    lines = file.text.splitlines()
    for node in ast.walk(tree(file.text)):
        if not isinstance(node, ast.ExceptHandler) or not _is_broad(node.type):
            continue
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        # The reason stands on the line, or on one before the first statement.
        nearby = " ".join(lines[node.lineno - 1 : node.body[0].lineno - 1 or node.lineno])
        reason = re.sub(r"noqa(: *[A-Z0-9, ]+)?", "", nearby.partition("#")[2])
        if not raises and not re.search(r"\w{3}", reason):
            yield f"{file.path}:{node.lineno}: except without a reason"


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(each, ast.Name) and each.id in _BROAD for each in kinds)


def sleeps_in_tests(file: File) -> Iterator[str]:
    """Tests that sleep: time is injected, or an event is waited for.  Benchmarks are no tests."""
    if file.package != "tests" or file.path.startswith("tests/bench/"):
        return
    for node in ast.walk(tree(file.text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
            yield f"{file.path}:{node.lineno}: sleep"


def undocumented_tests(file: File) -> Iterator[str]:
    """Tests whose docstring does not state a promise."""
    if file.package != "tests":
        return
    for node in ast.walk(tree(file.text)):
        if (
            isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ):
            yield f"{file.path}:{node.lineno}: {node.name} promises nothing"


# Package registries and mirrors: whoever builds uses the ones configured on the machine.
_HOSTS = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "deb.deb" + "ian.org",
    "security.deb" + "ian.org",
    "registry.np" + "mjs.org",
    "galaxy.ans" + "ible.com",
)
_MACHINE = re.compile("|".join(map(re.escape, (*_HOSTS, "/wo" + "rk/", "/ro" + "ot/.pyenv"))))


def machine_names(file: File) -> Iterator[str]:
    """Names that tie the project to the machine or the network it was written on."""
    for number, line in enumerate(file.text.splitlines(), 1):
        found = _MACHINE.search(line)
        if found:
            yield f"{file.path}:{number}: {found[0]}"


PYTHON_RULES: list[Callable[[File], Iterator[str]]] = [
    long_functions,
    prints,
    broad_excepts,
    sleeps_in_tests,
    undocumented_tests,
]
TEXT_RULES: list[Callable[[File], Iterator[str]]] = [task_markers, machine_names]

PLANTED: dict[Callable[[File], Iterator[str]], File] = {
    long_functions: File("tape/x.py", "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX),
    long_files: File("tape/x.py", "\n" * (FILE_LINES_MAX + 1)),
    prints: File("appliance/x.py", "print('hello')\n"),
    broad_excepts: File("appliance/x.py", "try:\n    pass\nexcept Exception:  # noqa: BLE001\n    pass\n"),
    sleeps_in_tests: File("tests/x.py", "import time\ntime.sleep(1)\n"),
    undocumented_tests: File("tests/x.py", "def test_x():\n    pass\n"),
    task_markers: File("tape/x.py", "pass  # TO" + "DO: all of it\n"),
    machine_names: File("Makefile", "\tcd /wo" + "rk/main\n"),
}


@pytest.mark.parametrize("rule", [*PYTHON_RULES, long_files])
def test_python_keeps_the_rule(rule: Callable[[File], Iterator[str]]) -> None:
    """No Python file of the repository violates the rule."""
    assert [violation for file in python_files() for violation in rule(file)] == []


@pytest.mark.parametrize("rule", TEXT_RULES)
def test_every_text_file_keeps_the_rule(rule: Callable[[File], Iterator[str]]) -> None:
    """No text file of the repository violates the rule."""
    assert [violation for file in repository() for violation in rule(file)] == []


@pytest.mark.parametrize("rule", [*PYTHON_RULES, *TEXT_RULES, long_files])
def test_a_planted_violation_is_found(rule: Callable[[File], Iterator[str]]) -> None:
    """Each rule finds what it forbids."""
    assert list(rule(PLANTED[rule]))


def test_a_reason_lets_a_broad_except_pass() -> None:
    """The rule asks for a reason, on the line or below it, not for the absence of the handler."""
    for handler in (
        "except Exception:  # one session must not end the others\n    pass\n",
        "except Exception:  # noqa: BLE001\n    # one session must not end the others\n    pass\n",
        "except BaseException:\n    raise\n",
    ):
        assert list(broad_excepts(File("appliance/x.py", "try:\n    pass\n" + handler))) == []


# --- Layers: the table in docs/architecture.md is the rule --------------------------------------------

EVERYTHING = "everything"
SHARED = "appliance"
_ROW = re.compile(r"^\| `([a-z/]+)/` \|.*\| ([^|]+) \|$", re.M)
_STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)


@cache
def layers() -> dict[str, frozenset[str]]:
    """Return from the table: package (dotted) → what it may import, of ours and of others'.

    What the roles share lies directly in appliance/: every part of the appliance may import it, and it
    imports none of them but what a line of its own allows.
    """
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {package.replace("/", "."): _allowed(column) for package, column in _ROW.findall(document)}
    return {SHARED: frozenset(), **rows}


def _allowed(column: str) -> frozenset[str]:
    if column == "all of appliance":
        return frozenset({EVERYTHING})
    if column.startswith("reaches the appliance"):
        return frozenset()
    names = re.sub(r"\([^)]*\)", "", column).replace("\N{EN DASH}", "").split(",")
    return frozenset(name.strip().strip("`") for name in names if name.strip())


def _package_of(module: str) -> str | None:
    """Return the package in the table that a module belongs to; None when it has no line there."""
    return max((name for name in layers() if f"{module}.".startswith(f"{name}.")), key=len, default=None)


def imports(file: File) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a file imports at run time, also inside functions."""
    module = file.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    for node in _runtime_nodes(tree(file.text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, file.path.endswith("__init__.py"), node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _runtime_nodes(child)


def _absolute(module: str, is_package: bool, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    steps = module.split(".")
    base = steps[: len(steps) - node.level + is_package]
    return ".".join([*base, *filter(None, [node.module])])


def layer_violations(file: File) -> Iterator[str]:
    """Imports that the table does not allow."""
    own = _package_of(file.path.removesuffix(".py").replace("/", ".")) or file.path
    for line, name in imports(file):
        if not _is_allowed(own, layers().get(own, frozenset()), name):
            yield f"{file.path}:{line}: {own} must not import {name}"


def _is_allowed(own: str, allowed: frozenset[str], name: str) -> bool:
    top = name.partition(".")[0]
    if top not in ("appliance", "tape", "harness", "tests"):
        return "standard library" not in allowed or top in _STANDARD_LIBRARY
    target = _package_of(name) or top
    if target == own or (EVERYTHING in allowed and top in ("appliance", "tape")):
        return True
    if target == SHARED:
        return own.startswith(f"{SHARED}.")
    return target.rpartition(".")[2] in allowed


def test_every_package_has_its_line_in_the_table() -> None:
    """A new package cannot stay outside the rule."""
    packages = {
        path.rpartition("/")[0].replace("/", ".")
        for path in (file.path for file in python_files())
        if path.startswith("appliance/") and path.count("/") > 1
    }
    assert {name for name in packages if _package_of(name) == SHARED} == set()
    assert {"tape", "harness", "appliance.ndmp", "appliance.commands"} <= layers().keys()


def test_imports_keep_to_the_layers() -> None:
    """Nothing imports what docs/architecture.md does not allow it."""
    product = [file for file in python_files() if file.package in ("appliance", "tape", "harness")]
    assert [violation for file in product for violation in layer_violations(file)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tape/x.py", "import appliance.errors"),
        ("tape/x.py", "def f():\n    import structlog"),
        ("appliance/archive/x.py", "from appliance.ndmp import server"),
        ("appliance/archive/x.py", "from ..gns.map import GnsMap"),
        ("appliance/text.py", "from appliance import backupserver"),
        ("appliance/commands/x.py", "from harness import lab"),
        ("harness/x.py", "from appliance.errors import SpanreelError"),
        ("harness/x.py", "from tape.sg import Sg"),
    ],
)
def test_a_forbidden_import_is_found(path: str, text: str) -> None:
    """Absolute, relative and hidden in a function: imports across the layers are seen."""
    assert list(layer_violations(File(path, text)))


def test_imports_for_type_checkers_only_are_no_imports() -> None:
    """What never runs cannot couple anything at run time."""
    text = "if TYPE_CHECKING:\n    import harness\nimport os\n"
    assert [name for _, name in imports(File("tape/x.py", text))] == ["os"]


# --- The checkers ---------------------------------------------------------------------------------


def _check(*command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CHECKER_TIMEOUT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_ruff_finds_nothing() -> None:
    """The linter's rules hold everywhere, docstrings of public names among them."""
    _check("ruff", "check", ".")


def test_the_formatting_is_ruffs() -> None:
    """Nobody discusses formatting."""
    _check("ruff", "format", "--check", ".")


@pytest.mark.timeout(CHECKER_TIMEOUT_SECONDS)
def test_the_types_are_right() -> None:
    """mypy, strict, over the whole product."""
    _check("mypy", "--strict")
