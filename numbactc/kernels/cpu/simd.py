"""Vectors of 64 bytes as values in a kernel: 16 float32, or 8 float64 or int64.

LLVM's loop vectoriser can neither keep states in registers over many frames, nor take a lane from its neighbour's
vector, nor transpose a tile; with these a kernel says so. Where registers are narrower LLVM makes two or four of each.

`+`, `-` and `*` work lane by lane on two vectors of a type. An index is a number, or a tuple for an array of several
dimensions that is contiguous in the last; nothing checks that a whole vector lies there.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

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


def _constant(kind: Any, value: Any) -> Any:
    """A vector with the same constant in each lane."""
    return ir.Constant(kind, [value] * kind.count)


def _lane_numbers(lanes: Any) -> Any:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(WORD, len(lanes)), lanes)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), _lane_numbers([0] * lanes))


def _short_name(kind: Any) -> str:
    """A vector's name as it stands in the names of LLVM's intrinsics."""
    element = kind.element
    return f"v{kind.count}" + (f"i{element.width}" if isinstance(element, ir.IntType) else element.intrinsic_name)


def _call(builder: Any, name: str, result: Any, args: Any, flags: Any = ()) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args, fastmath=flags)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index_kind: Any, index: Any) -> Any:
    """Address of an element."""
    several = isinstance(index_kind, types.BaseTuple)
    indices = cgutils.unpack_tuple(builder, index) if several else [index]
    kinds = list(index_kind) if several else [index_kind]
    indices = [context.cast(builder, i, k, types.intp) for i, k in zip(indices, kinds, strict=True)]
    array = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, array, indices, wraparound=False)


def _element_bytes(kind: Any) -> int:
    return int(kind.dtype.bitwidth) // 8


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Mask of the first count lanes."""
    numbers = ir.Constant(ir.VectorType(count.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, _splat(builder, count, lanes))


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The 64 bytes from an element on."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1])
        vector = context.get_value_type(result)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=_element_bytes(array))

    return result(array, index), generate


@intrinsic
def load_first(typingctx: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """`load` of the first count lanes, the others being `fill`."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result)
        pointer = builder.bitcast(_pointer(context, builder, array, args[0], index, args[1]), vector.as_pointer())
        mask = _first_lanes(builder, context.cast(builder, args[2], count, types.int32), result.lanes)
        rest = _splat(builder, args[3], result.lanes)
        name = f"llvm.masked.load.{_short_name(vector)}.p0"
        return _call(builder, name, vector, [pointer, ir.Constant(WORD, _element_bytes(array)), mask, rest])

    return result(array, index, count, array.dtype), generate


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the line of an element, which need not exist, into the second level of the cache."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1])
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        read, second_level, data = ir.Constant(WORD, 0), ir.Constant(WORD, 2), ir.Constant(WORD, 1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.none(array, index), generate


@intrinsic
def load_as_float64(typingctx: Any, array: Any, index: Any) -> Any:
    """8 float32 or float64 elements, as float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], index, args[1])
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
        pointer = _pointer(context, builder, array, args[0], index, args[1])
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_element_bytes(array))
        return context.get_dummy_value()

    return types.none(array, index, vector), generate


@intrinsic
def store_first(typingctx: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """`store` of the first count lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[3]
        pointer = _pointer(context, builder, array, args[0], index, args[1])
        mask = _first_lanes(builder, context.cast(builder, args[2], count, types.int32), vector.lanes)
        size = ir.Constant(WORD, _element_bytes(array))
        arguments = [value, builder.bitcast(pointer, value.type.as_pointer()), size, mask]
        _call(builder, f"llvm.masked.store.{_short_name(value.type)}.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.none(array, index, count, vector), generate


def _gather(context: Any, builder: Any, kind: Any, start: Any, places: Any) -> Any:
    """Elements of an array of this kind at a vector of places counted from an address."""
    # llvmlite cannot index one pointer with a vector
    bytes_each = _constant(places.type, _element_bytes(kind))
    base = _splat(builder, builder.ptrtoint(start, places.type.element), places.type.count)
    addresses = builder.add(base, builder.mul(places, bytes_each))
    pointers = builder.inttoptr(addresses, ir.VectorType(start.type, places.type.count))
    vector = ir.VectorType(context.get_value_type(kind.dtype), places.type.count)
    everywhere = _constant(ir.VectorType(ir.IntType(1), places.type.count), 1)
    size = ir.Constant(WORD, _element_bytes(kind))
    name = f"llvm.masked.gather.{_short_name(vector)}.v{places.type.count}p0"
    return _call(builder, name, vector, [pointers, size, everywhere, ir.Constant(vector, ir.Undefined)])


@intrinsic
def gather(typingctx: Any, array: Any, index: Any, places: Any) -> Any:
    """The elements of a float64 array at these places, a vector of int64, counted from an element on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, array, args[0], index, args[1])
        return _gather(context, builder, array, start, args[2])

    return VectorType(array.dtype)(array, index, places), generate


@intrinsic
def gather_listed(typingctx: Any, array: Any, places: Any, index: Any) -> Any:
    """As many elements of an array as a vector holds, at the places that an int64 array lists from an index on."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        listed = _pointer(context, builder, places, args[1], index, args[2])
        kind = ir.VectorType(ir.IntType(64), result.lanes)
        chosen = builder.load(builder.bitcast(listed, kind.as_pointer()), align=8)
        return _gather(context, builder, array, context.make_array(array)(context, builder, args[0]).data, chosen)

    return result(array, places, index), generate


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """x in each lane."""
    result = VectorType(x)
    return result(x), lambda context, builder, sig, args: _splat(builder, args[0], result.lanes)


@intrinsic
def splat_like(typingctx: Any, x: Any, vector: Any) -> Any:
    """x, in the dtype of a vector or array, in each lane."""
    result = VectorType(vector.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, context.cast(builder, args[0], x, vector.dtype), result.lanes)

    return result(x, vector), generate


@intrinsic
def lanes_of(typingctx: Any, array: Any) -> Any:
    """How many elements of an array a vector holds."""
    lanes = VectorType(array.dtype).lanes
    return types.intp(array), lambda context, builder, sig, args: ir.Constant(ir.IntType(64), lanes)


def _shuffle(lanes: Any) -> Any:
    return lambda context, builder, sig, args: builder.shuffle_vector(args[0], args[1], _lane_numbers(lanes))


@intrinsic
def from_left(typingctx: Any, left: Any, vector: Any) -> Any:
    """Each lane's left neighbour; that of lane 0 is the last lane of `left`."""
    return vector(left, vector), _shuffle(range(vector.lanes - 1, 2 * vector.lanes - 1))


@intrinsic
def from_right(typingctx: Any, vector: Any, right: Any) -> Any:
    """Each lane's right neighbour; that of the last lane is lane 0 of `right`."""
    return vector(vector, right), _shuffle(range(1, vector.lanes + 1))


@intrinsic
def transpose(typingctx: Any, rows: Any) -> Any:
    """8 vectors of 8 lanes become the first lanes of all, the second lanes of all, and so on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = cgutils.unpack_tuple(builder, args[0])
        for width in (1, 2, 4):  # swap the off-diagonal quarters of ever larger squares
            low = _lane_numbers(i + 8 - width if i & width else i for i in range(8))
            high = _lane_numbers(i + 8 if i & width else i + width for i in range(8))
            for i in range(8):
                if not i & width:
                    x, y = vectors[i], vectors[i + width]
                    vectors[i], vectors[i + width] = (builder.shuffle_vector(x, y, lanes) for lanes in (low, high))
        return context.make_tuple(builder, signature.return_type, vectors)

    return rows(rows), generate


@intrinsic
def multiply_add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once where the machine can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return _call(builder, f"llvm.fmuladd.{_short_name(kind)}", kind, args)

    return x(x, y, z), generate


@intrinsic
def nearest(typingctx: Any, x: Any) -> Any:
    """The nearest integers, as floats."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return _call(builder, f"llvm.nearbyint.{_short_name(kind)}", kind, args)

    return x(x), generate


def _choose(comparison: str) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = args
        floats = isinstance(signature.return_type.dtype, types.Float)
        compare = builder.fcmp_ordered if floats else builder.icmp_signed
        return builder.select(compare(comparison, x, y), y, x)

    return generate


@intrinsic
def at_least(typingctx: Any, x: Any, low: Any) -> Any:
    """The larger of x and low; x if one of them is NaN."""
    return x(x, low), _choose("<")


@intrinsic
def at_most(typingctx: Any, x: Any, high: Any) -> Any:
    """The smaller of x and high; x if one of them is NaN."""
    return x(x, high), _choose(">")


@intrinsic
def where_positive(typingctx: Any, condition: Any, x: Any, y: Any) -> Any:
    """x in lanes where the condition, a vector of int64, is > 0, and y elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = _constant(args[0].type, 0)
        return builder.select(builder.icmp_signed(">", args[0], zero), args[1], args[2])

    return x(condition, x, y), generate


@intrinsic
def where_not_less(typingctx: Any, x: Any, high: Any, then: Any, otherwise: Any) -> Any:
    """`then` in lanes where x >= high or x is NaN, and `otherwise` elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_unordered(">=", args[0], args[1]), args[2], args[3])

    return x(x, high, then, otherwise), generate


def _reduce(operation: str, start: float | None = None, flags: Any = ()) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        arguments = args if start is None else [ir.Constant(kind.element, start), args[0]]
        name = f"llvm.vector.reduce.{operation}.{_short_name(kind)}"
        return _call(builder, name, kind.element, arguments, flags)

    return generate


@intrinsic
def sum_of(typingctx: Any, x: Any) -> Any:
    """Sum of the lanes, in an order of its own."""
    return x.dtype(x), _reduce("fadd", -0.0, ("reassoc",))


@intrinsic
def smallest_of(typingctx: Any, x: Any) -> Any:
    """The smallest lane of floats, none of which is NaN."""
    return x.dtype(x), _reduce("fmin", flags=("nnan", "nsz"))


@intrinsic
def largest_of(typingctx: Any, x: Any) -> Any:
    """The largest lane of integers, or of floats, none of which is NaN."""
    if isinstance(x.dtype, types.Float):
        return x.dtype(x), _reduce("fmax", flags=("nsz",))
    return x.dtype(x), _reduce("smax")


MANTISSA_BITS = {32: 23, 64: 52}


@intrinsic
def exponents(typingctx: Any, x: Any) -> Any:
    """Biased exponents of float64 lanes >= 0, as int64: floor(log2(x)) + 1023, or 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.bitcast(args[0], context.get_value_type(I64))
        return builder.lshr(whole, _constant(whole.type, MANTISSA_BITS[64]))

    return I64(x), generate


@intrinsic
def with_exponents(typingctx: Any, biased: Any) -> Any:
    """2**(biased - 1023), lane by lane, for int64 from 0 to 2046; 0 is 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shifted = builder.shl(args[0], _constant(args[0].type, MANTISSA_BITS[64]))
        return builder.bitcast(shifted, context.get_value_type(F64))

    return F64(biased), generate


@intrinsic
def scale_by_power_of_two(typingctx: Any, x: Any, n: Any) -> Any:
    """x * 2**n for integral floats n, by adding n to the exponent bits of x."""
    width = x.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(ir.IntType(width), x.lanes)
        # a float with n in its lowest bits: a conversion to integers is one instruction on few machines
        magic = builder.fadd(args[1], _constant(args[1].type, 1.5 * 2.0 ** MANTISSA_BITS[width]))
        steps = builder.shl(builder.bitcast(magic, integers), _constant(integers, MANTISSA_BITS[width]))
        return builder.bitcast(builder.add(builder.bitcast(args[0], integers), steps), args[0].type)

    return x(x, n), generate
