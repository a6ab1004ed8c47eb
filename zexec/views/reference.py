"""Reference: a name that means what it means on the engine."""

from __future__ import annotations

import pickle
from typing import Any


class Reference:
    """Stands, in the arguments of a view's call, for what an expression means on the engine that runs it.

    ``Reference("a") + 1``, ``Reference("f")(3)``, ``Reference("x")[0]`` and ``Reference("x").real`` are references as well;
    what they are combined with has to have a repr that is an expression. It may be anywhere inside the arguments, and may
    be the function.

    Args:
        name: a name, or any expression.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a Reference is made of a name or an expression, not of {name!r}")
        compile(name, "<reference>", "eval")
        self.name = name

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def __reduce__(self) -> Any:
        raise pickle.PicklingError(f"{self!r} has a meaning in the calls of a view only")

    def __call__(self, *args: Any, **kwargs: Any) -> Reference:
        given = [_text(a) for a in args] + [f"{name}={_text(value)}" for name, value in kwargs.items()]
        return Reference(f"({self.name})({', '.join(given)})")

    def __getitem__(self, key: Any) -> Reference:
        return Reference(f"({self.name})[{_text(key)}]")

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_"):
            raise AttributeError(name)
        return Reference(f"({self.name}).{name}")

    def __neg__(self) -> Reference:
        return Reference(f"-({self.name})")

    def __abs__(self) -> Reference:
        return Reference(f"abs({self.name})")

    __iter__ = None  # or ``for`` and ``list`` would ask for items without end


def _text(value: Any) -> str:
    if isinstance(value, Reference):
        return f"({value.name})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, slice):
        return f"slice({_text(value.start)}, {_text(value.stop)}, {_text(value.step)})"
    if value is not None and not isinstance(value, int | float | complex | str | bytes):
        raise TypeError(f"a Reference cannot be combined with {value!r}: push it, and use a Reference to that")
    text = repr(value)
    compile(text, "<reference>", "eval")
    return text


def _operator(symbol: str) -> tuple[Any, Any]:
    def forward(self: Reference, other: Any) -> Reference:
        return Reference(f"({self.name}) {symbol} {_text(other)}")

    def backward(self: Reference, other: Any) -> Reference:
        return Reference(f"{_text(other)} {symbol} ({self.name})")

    return forward, backward


for _name, _symbol in {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "matmul": "@",
    "and": "&",
    "or": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
}.items():
    _forward, _backward = _operator(_symbol)
    setattr(Reference, f"__{_name}__", _forward)
    setattr(Reference, f"__r{_name}__", _backward)
