"""Single instructions on floats that LLVM vectorises, and that treat NaN in a known way, unlike comparisons."""

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic


def llvm_call(name: str) -> Any:
    """Code generator for an LLVM intrinsic whose arguments and result are floats of one type."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * len(args)))
        return builder.call(function, args)

    return generate


@intrinsic
def maximum(typingctx: Any, x: Any, y: Any) -> Any:
    """The larger of two numbers; NaN if one of them is."""
    return x(x, x), llvm_call("llvm.maximum")


@intrinsic
def minimum(typingctx: Any, x: Any, y: Any) -> Any:
    """The smaller of two numbers; NaN if one of them is."""
    return x(x, x), llvm_call("llvm.minimum")


@intrinsic
def nearest(typingctx: Any, x: Any) -> Any:
    """Round to the nearest integer, as a float."""
    return x(x), llvm_call("llvm.nearbyint")


@intrinsic
def at_least(typingctx: Any, x: Any, low: Any) -> Any:
    """The larger of two numbers, x if it is NaN: one instruction, where `maximum` takes four."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, bound = args
        return builder.select(builder.fcmp_ordered("<", value, bound), bound, value)

    return x(x, x), generate
