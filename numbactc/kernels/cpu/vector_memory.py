"""Vectors from and to arrays.

An index is a number, or a tuple for an array of several dimensions that is contiguous in the last. That a whole vector
lies there is checked where Numba checks indices, with NUMBA_BOUNDSCHECK=1, and nowhere else.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbactc.kernels.cpu.vector import F64, WORD, VectorType, call, constant, short_name, spread


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index_kind: Any, index: Any, count: Any) -> Any:
    """Address of an element, from which on `count` are asked for: a number, or a value of LLVM's; 0 for no matter."""
    several = isinstance(index_kind, types.BaseTuple)
    indices = cgutils.unpack_tuple(builder, index) if several else [index]
    kinds = list(index_kind) if several else [index_kind]
    indices = [context.cast(builder, i, k, types.intp) for i, k in zip(indices, kinds, strict=True)]
    array = context.make_array(kind)(context, builder, array)
    if context.enable_boundscheck and count != 0:
        _check_bounds(context, builder, array, indices, count)
    return cgutils.get_item_pointer(context, builder, kind, array, indices, wraparound=False)


def _check_bounds(context: Any, builder: Any, array: Any, indices: list[Any], count: Any) -> None:
    """Raise IndexError unless the elements are all in the array's last dimension."""
    count = context.get_constant(types.intp, count) if isinstance(count, int) else builder.sext(count, indices[0].type)
    last = builder.sub(builder.add(indices[-1], count), context.get_constant(types.intp, 1))
    sizes = cgutils.unpack_tuple(builder, array.shape)
    with builder.if_then(builder.icmp_signed(">", count, count.type(0))):
        for axis, (i, size) in enumerate(zip([*indices, last], [*sizes, sizes[-1]], strict=True)):
            cgutils.do_boundscheck(context, builder, i, size, axis)


def _element_bytes(kind: Any) -> int:
    return int(kind.dtype.bitwidth) // 8


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Mask of the first count lanes."""
    numbers = ir.Constant(ir.VectorType(count.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, spread(builder, count, lanes))


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The 64 bytes from an element on."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1], result.lanes)
        vector = context.get_value_type(result)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=_element_bytes(array))

    return result(array, index), generate


@intrinsic
def load_first(typingctx: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """`load` of the first count lanes, the others being `fill`."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result)
        lanes = context.cast(builder, args[2], count, types.int32)
        pointer = _pointer(context, builder, array, args[0], index, args[1], lanes)
        pointer, mask = builder.bitcast(pointer, vector.as_pointer()), _first_lanes(builder, lanes, result.lanes)
        rest = spread(builder, args[3], result.lanes)
        name = f"llvm.masked.load.{short_name(vector)}.p0"
        return call(builder, name, vector, [pointer, ir.Constant(WORD, _element_bytes(array)), mask, rest])

    return result(array, index, count, array.dtype), generate


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the line of an element, which need not exist, into the second level of the cache."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1], 0)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        read, second_level, data = ir.Constant(WORD, 0), ir.Constant(WORD, 2), ir.Constant(WORD, 1)
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.none(array, index), generate


@intrinsic
def load_as_float64(typingctx: Any, array: Any, index: Any) -> Any:
    """8 float32 or float64 elements, as float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1], F64.lanes)
        kind = ir.VectorType(context.get_value_type(array.dtype), F64.lanes)
        vector = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=_element_bytes(array))
        return vector if array.dtype == types.float64 else builder.fpext(vector, context.get_value_type(F64))

    return F64(array, index), generate


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector from an element on, rounded if it is of float64 and the array of float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[2]
        if array.dtype != vector.dtype:
            value = builder.fptrunc(value, ir.VectorType(context.get_value_type(array.dtype), vector.lanes))
        pointer = _pointer(context, builder, array, args[0], index, args[1], vector.lanes)
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_element_bytes(array))
        return context.get_dummy_value()

    return types.none(array, index, vector), generate


@intrinsic
def store_first(typingctx: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """`store` of the first count lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[3]
        lanes = context.cast(builder, args[2], count, types.int32)
        pointer = _pointer(context, builder, array, args[0], index, args[1], lanes)
        mask = _first_lanes(builder, lanes, vector.lanes)
        size = ir.Constant(WORD, _element_bytes(array))
        arguments = [value, builder.bitcast(pointer, value.type.as_pointer()), size, mask]
        call(builder, f"llvm.masked.store.{short_name(value.type)}.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.none(array, index, count, vector), generate


def _gather(context: Any, builder: Any, kind: Any, array: Any, index_kind: Any, index: Any, places: Any) -> Any:
    """Elements of an array of this kind at a vector of places counted from an element on."""
    start = _pointer(context, builder, kind, array, index_kind, index, 0)
    if context.enable_boundscheck:
        its = context.make_array(kind)(context, builder, array)
        first = cgutils.unpack_tuple(builder, index)[-1] if isinstance(index_kind, types.BaseTuple) else index
        for lane in range(places.type.count):
            place = builder.add(first, builder.extract_element(places, ir.Constant(WORD, lane)))
            cgutils.do_boundscheck(context, builder, place, cgutils.unpack_tuple(builder, its.shape)[-1])
    # llvmlite cannot index one pointer with a vector
    bytes_each = constant(places.type, _element_bytes(kind))
    base = spread(builder, builder.ptrtoint(start, places.type.element), places.type.count)
    addresses = builder.add(base, builder.mul(places, bytes_each))
    pointers = builder.inttoptr(addresses, ir.VectorType(start.type, places.type.count))
    vector = ir.VectorType(context.get_value_type(kind.dtype), places.type.count)
    everywhere = constant(ir.VectorType(ir.IntType(1), places.type.count), 1)
    size = ir.Constant(WORD, _element_bytes(kind))
    name = f"llvm.masked.gather.{short_name(vector)}.v{places.type.count}p0"
    return call(builder, name, vector, [pointers, size, everywhere, ir.Constant(vector, ir.Undefined)])


@intrinsic
def gather(typingctx: Any, array: Any, index: Any, places: Any) -> Any:
    """The elements of a float64 array at these places, a vector of int64, counted from an element on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _gather(context, builder, array, args[0], index, args[1], args[2])

    return VectorType(array.dtype)(array, index, places), generate


@intrinsic
def gather_listed(typingctx: Any, array: Any, places: Any, index: Any) -> Any:
    """As many elements of an array as a vector holds, at the places that an int64 array lists from an index on."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        listed = _pointer(context, builder, places, args[1], index, args[2], result.lanes)
        kind = ir.VectorType(ir.IntType(64), result.lanes)
        chosen = builder.load(builder.bitcast(listed, kind.as_pointer()), align=8)
        return _gather(context, builder, array, args[0], types.intp, context.get_constant(types.intp, 0), chosen)

    return result(array, places, index), generate
