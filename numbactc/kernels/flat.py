"""Arrays of one dimension as two words each, an address and a size, for kernels that pass many of them on.

Numba passes an array as seven words, so that a tuple of twenty arrays, handed through five functions, costs more to
call with and to compile than what the functions do. `flat` makes the short form of arrays that a caller keeps alive;
there are no slices of it, nor negative indices.
"""

import operator
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, make_attribute_wrapper, models, register_model


class FlatArray(types.Type):
    """Numba's type of one."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(f"flat({dtype})")
        self.dtype = dtype


@register_model(FlatArray)
class FlatModel(models.StructModel):
    def __init__(self, manager: Any, kind: FlatArray) -> None:
        super().__init__(manager, kind, [("data", types.CPointer(kind.dtype)), ("size", types.intp)])


make_attribute_wrapper(FlatArray, "size", "size")


@infer_global(operator.getitem)
class FlatGetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], FlatArray) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class FlatSetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], FlatArray) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.getitem, FlatArray, types.Integer)
def get_item(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    place = _address(context, builder, signature, args)
    return context.unpack_value(builder, signature.args[0].dtype, place)


@lower_builtin(operator.setitem, FlatArray, types.Integer, types.Any)
def set_item(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    place = _address(context, builder, signature, args)
    context.pack_value(builder, signature.args[0].dtype, args[2], place)
    return context.get_dummy_value()


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def flat(typingctx: Any, given: Any) -> Any:
    """The flat form of a contiguous array of one dimension; of a tuple, named or not, the same with flat arrays."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _flat_value(context, builder, signature.args[0], args[0])

    return _flat_type(given)(given), generate


def _flat_type(kind: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([_flat_type(item) for item in kind], getattr(kind, "instance_class", None))
    if isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C":
        return FlatArray(kind.dtype)
    return kind


def _flat_value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        items = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, _flat_type(kind), [_flat_value(context, builder, *item) for item in items])
    result_type = _flat_type(kind)
    if not isinstance(result_type, FlatArray):
        return value
    source = context.make_array(kind)(context, builder, value)
    result = cgutils.create_struct_proxy(result_type)(context, builder)
    result.data, result.size = source.data, source.nitems
    return result._getvalue()
