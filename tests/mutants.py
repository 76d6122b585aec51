"""The mutants of a module, see mutate.py: its code with one small change each."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

OPERATORS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
PAIRS = "minimum maximum, min max, sum mean, any all, argmin argmax, floor ceil, zeros ones"
FUNCTIONS = {a: b for pair in PAIRS.split(", ") for a, b in [pair.split(), pair.split()[::-1]]}
FUNCTIONS |= {"zeros_like": "ones_like", "ones_like": "zeros_like", "median": "mean", "prod": "sum"}
# Left out, so that their argument stands in their place.
WRAPPERS = {"stop_gradient", "abs", "sqrt", "safe_root", "square", "exp", "log", "log1p", "relu"}
WRAPPERS |= {"unit", "standardise", "clip", "softplus", "sorted", "reversed", "maximum", "minimum"}
SYMMETRIC = {"minimum", "maximum", "min", "max", "isinstance", "logical_and", "logical_or"}
# Of these nothing is mutated.
PASSED = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.pattern)


@dataclass(frozen=True)
class Mutant:
    path: str
    line: int
    """Of the statement."""
    inside: bool
    """The statement is in a function's body."""
    before: str
    after: str
    """The statement's first line, before and after."""
    code: CodeType


def of(source: str, path: str) -> Iterator[Mutant]:
    tree, seen = ast.parse(source), set()
    for parent, field, index, node, statement, inside in list(sites(tree)):
        before = shown(statement)
        for other in variants(node):
            put(parent, field, index, ast.fix_missing_locations(ast.copy_location(other, node)))
            after = shown(other if node is statement else statement)
            if (statement.lineno, after) not in seen | {(statement.lineno, before)}:
                seen.add((statement.lineno, after))
                code = compile(tree, path, "exec")
                yield Mutant(path, statement.lineno, inside, before, after, code)
            put(parent, field, index, node)


def shown(statement: ast.stmt) -> str:
    text = ast.unparse(statement)
    return text if isinstance(statement, SIMPLE) else text.splitlines()[0]


SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return)


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def sites(node: ast.AST, statement: ast.stmt | None = None, inside: bool = False) -> Iterator:
    """(parent, field, index, node, its statement, whether that is in a function's body)."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "format_spec"):
            continue
        if isinstance(node, ast.ClassDef) and field == "body":
            value = [s for s in value if isinstance(s, ast.FunctionDef)]  # no defaults of fields
            yield from (site for f in value for site in sites(f, f, False))
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, PASSED):
                continue
            stands, within = statement, inside
            if isinstance(child, ast.stmt):
                stands, within = child, inside or isinstance(node, ast.FunctionDef)
            if stands is not None:
                yield node, field, index, child, stands, within
            if isinstance(child, ast.UnaryOp) and isinstance(child.operand, ast.Constant):
                continue
            yield from sites(child, stands, within)


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            yield replaced(node, ops=[OPERATORS[type(op)]()])
        case ast.BinOp(op=op):
            if type(op) in OPERATORS:
                yield replaced(node, op=OPERATORS[type(op)]())
            yield node.left
        case ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield replaced(node, op=OPERATORS[type(op)]())
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int())):
            yield ast.Constant(0)  # the first axis for the last
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield node.operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield replaced(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Call():
            yield from calls(node)


def calls(node: ast.Call) -> Iterator[ast.AST]:
    function = node.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name in FUNCTIONS:
        other = {"attr" if isinstance(function, ast.Attribute) else "id": FUNCTIONS[name]}
        yield replaced(node, func=replaced(function, **other))
    if name in WRAPPERS and node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    match node.args:
        case [ast.Constant(value=str()), _] | [ast.Starred(), _] | [_, ast.Starred()]:
            pass
        case [first, second] if name not in SYMMETRIC and not name.startswith("require"):
            yield replaced(node, args=[second, first])


def replaced(node: ast.AST, **fields) -> ast.AST:
    new = copy.copy(node)
    for field, value in fields.items():
        setattr(new, field, value)
    return new


def watched(source: str, path: str) -> CodeType:
    """The module's code that calls __hit__("PATH:LINE") before each statement in a function."""

    class Watch(ast.NodeTransformer):
        inside = False

        def visit_FunctionDef(self, node):
            outer, self.inside = self.inside, True
            self.generic_visit(node)
            self.inside = outer
            return node

        def generic_visit(self, node):
            super().generic_visit(node)
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                if self.inside and isinstance(statements, list):
                    setattr(node, field, [new for s in statements for new in with_hit(s)])
            return node

    def with_hit(statement: ast.stmt) -> list[ast.stmt]:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Nonlocal() | ast.Global():
                return [statement]
        hit = ast.parse(f"__hit__({f'{path}:{statement.lineno}'!r})").body[0]
        return [ast.copy_location(hit, statement), statement]

    tree = Watch().visit(ast.parse(source))
    return compile(ast.fix_missing_locations(tree), path, "exec")
