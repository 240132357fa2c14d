"""What a kernel needs from the machine that Numba has no words for: vector loads, bits of floats, exact roundings.

Each function takes float32 or float64 and gives the same type, unless it says otherwise. Products and sums are written
as `mul`, `add` and `fma` wherever a compiler could merge them: it would do so here and not there, and two
specialisations of one kernel would differ in their last bits.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

HALF_WORD = ir.IntType(16)
WORD = ir.IntType(32)
LONG = ir.IntType(64)


def _libdevice(single: str, double: str) -> Any:
    """Code for a call of the libdevice function that has one type for all arguments and its result."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = single if signature.return_type == types.float32 else double
        callee_type = ir.FunctionType(args[0].type, [arg.type for arg in args])
        callee = builder.module.globals.get(function) or ir.Function(builder.module, callee_type, function)
        return builder.call(callee, args)

    return generate


@intrinsic
def mul(typingctx: Any, a: Any, b: Any) -> Any:
    """a * b, rounded; never merged with an addition."""
    return a(a, a), _libdevice("__nv_fmul_rn", "__nv_dmul_rn")


@intrinsic
def add(typingctx: Any, a: Any, b: Any) -> Any:
    """a + b, rounded; never merged with a multiplication."""
    return a(a, a), _libdevice("__nv_fadd_rn", "__nv_dadd_rn")


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    return a(a, a, a), _libdevice("__nv_fmaf_rn", "__nv_fma_rn")


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger one, or the one that is not NaN."""
    return a(a, a), _libdevice("__nv_fmaxf", "__nv_fmax")


@intrinsic
def reciprocal(typingctx: Any, a: Any) -> Any:
    """1 / a, rounded."""
    return a(a), _libdevice("__nv_frcp_rn", "__nv_drcp_rn")


@intrinsic
def quotient(typingctx: Any, a: Any, b: Any) -> Any:
    """a // b for int32 a >= 0 and b > 0: Numba's own // divides 64 bits, by a subroutine of a hundred instructions."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.udiv(*args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def exp2(typingctx: Any, x: Any) -> Any:
    """2**x: one instruction, relative error 2**-22, in float32, and 0 below 2**-126; exact to rounding in float64."""
    if x == types.float64:
        return x(x), _libdevice("", "__nv_exp2")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        float_type = ir.FloatType()
        assembly = ir.InlineAsm(ir.FunctionType(float_type, [float_type]), "ex2.approx.ftz.f32 $0, $1;", "=f,f")
        return builder.call(assembly, args)

    return x(x), generate


@intrinsic
def nearest_integer(typingctx: Any, x: Any) -> Any:
    """x rounded to int32 from float32, to int64 from float64."""
    result, function = (types.int32, "__nv_float2int_rn") if x == types.float32 else (types.int64, "__nv_double2ll_rn")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        callee_type = ir.FunctionType(context.get_value_type(result), [args[0].type])
        callee = builder.module.globals.get(function) or ir.Function(builder.module, callee_type, function)
        return builder.call(callee, args)

    return result(x), generate


@intrinsic
def bits_of(typingctx: Any, x: Any) -> Any:
    """The bits of a float32 as int32, of a float64 as int64."""
    integer = types.int32 if x == types.float32 else types.int64
    return integer(x), lambda context, builder, sig, args: builder.bitcast(args[0], context.get_value_type(integer))


@intrinsic
def float_of(typingctx: Any, bits: Any) -> Any:
    """The float32 with the bits of an int32, the float64 with those of an int64."""
    real = types.float32 if bits == types.int32 else types.float64
    return real(bits), lambda context, builder, sig, args: builder.bitcast(args[0], context.get_value_type(real))


FORMATS = {"float32": (23, 127), "float64": (52, 1023)}
"""Mantissa bits and exponent bias."""


@intrinsic
def power_of_two(typingctx: Any, k: Any, like: Any) -> Any:
    """2**k in the type of `like`, for an int32 k that is not too large for it; 0 where it is too small to be normal."""
    mantissa_bits, bias = FORMATS[str(like)]
    integer = WORD if like == types.float32 else LONG

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low = WORD(-bias)
        k = builder.select(builder.icmp_signed(">", args[0], low), args[0], low)
        k = k if integer is WORD else builder.sext(k, LONG)
        bits = builder.add(builder.shl(k, integer(mantissa_bits)), integer(bias << mantissa_bits))
        return builder.bitcast(bits, context.get_value_type(like))

    return like(types.int32, like), generate


@intrinsic
def normalise(typingctx: Any, m: Any, e: Any, least: Any) -> Any:
    """m * 2**e with m in [1, 2), for a normal m > 0; (0, least) where m is 0 or e would be `least` or less."""
    mantissa_bits, bias = FORMATS[str(m)]
    integer = WORD if m == types.float32 else LONG

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], integer)
        shift = builder.sub(builder.lshr(bits, integer(mantissa_bits)), integer(bias))
        e = builder.add(args[1], shift if integer is WORD else builder.trunc(shift, WORD))
        zero = ir.Constant(context.get_value_type(m), 0.0)
        live = builder.and_(builder.fcmp_ordered(">", args[0], zero), builder.icmp_signed(">", e, args[2]))
        fraction = builder.or_(builder.and_(bits, integer((1 << mantissa_bits) - 1)), integer(bias << mantissa_bits))
        fraction = builder.select(live, builder.bitcast(fraction, zero.type), zero)
        return context.make_tuple(builder, signature.return_type, [fraction, builder.select(live, e, args[2])])

    return types.Tuple((m, types.int32))(m, types.int32, types.int32), generate


@intrinsic
def offset(typingctx: Any, pointer: Any, elements: Any) -> Any:
    """The pointer to the element that is so many after this one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), generate


def _as_vectors(builder: Any, pointer: Any, index: Any, count: int) -> Any:
    """Address of the element at index as that of a vector, and the alignment that its accesses may count on."""
    element = pointer.type.pointee
    bits = element.width if isinstance(element, ir.IntType) else 32 if element == ir.FloatType() else 64
    address = builder.bitcast(builder.gep(pointer, [index]), ir.VectorType(element, count).as_pointer())
    return address, min(16, count * bits // 8)


def _vector_of(builder: Any, scalars: list[Any]) -> Any:
    vector = ir.Constant(ir.VectorType(scalars[0].type, len(scalars)), ir.Undefined)
    for k, scalar in enumerate(scalars):
        vector = builder.insert_element(vector, scalar, WORD(k))
    return vector


def _words_at(builder: Any, pointer: Any, index: Any) -> Any:
    """Address of eight 16-bit numbers as that of four words: as such they are accessed in one piece, not in two."""
    return builder.bitcast(builder.gep(pointer, [index]), ir.VectorType(WORD, 4).as_pointer())


def _load_halves(builder: Any, pointer: Any, index: Any) -> list[Any]:
    vector = builder.load(_words_at(builder, pointer, index))
    vector.align = 16
    words = [builder.extract_element(vector, WORD(k)) for k in range(4)]
    return [builder.trunc(builder.lshr(word, WORD(shift)), HALF_WORD) for word in words for shift in (0, 16)]


def _store_halves(builder: Any, pointer: Any, index: Any, halves: list[Any]) -> None:
    wide = [builder.zext(half, WORD) for half in halves]
    words = [builder.or_(wide[2 * k], builder.shl(wide[2 * k + 1], WORD(16))) for k in range(4)]
    builder.store(_vector_of(builder, words), _words_at(builder, pointer, index)).align = 16


def _vector_load(count: int, backward: bool = False) -> Any:
    """An intrinsic: `count` neighbours from pointer[index] on, as a tuple, the last one first if backward."""

    def load(typingctx: Any, pointer: Any, index: Any) -> Any:
        """The address must be a multiple of the vector's size, or of 16 bytes if that is less."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if args[0].type.pointee == HALF_WORD and count == 8:
                values = _load_halves(builder, *args)
            else:
                address, align = _as_vectors(builder, args[0], args[1], count)
                vector = builder.load(address)
                vector.align = align
                values = [builder.extract_element(vector, WORD(k)) for k in range(count)]
            return context.make_tuple(builder, signature.return_type, values[::-1] if backward else values)

        return types.UniTuple(pointer.dtype, count)(pointer, index), generate

    load.__name__ = f"load{count}{'_backward' * backward}"
    return intrinsic(load)


def _vector_store(count: int, backward: bool = False) -> Any:
    """An intrinsic: the `count` values of a local array to pointer[index] and its neighbours, in the same way."""

    def store(typingctx: Any, pointer: Any, index: Any, values: Any) -> Any:
        """The address must be a multiple of the vector's size, or of 16 bytes if that is less."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            local = context.make_array(signature.args[2])(context, builder, args[2]).data
            places = range(count)[::-1] if backward else range(count)
            scalars = [builder.load(builder.gep(local, [WORD(k)])) for k in places]
            if args[0].type.pointee == HALF_WORD and count == 8:
                _store_halves(builder, args[0], args[1], scalars)
            else:
                address, align = _as_vectors(builder, args[0], args[1], count)
                builder.store(_vector_of(builder, scalars), address).align = align
            return context.get_dummy_value()

        return types.void(pointer, index, values), generate

    store.__name__ = f"store{count}{'_backward' * backward}"
    return intrinsic(store)


LOADS = {count: _vector_load(count) for count in (1, 2, 4, 8)}
STORES = {count: _vector_store(count) for count in (1, 2, 4, 8)}
LOADS_BACKWARD = {count: _vector_load(count, backward=True) for count in (1, 2, 4)}
STORES_BACKWARD = {count: _vector_store(count, backward=True) for count in (1, 2, 4)}


@intrinsic
def load_scaled(typingctx: Any, pointer: Any, index: Any) -> Any:
    """(m, e) of the scaled number that is `index` such numbers after pointer: one load of 8 or 16 bytes."""
    real = pointer.dtype
    integer = WORD if real == types.float32 else LONG

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = builder.bitcast(args[0], ir.VectorType(integer, 2).as_pointer())
        pair = builder.load(builder.gep(pairs, [args[1]]))
        pair.align = integer.width // 4
        m = builder.bitcast(builder.extract_element(pair, WORD(0)), context.get_value_type(real))
        e = builder.extract_element(pair, WORD(1))
        return context.make_tuple(builder, signature.return_type, [m, e if integer is WORD else builder.trunc(e, WORD)])

    return types.Tuple((real, types.int32))(pointer, index), generate


@intrinsic
def store_scaled(typingctx: Any, pointer: Any, index: Any, m: Any, e: Any) -> Any:
    """m * 2**e to the place that is `index` scaled numbers after pointer."""
    real = pointer.dtype
    integer = WORD if real == types.float32 else LONG

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = builder.bitcast(args[0], ir.VectorType(integer, 2).as_pointer())
        pair = ir.Constant(ir.VectorType(integer, 2), ir.Undefined)
        pair = builder.insert_element(pair, builder.bitcast(args[2], integer), WORD(0))
        pair = builder.insert_element(pair, args[3] if integer is WORD else builder.sext(args[3], LONG), WORD(1))
        builder.store(pair, builder.gep(pairs, [args[1]])).align = integer.width // 4
        return context.get_dummy_value()

    return types.void(pointer, index, real, types.int32), generate


@intrinsic
def prefetch(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Have the element at pointer[index] brought to the L2 cache; nobody waits for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.ptrtoint(builder.gep(args[0], [args[1]]), LONG)
        assembly = ir.InlineAsm(
            ir.FunctionType(ir.VoidType(), [LONG]), "prefetch.global.L2 [$0];", "l", side_effect=True
        )
        builder.call(assembly, [address])
        return context.get_dummy_value()

    return types.void(pointer, index), generate


@intrinsic
def bfloat16_to_float32(typingctx: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(args[0], WORD), WORD(16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def float32_to_bfloat16(typingctx: Any, x: Any) -> Any:
    """Rounded to nearest, ties to even; a NaN stays one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], WORD)
        odd = builder.and_(builder.lshr(bits, WORD(16)), WORD(1))
        rounded = builder.add(bits, builder.add(odd, WORD(0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.trunc(builder.lshr(builder.select(is_nan, WORD(0x7FC00000), rounded), WORD(16)), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def float16_to_float32(typingctx: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def float32_to_float16(typingctx: Any, x: Any) -> Any:
    """Rounded to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def keep(typingctx: Any, x: Any) -> Any:
    """x itself: what there is to do where nothing has to be converted."""
    return x(x), lambda context, builder, signature, args: args[0]


WIDEN = {
    "float32": keep, "float64": keep, "bfloat16": bfloat16_to_float32, "float16": float16_to_float32,
}  # fmt: skip
"""By dtype of the scores: from a stored score to float32 or float64."""

NARROW = {
    "float32": keep, "float64": keep, "bfloat16": float32_to_bfloat16, "float16": float32_to_float16,
}  # fmt: skip
