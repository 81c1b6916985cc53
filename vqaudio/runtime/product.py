"""Sums of products, the one operation that all networks spend their time in: totals += inputs @ weights, for numba.

A block of totals stays in vector registers while the weights run by, as in Goto and van de Geijn 2008 ("Anatomy of
high-performance matrix multiplication"); LLVM is given the vectors directly, because it does not find them in loops.
Every total is one chain of multiply-adds, fused where the processor has that, in the order of the inputs, however many
rows there are and wherever they stand: a frame's result depends neither on the chunk that it comes in nor on the
vectors of the machine.

Where the processor multiplies pairs of bfloat16 (AVX512_BF16), weights and inputs may also be such pairs, which takes
half the steps: sums are float32 still, and each step of a chain adds two products. AMD's processors take such steps as
fast as those of float32, Intel's at less than half the pace, so that pairs are slower there; but where Intel's have
tiles (`vqaudio.runtime.tiles`), all pairs go through these, which is several times as fast.

Sums of integers take pairs of int16 and give int32, the same whatever the order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable
from numpy.typing import NDArray

from vqaudio.runtime.compilation import element, inner
from vqaudio.runtime.processor import INTEGER_PAIRED, WIDE
from vqaudio.runtime.tiles import add_by_tiles

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Pairs = NDArray[np.int32]  # two bfloat16 or two int16 in each, the first one in the lower half

LANES = 16  # widths of weights are multiples of this
LINE = 64  # bytes of a line of the cache
VECTOR = 16 if WIDE else 8
# Rows of a block of totals, and how many vectors wide it may be: nearly all of the 32 or 16 registers hold totals.
TALL, MIDDLE, SINGLE = (
    ((8, (3, 2, 1)), (4, (6, 2, 1)), (1, (8, 1))) if WIDE else ((4, (3, 1)), (2, (6, 1)), (1, (8, 1)))
)

BELOW_HALF, HALF, ONE = np.uint32(0x7FFF), np.uint32(16), np.uint32(1)  # for the lower 16 bits of a float32


def block(rows: int, vectors: int, lanes: int) -> Any:
    """An intrinsic that adds to a block of totals (rows, vectors * lanes) at the given row and column.

    Totals, weights and inputs are all float32; or weights and inputs are `Pairs`, of bfloat16 where the totals are
    float32, of int16 where they are int32.
    """

    @intrinsic
    def add_products(context, totals, weights, inputs, row, column):
        def generate(context, builder, signature, arguments):
            paired = weights.dtype == types.int32
            whole = totals.dtype == types.int32
            factor = ir.IntType(32) if paired else ir.FloatType()
            vector = ir.VectorType(ir.IntType(32) if whole else ir.FloatType(), lanes)
            factors = ir.VectorType(factor, lanes)
            y, w, x = (
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
            )
            row, column = arguments[3:]
            integer = row.type

            def address(array: Any, row: Any, column: Any, kind: Any) -> Any:
                return builder.bitcast(element(builder, array, row, column), kind.as_pointer())

            def broadcast(number: Any) -> Any:
                undefined = ir.Constant(factors, ir.Undefined)
                one = builder.insert_element(undefined, number, ir.IntType(32)(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(one, undefined, zeros)

            def halves(pair: Any) -> tuple[Any, Any]:
                bits = ir.Constant(factors, [16] * lanes)
                return builder.ashr(builder.shl(pair, bits), bits), builder.ashr(pair, bits)

            def add(total: Any, weight: Any, number: Any) -> Any:
                if whole and not INTEGER_PAIRED:
                    for factor, other in zip(halves(weight), halves(number), strict=True):
                        total = builder.add(total, builder.mul(factor, other))
                    return total
                if whole:
                    name, operands = f"llvm.x86.avx512.vpdpwssd.{32 * lanes}", [total, weight, number]
                elif paired:
                    name, operands = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}", [total, weight, number]
                else:
                    name, operands = f"llvm.fmuladd.v{lanes}f32", [weight, number, total]
                kind = ir.FunctionType(vector, [operand.type for operand in operands])
                return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)

            columns = [builder.add(column, integer(v * lanes)) for v in range(vectors)]
            rows_ = [builder.add(row, integer(r)) for r in range(rows)]
            places = [address(y, r, c, vector) for r in rows_ for c in columns]
            first = [builder.load(place, align=4) for place in places]
            sources = [address(x, r, integer(0), factor) for r in rows_]

            before = builder.block
            body, after = builder.append_basic_block("product"), builder.append_basic_block("stored")
            builder.branch(body)
            builder.position_at_end(body)
            k = builder.phi(integer)
            k.add_incoming(integer(0), before)
            sums = [builder.phi(vector) for _ in first]
            weight = [builder.load(address(w, k, c, factors), align=4) for c in columns]
            updated = []
            for r, source in enumerate(sources):
                number = broadcast(builder.load(builder.gep(source, [k])))
                for v in range(vectors):
                    updated.append(add(sums[r * vectors + v], weight[v], number))
            next_k = builder.add(k, integer(1))
            k.add_incoming(next_k, body)
            for total, start, new in zip(sums, first, updated, strict=True):
                total.add_incoming(start, before)
                total.add_incoming(new, body)
            depth = builder.extract_value(w.shape, 0)
            builder.cbranch(builder.icmp_signed("<", next_k, depth), body, after)
            builder.position_at_end(after)
            for place, total in zip(places, updated, strict=True):
                builder.store(total, place, align=4)
            return context.get_dummy_value()

        return types.void(totals, weights, inputs, types.intp, types.intp), generate

    return add_products


def strip(rows: int, widths: tuple[int, ...], lanes: int) -> Any:
    """A function that adds to `rows` rows of totals from a given row on, in blocks of the given widths in vectors."""
    add_products, width = block(rows, widths[0], lanes), widths[0] * lanes
    narrower = strip(rows, widths[1:], lanes) if len(widths) > 1 else None

    def add(totals: Floats, weights: Floats, inputs: Floats, row: int, column: int) -> None:
        while column + width <= totals.shape[1]:
            add_products(totals, weights, inputs, row, column)
            column += width
        if narrower is not None:
            narrower(totals, weights, inputs, row, column)

    # What is loaded from the cache of several processes is linked by name: functions that differ must not share one.
    add.__qualname__ = f"add_{rows}_rows_of_{'_'.join(map(str, widths))}_times_{lanes}"
    return inner(add)


_tall, _middle, _single = (strip(rows, widths, VECTOR) for rows, widths in (TALL, MIDDLE, SINGLE))
_TALL, _MIDDLE = TALL[0], MIDDLE[0]


@inner
def accumulate(totals: Floats | Integers, weights: Floats | Pairs, inputs: Floats | Pairs) -> None:
    """totals += inputs @ weights: (M, N), (K, N) and (M, K), K at least 1 and N a multiple of `LANES`.

    All are float32; or weights and inputs are pairs, K of them, of int16 where the totals are int32, and of bfloat16
    where they are float32 and the processor is `PAIRED`. Columns lie side by side; rows may lie anywhere, those of the
    inputs may even overlap.
    """
    if add_by_tiles(totals, weights, inputs):
        return
    row = 0
    while row + _TALL <= len(totals):
        _tall(totals, weights, inputs, row, 0)
        row += _TALL
    while row + _MIDDLE <= len(totals):
        _middle(totals, weights, inputs, row, 0)
        row += _MIDDLE
    while row < len(totals):
        _single(totals, weights, inputs, row, 0)
        row += 1


@register_jitable
def _upper_half(bits: Any) -> Any:
    """The bits of bfloat16 numbers nearest to float32 ones, of two equally near the even one; scalars or arrays."""
    return (bits + BELOW_HALF + (bits >> HALF & ONE)) >> HALF


@register_jitable
def aligned(shape: Any, kind: Any) -> Any:
    """An empty array of a shape that begins with a line of the cache, or tiles and vectors would lie across two."""
    count = 1
    for size in shape:
        count *= size
    held = np.empty(count + LINE, kind)
    before = -held.ctypes.data % LINE // held.itemsize
    return held[before : before + count].reshape(shape)


@register_jitable
def pairs(rows: Floats) -> Pairs:
    """Rows (..., K) that lie side by side, K even, rounded to bfloat16, to nearest even: (..., K / 2)."""
    halves = aligned(rows.shape, np.uint16)
    halves[:] = _upper_half(rows.view(np.uint32))
    return halves.view(np.int32)


def paired_weights(weights: Floats) -> Pairs:
    """Weights (..., K, N), K even, as pairs for `accumulate` (..., K / 2, N)."""
    columns = pairs(np.ascontiguousarray(weights.swapaxes(-1, -2))).swapaxes(-1, -2)
    rows = aligned(columns.shape, np.int32)
    rows[:] = columns
    return rows


def fitting(rows: Floats, weights: Floats | Pairs) -> Floats | Pairs:
    """Rows as `accumulate` takes them beside these weights: float32 (m, K) as they are, or in pairs (m, K / 2)."""
    return rows if weights.dtype == np.float32 else pairs(rows)


def put(target: Floats | Pairs, source: Floats) -> None:
    """Write the first K columns of rows (m, ...) over a target, as they are (m, K) or in pairs (m, K / 2)."""
    raise NotImplementedError


@overload(put)
def _put(target, source):
    if target.dtype == types.float32:

        def copy(target, source):
            for row in range(len(target)):
                for k in range(target.shape[1]):
                    target[row, k] = source[row, k]

        return copy

    def round_off(target, source):
        halves, bits = target.view(np.uint16), source.view(np.uint32)
        for row in range(len(halves)):
            for k in range(halves.shape[1]):
                halves[row, k] = _upper_half(bits[row, k])

    return round_off


@overload(fitting)
def _fitting(rows, weights):
    if weights.dtype == types.float32:
        return lambda rows, weights: rows
    return lambda rows, weights: pairs(rows)
