"""Groups that must stay together, and their stratified assignment to parts."""

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.csgraph import connected_components


def link(units: pl.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Number of the connected component of each row of ``units`` (N,).

    Two rows are connected when they share a value in any of ``columns``; null shares nothing.
    Components are numbered in the order of their first row.
    """
    n = units.height
    rows, nodes, offset = [np.arange(n)], [np.arange(n)], n
    for name in columns:
        known = units.select(name).with_row_index("row").filter(pl.col(name).is_not_null())
        codes = known[name].rank("dense").cast(pl.Int64).to_numpy() - 1
        rows.append(known["row"].to_numpy())
        nodes.append(codes + offset)
        offset += int(codes.max()) + 1 if len(codes) else 0
    row, node = np.concatenate(rows), np.concatenate(nodes)
    edges = sparse.coo_array((np.ones(len(row)), (row, node)), shape=(offset, offset))
    _, component = connected_components(edges, directed=False)
    _, first, number = np.unique(component[:n], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def class_counts(group: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Rows by group and stratum, (G, S) floats; ``stratum`` (N,) holds codes from 0."""
    shape = (int(group.max()) + 1, int(stratum.max()) + 1)
    return (
        np.bincount(group * shape[1] + stratum, minlength=shape[0] * shape[1])
        .reshape(shape)
        .astype(float)
    )


def assign(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign groups to parts so that each part has its share of every stratum.

    Large groups go first, each to the part whose deviation from its share it mends most; no part
    stays empty.

    Args:
        counts: (G, S) rows by group and stratum.
        shares: (P,) wanted share of each part, summing to 1; G >= P.
        rng: breaks ties and orders groups of about equal size.

    Returns:
        (G,) number of the part.
    """
    n_groups, n_parts = len(counts), len(shares)
    totals = np.maximum(counts.sum(axis=0), 1.0)
    size = counts.sum(axis=1)
    # groups within a factor of two of each other count as equal: their order is the seed's
    order = np.lexsort((rng.permutation(n_groups), -np.floor(np.log2(np.maximum(size, 1)))))
    # the total is one more stratum, so that parts also get their share of the rows
    weighted = np.column_stack([counts / np.sqrt(totals), size / np.sqrt(max(size.sum(), 1.0))])
    wanted = shares[:, None] * weighted.sum(axis=0)
    held = np.zeros((n_parts, weighted.shape[1]))
    part = np.empty(n_groups, dtype=np.int64)
    is_empty = np.ones(n_parts, dtype=bool)
    for done, group in enumerate(order):
        cost = (weighted[group] * (2 * (held - wanted) + weighted[group])).sum(axis=1) / shares
        if n_groups - done <= is_empty.sum():
            cost = np.where(is_empty, cost, np.inf)
        best = int(np.argmin(cost))
        part[group] = best
        held[best] += weighted[group]
        is_empty[best] = False
    return part
