"""A kernel's function, with everything in it that only a compiler understands replaced by what Python can run."""

import types as python_types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.cuda.extending import _Intrinsic

from cuda_simulator.intrinsics import INTRINSICS


def scalar_type(kind: Any) -> Any:
    """NumPy's scalar type of the same name as one of Numba's."""
    return getattr(np, str(kind))


def bind(function: Callable[..., Any], cuda: Any) -> Callable[..., Any]:
    """The function with other globals and another closure; functions that it calls likewise."""
    bound: Callable[..., Any] = _rebind(function, cuda, {})
    return bound


def _rebind(function: Any, cuda: Any, known: dict[Any, Any]) -> Any:
    if function in known:
        return known[function]
    namespace: dict[str, Any] = {}
    cells = tuple(python_types.CellType() for _ in function.__closure__ or ())
    bound = python_types.FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, cells)
    known[function] = bound
    for name in _names(function.__code__):
        if name in function.__globals__:
            namespace[name] = _replace(function.__globals__[name], cuda, known)
    for cell, original in zip(cells, function.__closure__ or (), strict=True):
        cell.cell_contents = _replace(original.cell_contents, cuda, known)
    return bound


def _names(code: Any) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            names |= _names(constant)
    return names


def _replace(value: Any, cuda: Any, known: dict[Any, Any]) -> Any:
    if getattr(value, "__name__", "") == "numba.cuda":
        return cuda
    if hasattr(value, "py_func"):
        return _rebind(value.py_func, cuda, known)
    if isinstance(value, types.Type):
        return scalar_type(value)
    if isinstance(value, _Intrinsic):
        return INTRINSICS[value._name]
    return value
