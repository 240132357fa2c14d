"""Arrays without a reference count, for what kernels pass on to each other.

Numba counts references wherever an array enters a function, a tuple or a slice. The counter is a function that is never
inlined, and for a short row its calls are a large part of the work. An array that a caller keeps alive needs no count.
`borrow` takes it off; slices and views of a borrowed array are borrowed, too.

Only arguments are borrowed, or what a variable holds until after the last use: Numba lets go of a local array behind
the last line that names it, and a borrowed view does not name it.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


class BorrowedArray(types.Array):
    """Numba's type of an array whose owner outlives the function."""

    def __init__(self, dtype: Any, ndim: int, layout: str, readonly: bool = False, aligned: bool = True) -> None:
        kind = f"borrowed({dtype}, {ndim}d, {layout}, {'readonly' if readonly else 'mutable'}, {aligned})"
        super().__init__(dtype, ndim, layout, readonly, kind, aligned)

    def copy(self, dtype: Any = None, ndim: Any = None, layout: Any = None, readonly: Any = None) -> "BorrowedArray":
        """What Numba makes the types of slices and views with."""
        return BorrowedArray(
            self.dtype if dtype is None else dtype,
            self.ndim if ndim is None else ndim,
            self.layout if layout is None else layout,
            not self.mutable if readonly is None else readonly,
            self.aligned,
        )

    def unify(self, typingctx: Any, other: Any) -> Any:
        """The type of a variable that is now this, now that: borrowed if both are."""
        kind = super().unify(typingctx, other)
        return self.copy(layout=kind.layout) if kind and isinstance(other, BorrowedArray) else None


@register_model(BorrowedArray)
class BorrowedModel(models.StructModel):
    """As of any array, but with a plain pointer, always null, where others have their counter."""

    def __init__(self, manager: Any, kind: BorrowedArray) -> None:
        members = [
            ("meminfo", types.voidptr),
            ("parent", types.pyobject),
            ("nitems", types.intp),
            ("itemsize", types.intp),
            ("data", types.CPointer(kind.dtype)),
            ("shape", types.UniTuple(types.intp, kind.ndim)),
            ("strides", types.UniTuple(types.intp, kind.ndim)),
        ]
        super().__init__(manager, kind, members)


@intrinsic
def borrow(typingctx: Any, owned: Any) -> Any:
    """The same array without a reference count; of a tuple, named or not, the same with all its arrays borrowed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _value_without_count(context, builder, signature.args[0], args[0])

    return _without_count(owned)(owned), generate


def _without_count(kind: Any) -> Any:
    """The type of what is borrowed."""
    if isinstance(kind, types.BaseTuple):
        items = [_without_count(item) for item in kind]
        return types.BaseTuple.from_types(items, getattr(kind, "instance_class", None))
    if isinstance(kind, types.Array):
        return BorrowedArray(kind.dtype, kind.ndim, kind.layout, not kind.mutable, kind.aligned)
    return kind


def _value_without_count(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        items = cgutils.unpack_tuple(builder, value)
        borrowed = [_value_without_count(context, builder, *pair) for pair in zip(kind, items, strict=True)]
        return context.make_tuple(builder, _without_count(kind), borrowed)
    if not isinstance(kind, types.Array):
        return value
    source = context.make_array(kind)(context, builder, value)
    result = context.make_array(_without_count(kind))(context, builder)
    for field in ("data", "nitems", "itemsize", "shape", "strides"):
        setattr(result, field, getattr(source, field))
    result.meminfo = result.meminfo.type(None)
    result.parent = result.parent.type(None)
    return result._getvalue()
