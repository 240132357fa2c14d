"""What can be done with the lanes of vectors: fill, move, compare, reduce, take exponents apart."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbactc.kernels.cpu.vector import (
    F64,
    I64,
    WORD,
    VectorType,
    call,
    constant,
    fused,
    lane_numbers,
    short_name,
    spread,
)  # fmt: skip


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """x in each lane."""
    result = VectorType(x)
    return result(x), lambda context, builder, sig, args: spread(builder, args[0], result.lanes)


@intrinsic
def splat_like(typingctx: Any, x: Any, vector: Any) -> Any:
    """x, in the dtype of a vector or array, in each lane."""
    result = VectorType(vector.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return spread(builder, context.cast(builder, args[0], x, vector.dtype), result.lanes)

    return result(x, vector), generate


@intrinsic
def lanes_of(typingctx: Any, array: Any) -> Any:
    """How many elements of an array a vector holds."""
    lanes = VectorType(array.dtype).lanes
    return types.intp(array), lambda context, builder, sig, args: ir.Constant(ir.IntType(64), lanes)


def _shuffle(lanes: Any) -> Any:
    return lambda context, builder, sig, args: builder.shuffle_vector(args[0], args[1], lane_numbers(lanes))


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
            low = lane_numbers(i + 8 - width if i & width else i for i in range(8))
            high = lane_numbers(i + 8 if i & width else i + width for i in range(8))
            for i in range(8):
                if not i & width:
                    x, y = vectors[i], vectors[i + width]
                    vectors[i], vectors[i + width] = (builder.shuffle_vector(x, y, lanes) for lanes in (low, high))
        return context.make_tuple(builder, signature.return_type, vectors)

    return rows(rows), generate


@intrinsic
def multiply_add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once where the machine can."""
    return x(x, y, z), lambda context, builder, sig, args: fused(builder, *args)


@intrinsic
def ordered_sum(typingctx: Any, x: Any, y: Any) -> Any:
    """x + y, which nothing may reorder: the kernels' flags would allow it for a plain sum."""
    return x(x, y), lambda context, builder, sig, args: builder.fadd(*args, flags=("nsz",))


MANTISSA_BITS = {32: 23, 64: 52}
EXPONENT_BIAS = {32: 127, 64: 1023}


@intrinsic
def nearest_and_power(typingctx: Any, x: Any, factor: Any) -> Any:
    """The integer n nearest to x * factor, as a float, and 2**n, which must be a normal number."""
    width = x.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        # a float of this size has no digits behind the point, and in its lowest bits the exponent's bits of 2**n
        large = constant(kind, 1.5 * 2.0 ** MANTISSA_BITS[width] + EXPONENT_BIAS[width])
        sum_ = fused(builder, args[0], args[1], large)
        # with a flag of its own, lest the kernels' flags let (a + b) - b become a
        n = builder.fsub(sum_, large, flags=("nsz",))
        integers = ir.VectorType(ir.IntType(width), x.lanes)
        shifted = builder.shl(builder.bitcast(sum_, integers), constant(integers, MANTISSA_BITS[width]))
        return context.make_tuple(builder, signature.return_type, (n, builder.bitcast(shifted, kind)))

    return types.UniTuple(x, 2)(x, factor), generate


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
        zero = constant(args[0].type, 0)
        return builder.select(builder.icmp_signed(">", args[0], zero), args[1], args[2])

    return x(condition, x, y), generate


@intrinsic
def where_not_less(typingctx: Any, x: Any, high: Any, then: Any, otherwise: Any) -> Any:
    """`then` in lanes where x >= high or x is NaN, and `otherwise` elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_unordered(">=", args[0], args[1]), args[2], args[3])

    return x(x, high, then, otherwise), generate


@intrinsic
def bits_where_less(typingctx: Any, x: Any, y: Any) -> Any:
    """A bit for each lane, that of lane 0 being the lowest: whether x < y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = builder.bitcast(builder.fcmp_ordered("<", *args), ir.IntType(x.lanes))
        return builder.zext(mask, WORD) if x.lanes < WORD.width else mask

    return types.uint32(x, y), generate


def _reduce(operation: str, start: float | None = None, flags: Any = ()) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        arguments = args if start is None else [ir.Constant(kind.element, start), args[0]]
        name = f"llvm.vector.reduce.{operation}.{short_name(kind)}"
        return call(builder, name, kind.element, arguments, flags)

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
    """The largest lane of integers, or of floats of which none is NaN; some lane if one is."""
    if not isinstance(x.dtype, types.Float):
        return x.dtype(x), _reduce("smax")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # by halves: LLVM's own reduction has no defined result for a NaN, or takes five times as long
        vector, lanes = args[0], x.lanes
        while lanes > 1:
            lanes //= 2
            low = builder.shuffle_vector(vector, vector, lane_numbers(range(lanes)))
            high = builder.shuffle_vector(vector, vector, lane_numbers(range(lanes, 2 * lanes)))
            vector = builder.select(builder.fcmp_ordered("<", low, high), high, low)
        return builder.extract_element(vector, ir.Constant(WORD, 0))

    return x.dtype(x), generate


@intrinsic
def exponents(typingctx: Any, x: Any) -> Any:
    """Biased exponents of float64 lanes >= 0, as int64: floor(log2(x)) + 1023, or 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.bitcast(args[0], context.get_value_type(I64))
        return builder.lshr(whole, constant(whole.type, MANTISSA_BITS[64]))

    return I64(x), generate


@intrinsic
def with_exponents(typingctx: Any, biased: Any) -> Any:
    """2**(biased - 1023), lane by lane, for int64 from 0 to 2046; 0 is 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shifted = builder.shl(args[0], constant(args[0].type, MANTISSA_BITS[64]))
        return builder.bitcast(shifted, context.get_value_type(F64))

    return F64(biased), generate
