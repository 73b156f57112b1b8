"""The package as it would be if nobody could watch: a copy in which no point of the tap is looked at.

The other copy is made in the same way without that change, so that the two differ in nothing else.
"""

from __future__ import annotations

import ast
import compileall
import shutil
import sys
from pathlib import Path

import ringminus
from ringminus.tap import EVENTS

POINTS = {kind.POINT for kind in EVENTS}
PACKAGE = Path(ringminus.__file__).parent
WITHOUT, PLAIN = COPIES = ("untapped", "plain")


class _Removed(ast.NodeTransformer):
    """`tap.point is not None` becomes False, `tap.point is None` True."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        match node:
            case ast.Compare(
                left=ast.Attribute(value=tap, attr=point),
                ops=[ast.Is() | ast.IsNot() as sign],
                comparators=[ast.Constant(value=None)],
            ) if point in POINTS and _is_tap(tap):
                return ast.Constant(isinstance(sign, ast.Is))
        return node


def _is_tap(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lstrip("_") == "tap"


def copies(directory: Path) -> None:
    """Make the package as it is and without its points, as directories of these names for PYTHONPATH."""
    for name in COPIES:
        _copy(directory / name, strip=name == WITHOUT)


def _copy(directory: Path, *, strip: bool) -> None:
    shutil.copytree(PACKAGE, directory / "ringminus", ignore=shutil.ignore_patterns("__pycache__"))
    transformer = _Removed()
    for path in (directory / "ringminus").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if strip and path.name != "tap.py":
            tree = ast.fix_missing_locations(transformer.visit(tree))
        path.write_text(ast.unparse(tree), encoding="utf-8")
    compileall.compile_dir(directory, quiet=2)


def command(directory: Path) -> tuple[str, ...]:
    """How that copy's `ringminus` is called."""
    return ("env", f"PYTHONPATH={directory}", sys.executable, "-m", "ringminus")
