"""Sums of products in whole tiles: totals += inputs @ weights by one instruction for 16 rows of 16 totals (Intel AMX).

A tile is a register of up to 16 rows of 64 bytes. Totals are tiles of 16 x 16 float32, inputs of 16 rows of 16 pairs of
bfloat16, and weights, laid out as `vqaudio.runtime.product.paired_weights` does it, of 16 such pairs for each of 16
outputs. Up to two tiles of totals below each other and two beside each other stay in registers while the others run by.
A total depends on its own row and column alone, whichever tile they are a part of.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from vqaudio.runtime.compilation import element, inner
from vqaudio.runtime.processor import TILED

SIDE = 16  # rows of a tile, and numbers of four bytes in each
TOTALS, INPUTS, WEIGHTS = ((0, 1), (2, 3)), (4, 5), (6, 7)  # the registers; totals by row and column
PALETTE, WIDTHS, HEIGHTS = 0, 16, 48  # where the configuration of the registers has what, of 64 bytes in all

_byte, _word = ir.IntType(8), ir.IntType(16)


def _instruct(builder: ir.IRBuilder, name: str, *operands: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), operands)


@intrinsic
def _configure(context, upper, lower, deep):
    """Set up the registers for tiles of totals of `upper` and, below them, `lower` rows, over `deep` pairs."""

    def generate(context, builder, signature, arguments):
        upper, lower, deep = arguments
        full = upper.type(4 * SIDE)
        shapes = [(rows, full) for rows, pair in zip((upper, lower), TOTALS, strict=True) for _ in pair]
        shapes += [(rows, builder.mul(deep, deep.type(4))) for rows in (upper, lower)]
        shapes += [(deep, full) for _ in WEIGHTS]
        kind = ir.ArrayType(_byte, 64)
        held = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), held)

        def put(value: Any, kind: Any, offset: int) -> None:
            place = builder.gep(held, [_byte(0), _byte(offset)])
            builder.store(builder.trunc(value, kind), builder.bitcast(place, kind.as_pointer()), align=1)

        put(upper.type(1), _byte, PALETTE)
        for register, (rows, width) in enumerate(shapes):
            put(width, _word, WIDTHS + 2 * register)
            put(rows, _byte, HEIGHTS + register)
        _instruct(builder, "ldtilecfg", builder.bitcast(held, _byte.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def _release(context):
    """Leave the registers empty, so that nobody has to save them."""

    def generate(context, builder, signature, arguments):
        _instruct(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


def _block(tall: int, wide: int) -> Any:
    """An intrinsic that adds to tiles of totals, `tall` below each other and `wide` beside each other."""

    @intrinsic
    def add_products(context, totals, weights, inputs, row, column, first, stop, deep):
        def generate(context, builder, signature, arguments):
            y, w, x = (
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
            )
            row, column, first, stop, deep = arguments[3:]
            integer = row.type
            rows = [builder.add(row, integer(SIDE * r)) for r in range(tall)]
            columns = [builder.add(column, integer(SIDE * c)) for c in range(wide)]
            grid = [(r, c) for r in range(tall) for c in range(wide)]
            places = [(TOTALS[r][c], element(builder, y, rows[r], columns[c])) for r, c in grid]

            def move(name: str, register: int, place: Any, array: Any) -> None:
                _instruct(builder, name, _byte(register), place, builder.extract_value(array.strides, 0))

            for register, place in places:
                move("tileloadd64", register, place, y)
            before = builder.block
            body, after = builder.append_basic_block("product"), builder.append_basic_block("stored")
            builder.branch(body)
            builder.position_at_end(body)
            k = builder.phi(integer)
            k.add_incoming(first, before)
            for r in range(tall):
                move("tileloadd64", INPUTS[r], element(builder, x, rows[r], k), x)
            for c in range(wide):
                move("tileloadd64", WEIGHTS[c], element(builder, w, k, columns[c]), w)
            for r, c in grid:
                _instruct(builder, "tdpbf16ps", *map(_byte, (TOTALS[r][c], INPUTS[r], WEIGHTS[c])))
            next_k = builder.add(k, deep)
            k.add_incoming(next_k, body)
            builder.cbranch(builder.icmp_signed("<", next_k, stop), body, after)
            builder.position_at_end(after)
            for register, place in places:
                move("tilestored64", register, place, y)
            return context.get_dummy_value()

        return types.void(totals, weights, inputs, *[types.intp] * 5), generate

    return add_products


_two_by_two, _two_by_one, _one_by_two, _one_by_one = (_block(*shape) for shape in ((2, 2), (2, 1), (1, 2), (1, 1)))


@inner
def _add_block(
    totals: NDArray, weights: NDArray, inputs: NDArray, rows: tuple[int, int], span: tuple[int, int]
) -> None:
    """Add the products of some pairs [first, stop), a whole number of tiles or a part of one, to some rows [first,
    stop), a whole number of pairs of tiles or a part of one."""
    first, stop = span
    deep, tall = min(SIDE, stop - first), min(2 * SIDE, rows[1] - rows[0])
    _configure(min(tall, SIDE), max(tall - SIDE, 1), deep)  # type: ignore[call-arg] # numba gives the context
    for column in range(0, totals.shape[1], 2 * SIDE):
        last = column + SIDE == totals.shape[1]
        for row in range(rows[0], rows[1], 2 * SIDE):
            if tall > SIDE and last:
                _two_by_one(totals, weights, inputs, row, column, first, stop, deep)
            elif tall > SIDE:
                _two_by_two(totals, weights, inputs, row, column, first, stop, deep)
            elif last:
                _one_by_one(totals, weights, inputs, row, column, first, stop, deep)
            else:
                _one_by_two(totals, weights, inputs, row, column, first, stop, deep)


def add_by_tiles(totals: NDArray, weights: NDArray, inputs: NDArray) -> bool:
    """totals += inputs @ weights as for `vqaudio.runtime.product.accumulate`, where the processor has tiles for that.

    Returns:
        whether it has, and all is done.
    """
    raise NotImplementedError


@overload(add_by_tiles)
def _add_by_tiles(totals, weights, inputs):
    if not TILED or totals.dtype != types.float32 or weights.dtype != types.int32:
        return lambda totals, weights, inputs: False

    def add(totals, weights, inputs):
        rows, pairs = len(totals), len(weights)
        even, whole = rows - rows % (2 * SIDE), pairs - pairs % SIDE
        for span in ((0, whole), (whole, pairs)):
            for block in ((0, even), (even, rows)):
                if span[0] < span[1] and block[0] < block[1]:
                    _add_block(totals, weights, inputs, block, span)
        _release()
        return True

    return add
