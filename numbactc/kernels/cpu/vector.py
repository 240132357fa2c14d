"""Vectors of 64 bytes as values in a kernel: 16 float32, or 8 float64 or int64.

LLVM's loop vectoriser can neither keep states in registers over many frames, nor take a lane from its neighbour's
vector, nor transpose a tile; with these a kernel says so. Where registers are narrower LLVM makes two or four of each.

Here are their type and `+`, `-` and `*`, lane by lane, and what the intrinsics of `vector_memory.py` and `lanes.py` are
written with.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

BYTES = 64
WORD = ir.IntType(32)


class VectorType(types.Type):
    """Numba's type of a vector."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype} x {self.lanes})")


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


F64 = VectorType(types.float64)
I64 = VectorType(types.int64)


def _lower_operator(function: Any, for_floats: str, for_integers: str) -> None:
    """Give vectors an arithmetic operator of Python's."""

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], VectorType) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, VectorType, VectorType)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = for_floats if isinstance(sig.return_type.dtype, types.Float) else for_integers
        return getattr(builder, name)(*args)


_lower_operator(operator.add, "fadd", "add")
_lower_operator(operator.sub, "fsub", "sub")
_lower_operator(operator.mul, "fmul", "mul")


def constant(kind: Any, value: Any) -> Any:
    """A vector with the same constant in each lane."""
    return ir.Constant(kind, [value] * kind.count)


def lane_numbers(lanes: Any) -> Any:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(WORD, len(lanes)), lanes)


def spread(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lane_numbers([0] * lanes))


def short_name(kind: Any) -> str:
    """A vector's name as it stands in the names of LLVM's intrinsics."""
    element = kind.element
    return f"v{kind.count}" + (f"i{element.width}" if isinstance(element, ir.IntType) else element.intrinsic_name)


def call(builder: Any, name: str, result: Any, args: Any, flags: Any = ()) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args, fastmath=flags)


def fused(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once where the machine can."""
    return call(builder, f"llvm.fmuladd.{short_name(x.type)}", x.type, [x, y, z])
