"""Area averages of frames and of windows in them, read off one summed-area table."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor


def summed(frames: Sequence[np.ndarray] | np.ndarray, size: tuple[int, int]) -> Tensor:
    """Summed-area table (N, H + 1, W + 1, 3) of the frames at ``size``.

    int32 may wrap around in frames beyond 8 megapixels; differences of it stay right.
    """
    tables = np.empty((len(frames), size[0] + 1, size[1] + 1, 3), np.int32)
    # below a half, sampling would alias; above, averaging takes ten times longer for no gain
    is_small = size[0] * 2 <= frames[0].shape[0]
    method = cv2.INTER_AREA if is_small else cv2.INTER_LINEAR
    for table, frame in zip(tables, frames, strict=True):
        if frame.shape[:2] != size:
            frame = cv2.resize(frame, (size[1], size[0]), interpolation=method)
        cv2.integral(np.ascontiguousarray(frame), table, sdepth=cv2.CV_32S)
    return torch.from_numpy(tables)


def _bins(length: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """First and end pixel of ``count`` bins that cover ``length`` pixels; they may overlap."""
    step = torch.arange(count)
    length = length[..., None]
    return step * length // count, -(-(step + 1) * length // count)


def area_resize(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """Area averages of whole frames: (N, h, w, 3) float32."""
    y0, y1 = _bins(torch.tensor(sums.shape[1] - 1), size[0])
    x0, x1 = _bins(torch.tensor(sums.shape[2] - 1), size[1])
    rows = sums.index_select(1, y1) - sums.index_select(1, y0)
    total = rows.index_select(2, x1) - rows.index_select(2, x0)
    return total.float() / ((y1 - y0)[:, None] * (x1 - x0))[..., None]


def area_crop(sums: Tensor, windows: Tensor, index: Tensor, size_px: int) -> Tensor:
    """Area averages of windows (K, 4) of frames ``index`` (K,): (K, size, size, 3) float32."""
    table_h, table_w = sums.shape[1], sums.shape[2]
    x0, x1 = _bins(windows[:, 2] - windows[:, 0], size_px)
    y0, y1 = _bins(windows[:, 3] - windows[:, 1], size_px)
    area = (y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]
    x0, x1 = (x + windows[:, :1] for x in (x0, x1))
    y0, y1 = ((y + windows[:, 1:2] + index[:, None] * table_h) * table_w for y in (y0, y1))
    flat = sums.view(-1, 3)

    def at(y: Tensor, x: Tensor) -> Tensor:
        return flat.index_select(0, (y[:, :, None] + x[:, None, :]).flatten())

    total = at(y1, x1) - at(y0, x1) - at(y1, x0) + at(y0, x0)
    return total.view(-1, size_px, size_px, 3).float() / area[..., None]
