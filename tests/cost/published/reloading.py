"""Tensor cores whose partial sums leave the accumulators every few values of K: the third-party Sparseloop runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from published.dual_sided import DualSidedCore


@dataclass(frozen=True)
class ReloadingCore:
    """`rows` x `lanes` kept MACs a cycle; weights serve `columns` output columns, sums stay for `steps` steps of K.

    `keep` of `group` weights along K are kept ((1, 1): dense), each with `meta_bits`. Words have `word_bits`; the
    shared buffer delivers `words_per_cycle`.
    """

    name: str
    rows: int
    lanes: int
    columns: int
    steps: int
    keep: int
    group: int
    meta_bits: int
    word_bits: int
    words_per_cycle: int


def reloading_cycles(core: ReloadingCore, M: int, K: int, N: int) -> float:
    """Cycles for weights (M, K) times activations (K, N).

    A cycle takes `lanes` kept weights of each row, so that skipping widens the activations a cycle needs while the
    buffer's port stays: a 2:4 core with a port sized for dense work gains less than two.
    """
    row_tiles = -(-M // core.rows)
    span = core.lanes * core.group // core.keep
    steps = -(-K // span)
    kept = steps * core.lanes
    compute = row_tiles * steps * N
    weights = row_tiles * core.rows * kept * -(-N // core.columns)
    activations = row_tiles * steps * span * N
    sums = M * N * (-(-steps // core.steps) - 1)
    words = weights * (1 + core.meta_bits / core.word_bits) + activations + sums
    return max(float(compute), words / core.words_per_cycle)


DENSE_TC = ReloadingCore("dense_tc", 16, 8, 8, 2, keep=1, group=1, meta_bits=0, word_bits=16, words_per_cycle=32)
NVSTC = replace(DENSE_TC, name="nvstc", keep=2, group=4, meta_bits=2)
DSTC_16BIT = DualSidedCore(
    name="dstc",
    units=1,
    granule_a=8,
    granule_b=16,
    tiles=((32, 32),),
    arrangements=((1, 1),),
    accumulate_k=8,
    buffer_words=33024 * 16,
    words_per_cycle=32,
    accumulator_words_per_cycle=116,
    word_bits=16,
    vector_bits="granule",
    dense_above=1.0,
    energy=None,
)
