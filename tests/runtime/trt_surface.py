"""What a TensorRT module offers, and what of it a Python file uses.

Run as a program, it writes the surface of an importable module as JSON: `trt_surface.py MODULE FILE`.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Parameters = list[tuple[str, bool]]
"""Names, and whether each must be given."""


def surface_of(module: Any) -> dict[str, Any]:
    """Classes of a module: of every attribute its kind, its overloads' parameters, what it returns."""
    found = {}
    for name in dir(module):
        kind = getattr(module, name)
        if isinstance(kind, type):
            members = set(getattr(kind, "__members__", ()))
            found[name] = {a: _member(kind, a, members) for a in dir(kind) if a == "__init__" or not a.startswith("_")}
    return {"version": str(module.__version__), "classes": found}


def _member(kind: type, name: str, members: set[str]) -> dict[str, Any]:
    value = getattr(kind, name)
    if name in members:
        return {"kind": "constant"}
    if isinstance(value, property):
        old = "deprecated" in (value.__doc__ or "").lower()
        return {"kind": "property", "writable": value.fset is not None, "deprecated": old}
    if isinstance(value, type):
        return {"kind": "class"}
    if callable(value):
        overloads, returns = _signatures(value.__doc__ or "", name)
        old = "deprecated" in (value.__doc__ or "").lower()
        return {"kind": "method", "overloads": overloads, "returns": returns, "deprecated": old}
    return {"kind": "value"}


def _signatures(doc: str, name: str) -> tuple[list[Parameters], list[str]]:
    """pybind11 writes each overload as a line `name(self: T, a: int, b: str = None) -> R`."""
    overloads, returns = [], []
    for line in doc.splitlines():
        found = re.match(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> (.*)$", line.strip())
        if found and "*args" not in found[1]:
            overloads.append([(p, required) for p, required in _parameters(found[1]) if p != "self"])
            returns.append(found[2].rpartition(".")[2])
    return overloads, returns


def _parameters(text: str) -> Iterator[tuple[str, bool]]:
    depth, start = 0, 0
    for index, letter in enumerate([*text, ","]):
        depth += letter in "([{<"
        depth -= letter in ")]}>"
        if letter == "," and depth == 0:
            part = text[start:index].strip()
            start = index + 1
            if part and part not in "*/":
                yield (
                    part.partition(":")[0].partition("=")[0].strip(),
                    "=" not in re.sub(r"<[^>]*>", "", part) or ("=" not in part),
                )


@dataclass
class Use:
    """One use of the library: `owner.name`, called with so many positional and with these named arguments, or not."""

    owner: str
    name: str
    where: str
    positional: int | None = None
    named: tuple[str, ...] = ()
    starred: bool = False
    writes: bool = False
    assigned_as: str | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        return f"{self.owner}.{self.name}"


@dataclass
class Override:
    """A method that a class of ours defines over one of the library's."""

    owner: str
    name: str
    parameters: tuple[str, ...]
    where: str


def uses_of(paths: Sequence[Path]) -> tuple[list[Use], list[Override]]:
    """All uses of names annotated `trt.X`, and of the module itself under the names `module` and `*.trt`."""
    uses: list[Use] = []
    overrides: list[Override] = []
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for scope in ast.walk(tree):
            if isinstance(scope, ast.ClassDef):
                overrides += _overrides(scope, path.name)
        uses += _Reader(path.name).read(tree)
    return uses, overrides


def _annotated(node: ast.AST | None) -> str | None:
    """X of an annotation `trt.X`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "trt":
        return node.attr
    return None


def _attributes(tree: ast.ClassDef) -> dict[str, str]:
    """The types of `self._x: trt.X` in a class."""
    found = {}
    for node in ast.walk(tree):
        kind = _annotated(node.annotation) if isinstance(node, ast.AnnAssign) else None
        if kind and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            found[node.target.attr] = kind
    return found


def _overrides(scope: ast.ClassDef, file: str) -> list[Override]:
    bases = [b.attr for b in scope.bases if isinstance(b, ast.Attribute)]
    own = [n for n in scope.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return [
        Override(bases[0], n.name, tuple(a.arg for a in n.args.args[1:]), f"{file}:{n.lineno}") for n in own if bases
    ]


class _Reader(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self._file = file
        self._attributes: dict[str, str] = {}
        self._names: list[dict[str, str]] = [{}]
        self._uses: list[Use] = []

    def read(self, tree: ast.Module) -> list[Use]:
        self.visit(tree)
        return self._uses

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._attributes = self._attributes, _attributes(node)
        self.generic_visit(node)
        self._attributes = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        names = dict(self._names[-1])
        for argument in (*node.args.args, *node.args.kwonlyargs):
            kind = _annotated(argument.annotation) or (
                _annotated(argument.annotation.left) if isinstance(argument.annotation, ast.BinOp) else None
            )
            if kind:
                names[argument.arg] = kind
        for inner in ast.walk(node):
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                kind = _annotated(inner.annotation)
                if kind:
                    names[inner.target.id] = kind
        self._names.append(names)
        for child in node.body:
            self.visit(child)
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        before = len(self._uses)
        self.generic_visit(node)
        if isinstance(node.value, ast.Call) and len(self._uses) > before:
            self._outermost(node.value, before).assigned_as = _annotated(node.annotation)

    def visit_Assign(self, node: ast.Assign) -> None:
        before = len(self._uses)
        self.generic_visit(node)
        if isinstance(node.value, ast.Call) and len(self._uses) > before and isinstance(node.targets[0], ast.Name):
            self._outermost(node.value, before).assigned_as = "?"

    def _outermost(self, call: ast.Call, before: int) -> Use:
        place = f"{self._file}:{call.func.lineno}"
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        own = [use for use in self._uses[before:] if use.where == place and use.name == name]
        return own[0] if own else Use("", "", place)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            use = self._use(node.func)
            if use is not None:
                starred = any(isinstance(a, ast.Starred) for a in node.args)
                use.positional = sum(not isinstance(a, ast.Starred) for a in node.args)
                use.named = tuple(k.arg for k in node.keywords if k.arg)
                use.starred = starred
                self._uses.append(use)
                self.visit(node.func.value)
        else:
            self.visit(node.func)
        for argument in (*node.args, *(k.value for k in node.keywords)):
            self.visit(argument)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        use = self._use(node)
        if use is not None:
            use.writes = isinstance(node.ctx, ast.Store)
            self._uses.append(use)
        self.generic_visit(node)

    def _use(self, node: ast.Attribute) -> Use | None:
        owner = self._kind(node.value)
        return None if owner is None else Use(owner, node.attr, f"{self._file}:{node.lineno}")

    def _kind(self, node: ast.AST) -> str | None:
        """The library's class that an expression is of; "" for the module itself."""
        if isinstance(node, ast.Name):
            return "" if node.id == "module" else self._names[-1].get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr == "trt":
                return ""
            if self._kind(node.value) == "":
                return node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return self._attributes.get(node.attr)
        return None


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(surface_of(importlib.import_module(sys.argv[1]))))
