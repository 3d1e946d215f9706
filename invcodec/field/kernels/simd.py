"""SIMD vectors of `LANES` numbers for compiled kernels, held in registers on machines that have them that wide.

Automatic vectorisation keeps sums in memory, and gives up on loops that read from many arrays; explicit lanes are
several times faster. `Floats` and `Ints` have the arithmetic operators among themselves and the functions below.
Nothing checks bounds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

# Internals of numba and llvmlite, which pyproject.toml therefore bounds to tested versions (<0.69 and <0.51).
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from invcodec.field.kernels.options import kernel

LANES = 16

f32 = np.float32

_FAST = ("fast",)
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


class _Vector(types.Type):
    """Numba's type of a vector."""

    def __init__(self, name: str, native: ir.VectorType, element: types.Type) -> None:
        super().__init__(name)
        self.native = native
        self.element = element


_floats = _Vector("Floats", _FLOATS, types.float32)
_ints = _Vector("Ints", _INTS, types.uint32)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.native)


def _operator(function: Callable[..., Any], **builds: Callable[..., Any]) -> None:
    """Define an operator between two vectors by the instruction for floats, for ints, or both."""
    kinds = {"floats": _floats, "ints": _ints}

    class Template(ConcreteTemplate):
        cases: ClassVar = [signature(kinds[name], kinds[name], kinds[name]) for name in builds]

    infer_global(function)(Template)
    for name, build in builds.items():
        lower_builtin(function, kinds[name], kinds[name])(
            lambda context, builder, sig, args, build=build: build(builder, *args)
        )


_operator(operator.add, floats=lambda b, x, y: b.fadd(x, y, flags=_FAST), ints=lambda b, x, y: b.add(x, y))
_operator(operator.sub, floats=lambda b, x, y: b.fsub(x, y, flags=_FAST), ints=lambda b, x, y: b.sub(x, y))
_operator(operator.mul, floats=lambda b, x, y: b.fmul(x, y, flags=_FAST), ints=lambda b, x, y: b.mul(x, y))
_operator(operator.truediv, floats=lambda b, x, y: b.fdiv(x, y, flags=_FAST))
_operator(operator.xor, ints=lambda b, x, y: b.xor(x, y))
_operator(operator.and_, ints=lambda b, x, y: b.and_(x, y))
_operator(operator.lshift, ints=lambda b, x, y: b.shl(x, y))
_operator(operator.rshift, ints=lambda b, x, y: b.lshr(x, y))


def _place(context: Any, builder: Any, kind: Any, array: Any, indices: Sequence[Any], native: ir.Type) -> Any:
    """Pointer to an array's element, cast to the native type."""
    struct = context.make_array(kind)(context, builder, array)
    pointer = cgutils.get_item_pointer(context, builder, kind, struct, indices, wraparound=False, boundscheck=False)
    return builder.bitcast(pointer, native.as_pointer())


def _splat(builder: Any, value: Any, native: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(native, ir.Undefined), value, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, native.count), [0] * native.count)
    return builder.shuffle_vector(one, ir.Constant(native, ir.Undefined), zeros)


def _call(builder: Any, name: str, native: ir.Type, args: Sequence[Any]) -> Any:
    suffix = f"v{LANES}{'f' if native.element == _FLOAT else 'i'}32"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(native, [a.type for a in args]), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, args, fastmath=_FAST if native.element == _FLOAT else ())


@intrinsic
def floats(typingctx, value):
    """A number in every lane, or `Ints` converted."""

    def codegen(context, builder, sig, args):
        if sig.args[0] == _ints:
            return builder.sitofp(args[0], _FLOATS)
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32), _FLOATS)

    return _floats(value), codegen


@intrinsic
def ints(typingctx, value):
    """A number modulo 2^32 in every lane, or `Floats` truncated."""

    def codegen(context, builder, sig, args):
        if sig.args[0] == _floats:
            return builder.fptosi(args[0], _INTS)
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.uint32), _INTS)

    return _ints(value), codegen


@intrinsic
def load(typingctx, array, row, column):
    """Floats `array[row, column : column + LANES]` of a C-contiguous array."""

    def codegen(context, builder, sig, args):
        indices = [context.cast(builder, a, t, types.intp) for a, t in zip(args[1:], sig.args[1:], strict=True)]
        return builder.load(_place(context, builder, sig.args[0], args[0], indices, _FLOATS), align=4)

    return _floats(array, row, column), codegen


@intrinsic
def store(typingctx, array, row, column, value):
    """`array[row, column : column + LANES] = value`, floats or ints, of a C-contiguous array."""

    def codegen(context, builder, sig, args):
        indices = [context.cast(builder, a, t, types.intp) for a, t in zip(args[1:3], sig.args[1:3], strict=True)]
        place = _place(context, builder, sig.args[0], args[0], indices, sig.args[3].native)
        builder.store(args[3], place, align=4)
        return context.get_dummy_value()

    return types.none(array, row, column, value), codegen


@intrinsic
def transpose(typingctx, source, row, column, target, target_row, target_column):
    """Write the LANES x LANES block of `source` at (row, column), transposed, into `target`; both C-contiguous."""

    def codegen(context, builder, sig, args):
        def places(first: int) -> list[Any]:
            array, top, left = (
                args[first],
                *(context.cast(builder, args[i], sig.args[i], types.intp) for i in (first + 1, first + 2)),
            )
            rows = [builder.add(top, context.get_constant(types.intp, i)) for i in range(LANES)]
            return [_place(context, builder, sig.args[first], array, [own, left], _FLOATS) for own in rows]

        rows = [builder.load(place, align=4) for place in places(0)]
        # Swap the off-diagonal halves of ever smaller blocks.
        size = LANES // 2
        while size:
            for i in (i for i in range(LANES) if not i & size):
                upper = [lane if not lane & size else lane - size + LANES for lane in range(LANES)]
                lower = [lane + size if not lane & size else lane + LANES for lane in range(LANES)]
                pair = rows[i], rows[i + size]
                rows[i], rows[i + size] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_INT, LANES), order))
                    for order in (upper, lower)
                )
            size //= 2
        for value, place in zip(rows, places(3), strict=True):
            builder.store(value, place, align=4)
        return context.get_dummy_value()

    return types.none(source, row, column, target, target_row, target_column), codegen


@intrinsic
def fma(typingctx, x, y, z):
    """`x * y + z`."""

    def codegen(context, builder, sig, args):
        return _call(builder, "fmuladd", _FLOATS, args)

    return _floats(x, y, z), codegen


@intrinsic
def least(typingctx, x, y):
    """The lesser of each pair of floats, or of ints below 2^31."""

    def codegen(context, builder, sig, args):
        compare = builder.fcmp_ordered if sig.args[0] == _floats else builder.icmp_signed
        return builder.select(compare("<", *args), *args)

    return x(x, y), codegen


@intrinsic
def greatest(typingctx, x, y):
    """The greater of each pair of floats."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return _floats(x, y), codegen


@intrinsic
def absolute(typingctx, x):
    """Absolute values of floats."""

    def codegen(context, builder, sig, args):
        return _call(builder, "fabs", _FLOATS, args)

    return _floats(x), codegen


@intrinsic
def root(typingctx, x):
    """Square roots of floats."""

    def codegen(context, builder, sig, args):
        return _call(builder, "sqrt", _FLOATS, args)

    return _floats(x), codegen


@intrinsic
def signed(typingctx, x, y):
    """The absolute value of x with the sign of y, both floats."""

    def codegen(context, builder, sig, args):
        return _call(builder, "copysign", _FLOATS, args)

    return _floats(x, y), codegen


@intrinsic
def where_above(typingctx, x, y, yes, no):
    """`yes` where x > y (floats), elsewhere `no` (both floats or both ints)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return yes(x, y, yes, no), codegen


@intrinsic
def from_bits(typingctx, x):
    """The floats whose IEEE 754 bits are the ints x."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], _FLOATS)

    return _floats(x), codegen


@intrinsic
def total(typingctx, x):
    """Sum over the lanes of floats or ints."""

    def codegen(context, builder, sig, args):
        if sig.args[0] == _ints:
            name, start = f"llvm.vector.reduce.add.v{LANES}i32", []
        else:
            name, start = f"llvm.vector.reduce.fadd.v{LANES}f32", [ir.Constant(_FLOAT, 0.0)]
        args = [*start, *args]
        kind = ir.FunctionType(args[-1].type.element, [a.type for a in args])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, args, fastmath=_FAST if start else ())

    return x.element(x), codegen


@intrinsic
def lanes_set(typingctx, x):
    """Bit i of the result is bit 0 of lane i of the ints x."""

    def codegen(context, builder, sig, args):
        bits = builder.trunc(args[0], ir.VectorType(ir.IntType(1), LANES))
        return builder.zext(builder.bitcast(bits, ir.IntType(LANES)), _INT)

    return types.uint32(x), codegen


@intrinsic
def lowest_set(typingctx, bits):
    """Index of the lowest set bit of a nonzero number."""

    def codegen(context, builder, sig, args):
        bits = context.cast(builder, args[0], sig.args[0], types.uint32)
        return builder.cttz(bits, ir.Constant(ir.IntType(1), 1))

    return types.int32(bits), codegen


@intrinsic
def counting(typingctx):
    """The floats 0, 1, 2 and so on."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])

    return _floats(), codegen


def _gather(builder: Any, base: Any, index: Any, native: ir.VectorType) -> Any:
    """Elements number `index` (unsigned) after the pointer `base`."""
    size = native.element.width // 8
    wide = ir.VectorType(ir.IntType(64), native.count)
    bits = ir.VectorType(ir.IntType(1), native.count)
    pointers = ir.VectorType(native.element.as_pointer(), native.count)
    offset = builder.mul(builder.zext(index, wide), ir.Constant(wide, [size] * native.count))
    places = builder.add(_splat(builder, builder.ptrtoint(base, wide.element), wide), offset)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(native, [pointers, _INT, bits, native]),
        f"llvm.masked.gather.v{native.count}i{native.element.width}.v{native.count}p0",
    )
    everywhere, nothing = ir.Constant(bits, [1] * native.count), ir.Constant(native, ir.Undefined)
    return builder.call(function, [builder.inttoptr(places, pointers), ir.Constant(_INT, size), everywhere, nothing])


@intrinsic
def gather(typingctx, array, index):
    """Ints `array[index]` of a contiguous `[n]` uint32."""

    def codegen(context, builder, sig, args):
        struct = context.make_array(sig.args[0])(context, builder, args[0])
        return _gather(builder, struct.data, args[1], _INTS)

    return _ints(array, index), codegen


@intrinsic
def gather_pairs(typingctx, table, index):
    """Both columns of `table[index]`, a C-contiguous `[n, 2]` float32, as two `Floats`."""

    def codegen(context, builder, sig, args):
        struct = context.make_array(sig.args[0])(context, builder, args[0])
        half = LANES // 2
        parts = []
        for first in (0, half):
            lanes = ir.Constant(ir.VectorType(_INT, half), list(range(first, first + half)))
            own = builder.shuffle_vector(args[1], args[1], lanes)
            pairs = _gather(builder, struct.data, own, ir.VectorType(ir.IntType(64), half))
            parts.append(builder.bitcast(pairs, _FLOATS))
        column = [
            builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(_INT, LANES), list(range(first, 2 * LANES, 2))))
            for first in (0, 1)
        ]
        return context.make_tuple(builder, sig.return_type, column)

    return types.UniTuple(_floats, 2)(table, index), codegen


@intrinsic
def add_pair(typingctx, table, row, weight, a, b):
    """`table[row] += weight * (a, b)` of a C-contiguous `[n, 2]` float32."""

    def codegen(context, builder, sig, args):
        two = ir.VectorType(_FLOAT, 2)
        indices = [context.cast(builder, args[1], sig.args[1], types.intp), context.get_constant(types.intp, 0)]
        place = _place(context, builder, sig.args[0], args[0], indices, two)
        change = ir.Constant(two, ir.Undefined)
        for lane, value in enumerate(args[3:]):
            change = builder.insert_element(change, value, ir.Constant(_INT, lane))
        change = builder.fmul(change, _splat(builder, args[2], two), flags=_FAST)
        builder.store(builder.fadd(builder.load(place, align=4), change, flags=_FAST), place, align=4)
        return context.get_dummy_value()

    return types.none(table, row, weight, a, b), codegen


@intrinsic
def take_number(typingctx, counter):
    """Atomically increment element 0 of an int64 array; gives its previous value."""

    def codegen(context, builder, sig, args):
        struct = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", struct.data, context.get_constant(types.int64, 1), "monotonic")

    return types.int64(counter), codegen


@kernel
def exp(x):
    """Exponential function of each lane, to float32 rounding; close to 0, or large, beyond its range."""
    x = least(greatest(x, floats(f32(-87))), floats(f32(88)))
    # x = n ln 2 + r with n an integer and |r| at most half of ln 2; the offset turns truncation into rounding.
    whole = ints(fma(x, floats(f32(1.4426950408889634)), floats(f32(128.5))))
    n = floats(whole) - floats(f32(128))
    r = fma(n, floats(f32(-0.693359375)), x)
    r = fma(n, floats(f32(2.12194440e-4)), r)
    y = floats(f32(1 / 5040))
    y = fma(y, r, floats(f32(1 / 720)))
    y = fma(y, r, floats(f32(1 / 120)))
    y = fma(y, r, floats(f32(1 / 24)))
    y = fma(y, r, floats(f32(1 / 6)))
    y = fma(y, r, floats(f32(0.5)))
    y = fma(y, r, floats(f32(1)))
    y = fma(y, r, floats(f32(1)))
    return y * from_bits((whole - ints(1)) << ints(23))
