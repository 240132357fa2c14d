"""Records, and named tuples of arrays and numbers, as kernels take them: by the address of a table of words.

Numba passes an array as seven words, so that a tuple of twenty arrays, handed through five functions, costs more to
call with and to compile than what the functions do. What is packed is one word, and its fields are read where they are
needed. Its arrays are an address and a size: there are no slices of them, nor negative indices.
"""

import operator
import struct
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    make_attribute_wrapper,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

WORD = ir.IntType(64)


def record(**fields: Any) -> Any:
    """The dtype of a record of arrays, given as (dtype, size), and of records."""
    parts = [(name, x) if isinstance(x, np.dtype) else (name, x[0], (x[1],)) for name, x in fields.items()]
    try:
        return np.dtype(parts, align=True)
    except ValueError:
        raise MemoryError(f"arrays of one record must fit into 2 GiB, which NumPy sets as the limit: {parts}") from None


class PackedArray(types.Type):
    """Numba's type of an array in what is packed."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(f"packed({dtype})")
        self.dtype = dtype


class PackedFields(types.Type):
    """Numba's type of what is packed, with the row of the table in which each field begins.

    Of a record within a record the rows are there, of other tables the address. Functions are named by the types of
    their arguments: the name of this one is short.
    """

    def __init__(self, fields: dict[str, tuple[int, types.Type]], is_record: bool) -> None:
        super().__init__(f"packed.{sha256(repr((fields, is_record)).encode()).hexdigest()[:12]}")
        self.fields = fields
        self.is_record = is_record


class Packed:
    """What a kernel takes as one argument, with the attributes of its fields.

    Args:
        content: a record, which is a structured array of no dimensions, whose fields are arrays of one dimension and
            records; or a named tuple of contiguous arrays of one dimension, numbers, and what is packed.

    What arrays hold may change, where they are may not.
    """

    def __init__(self, content: Any) -> None:
        self.content = content
        if isinstance(content, np.ndarray):
            self.kind, table = _layout(content.dtype)
            self._words = table + np.array([content.ctypes.data, 0])
        else:
            self.kind = _kind_of(content.__class__, *map(_field_key, content))
            self._words = np.array([_words_of(value) for value in content], np.int64)
        self.address = self._words.ctypes.data

    def __reduce__(self) -> Any:
        return Packed, (self.content,)


@lru_cache
def _layout(record: Any) -> tuple[PackedFields, np.ndarray]:
    """The type of a record, and its table: how far from its beginning the arrays are, and their sizes."""
    fields: dict[str, tuple[int, types.Type]] = {}
    rows: list[Any] = []
    for name in record.names:
        field, offset = record[name], record.fields[name][1]
        if field.subdtype is None:
            kind, table = _layout(field)
            more = table + np.array([offset, 0])
        else:
            kind, more = PackedArray(from_dtype(field.base)), [(offset, field.shape[0])]
        fields[name] = len(rows), kind
        rows.extend(more)
    return PackedFields(fields, True), np.array(rows, np.int64)


@lru_cache
def _kind_of(named_tuple: Any, *keys: Any) -> PackedFields:
    return PackedFields(dict(zip(named_tuple._fields, enumerate(map(_field_kind, keys)), strict=True)), False)


def _field_key(value: Any) -> Any:
    """What the type of a field depends on."""
    if isinstance(value, np.ndarray):
        assert value.ndim == 1 and value.flags.c_contiguous and value.flags.aligned
        return value.dtype
    return value.kind if isinstance(value, Packed) else type(value)


def _field_kind(key: Any) -> types.Type:
    if isinstance(key, np.dtype):
        return PackedArray(from_dtype(key))
    return {bool: types.boolean, int: types.int64, float: types.float64}.get(key, key)


def _words_of(value: Any) -> tuple[int, int]:
    """Address and size of an array, address of a table, or bits of a number."""
    if isinstance(value, np.ndarray):
        return value.ctypes.data, value.size
    if isinstance(value, float):
        return struct.unpack("q", struct.pack("d", value))[0], 0
    return value.address if isinstance(value, Packed) else int(value), 0


@typeof_impl.register(Packed)
def _typeof(value: Packed, _: Any) -> PackedFields:
    return value.kind


@unbox(PackedFields)
def _unbox(kind: PackedFields, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    word = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(c.builder.inttoptr(word, WORD.as_pointer()))


@register_model(PackedFields)
class PackedFieldsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: PackedFields) -> None:
        super().__init__(manager, kind, WORD.as_pointer())


@register_model(PackedArray)
class PackedArrayModel(models.StructModel):
    def __init__(self, manager: Any, kind: PackedArray) -> None:
        super().__init__(manager, kind, [("data", types.CPointer(kind.dtype)), ("size", types.intp)])


make_attribute_wrapper(PackedArray, "size", "size")


@infer_getattr
class PackedFieldsAttributes(AttributeTemplate):
    key = PackedFields

    def generic_resolve(self, kind: PackedFields, name: str) -> Any:
        return kind.fields[name][1] if name in kind.fields else None


@lower_getattr_generic(PackedFields)
def get_field(context: Any, builder: Any, kind: PackedFields, table: Any, name: str) -> Any:
    row, field = kind.fields[name]
    if isinstance(field, PackedFields) and kind.is_record:
        return builder.gep(table, [ir.Constant(WORD, 2 * row)])
    word = _word(builder, table, 2 * row)
    if isinstance(field, PackedArray):
        array = cgutils.create_struct_proxy(field)(context, builder)
        array.data = builder.inttoptr(word, array.data.type)
        array.size = _word(builder, table, 2 * row + 1)
        return array._getvalue()
    if isinstance(field, PackedFields):
        return builder.inttoptr(word, table.type)
    if field == types.boolean:
        return builder.icmp_signed("!=", word, ir.Constant(WORD, 0))
    return builder.bitcast(word, context.get_value_type(field))


def _word(builder: Any, table: Any, place: int) -> Any:
    """A word of a table. Nothing changes it, so that it need not be read again after other memory is written."""
    word = builder.load(builder.gep(table, [ir.Constant(WORD, place)]))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


@infer_global(operator.getitem)
class PackedGetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], PackedArray) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class PackedSetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], PackedArray) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.getitem, PackedArray, types.Integer)
def get_item(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    place = _address(context, builder, signature, args)
    return context.unpack_value(builder, signature.args[0].dtype, place)


@lower_builtin(operator.setitem, PackedArray, types.Integer, types.Any)
def set_item(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    place = _address(context, builder, signature, args)
    context.pack_value(builder, signature.args[0].dtype, args[2], place)
    return context.get_dummy_value()


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def packed(typingctx: Any, array: Any) -> Any:
    """A contiguous array of one dimension, which the caller keeps alive, as if it were in what is packed."""
    result = PackedArray(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(array)(context, builder, args[0])
        value = cgutils.create_struct_proxy(result)(context, builder)
        value.data, value.size = source.data, source.nitems
        return value._getvalue()

    return result(array), generate
