"""MTCNN face detection: three small networks, each refining what the one before let through.

Paper: Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks". Weights: those inside the package facenet-pytorch 2.5.3 (MIT).

At the same input it finds the same boxes as ``facenet_pytorch.MTCNN.detect`` (a test holds it to
that), at a fraction of the time:

* every area average, of the pyramid and of each candidate, is read off one summed-area table;
* candidates of many frames go through the second and third network together;
* channels-last memory, in which max pooling is about ten times faster on a CPU;
* ``detect_height_px`` reduces the frame once instead of once for every level of the pyramid.

Axes here: N frames, K candidates, H and W pixels.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from models.errors import UserError

_NETS = ("pnet", "rnet", "onet")
# PNet sees a window of 12 pixels and moves it by 2.
_CELL_PX, _STRIDE_PX = 12, 2
_RNET_PX, _ONET_PX = 24, 48
# Candidates in one pass: their activations stay within a core's cache.
_RNET_BATCH, _ONET_BATCH = 128, 32


@dataclass(frozen=True)
class MtcnnConfig:
    """What decides which faces are found.

    Attributes:
        min_face_px: side of the smallest face looked for, in the frame the networks see.
        thresholds: probability that a candidate needs to pass each of the three networks.
        factor: ratio between neighbouring levels of the pyramid.
    """

    min_face_px: float = 20.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    factor: float = 0.709


@dataclass(frozen=True)
class Faces:
    """The faces of one frame, most probable first.

    Attributes:
        boxes_px: (K, 4) float32, x0, y0, x1, y1; may reach beyond the frame.
        landmarks_px: (K, 5, 2) float32, x, y of left eye, right eye, nose, left and right mouth
            corner, as seen in the picture.
        confidence: (K,) float32 in [0, 1].
    """

    boxes_px: np.ndarray
    landmarks_px: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)


def _conv(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel), nn.PReLU(channels_out)]


def _pool(kernel: int) -> nn.Module:
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


class PNet(nn.Module):
    """Proposals, fully convolutional: one candidate for every cell of 12 x 12 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
        self.is_face, self.shift = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> probability (N, h, w), box shift (N, 4, h, w)."""
        x = self.body(x)
        return self.is_face(x).softmax(1)[:, 1], self.shift(x)


class RNet(nn.Module):
    """Refinement: rejects most candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2)
        )
        self.dense = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.is_face, self.shift = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(K, 3, 24, 24) in [-1, 1] -> (K, 5): probability, box shift."""
        x = self.dense(_flat(self.body(x)))
        return torch.cat([self.is_face(x).softmax(1)[:, 1:], self.shift(x)], dim=1)


class ONet(nn.Module):
    """Output: the final probability, box and five landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(3, 32, 3),
            _pool(3),
            *_conv(32, 64, 3),
            _pool(3),
            *_conv(64, 64, 3),
            _pool(2),
            *_conv(64, 128, 2),
        )
        self.dense = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.is_face, self.shift = nn.Linear(256, 2), nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(K, 3, 48, 48) in [-1, 1] -> (K, 15): probability, box shift, five x, five y."""
        x = self.dense(_flat(self.body(x)))
        heads = [self.is_face(x).softmax(1)[:, 1:], self.shift(x), self.landmarks(x)]
        return torch.cat(heads, dim=1)


def _flat(x: Tensor) -> Tensor:
    # the weights were trained in Caffe's port of MATLAB: width before height before channel
    return x.permute(0, 3, 2, 1).flatten(1)


class Mtcnn(nn.Module):
    """The cascade. ``detect`` takes frames of one size and returns the faces of each.

    What it finds in a frame does not depend on which frames are passed with it.
    """

    def __init__(self, config: MtcnnConfig | None = None, device: str = "cpu") -> None:
        super().__init__()
        self.config = config or MtcnnConfig()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        for name in _NETS:
            _load(getattr(self, name), name)
        self.device = torch.device(device)
        self.to(self.device)
        # torch's own stubs forget this argument
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def detect(
        self,
        frames: Sequence[np.ndarray] | np.ndarray,
        detect_height_px: int | None = None,
        min_face_px: float | None = None,
    ) -> list[Faces]:
        """Faces of each frame.

        Args:
            frames: N frames of one size, each (H, W, 3) uint8, RGB.
            detect_height_px: reduce frames whose shorter side is longer than this before looking;
                the smallest face is then in pixels of the reduced frame. None: look at full size.
            min_face_px: another smallest face than that of the configuration.

        Returns:
            One ``Faces`` per frame, in pixels of the frames as given.
        """
        if not len(frames):
            return []
        shapes = {(frame.shape, frame.dtype) for frame in frames}
        shape, dtype = shapes.pop()
        if shapes or len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
            raise UserError(
                "face detection: frames must be uint8 of one shape (H, W, 3), "
                f"got {dtype} {shape}{' and others' if shapes else ''}"
            )
        height, width = shape[:2]
        small = reduced_size(height, width, detect_height_px)
        scale = np.array([width / small[1], height / small[0]], dtype=np.float32)
        sums = _summed(frames, small)
        boxes, frame_index = self._propose(sums, min_face_px or self.config.min_face_px)
        boxes, frame_index = self._refine(sums, boxes, frame_index)
        boxes, landmarks, frame_index = self._output(sums, boxes, frame_index)

        boxes_px = boxes[:, :4].numpy() * np.tile(scale, 2)
        landmarks_px = landmarks.numpy() * scale
        confidence, index = boxes[:, 4].numpy(), frame_index.numpy()
        found = []
        for number in range(len(frames)):
            rows = np.flatnonzero(index == number)
            rows = rows[np.argsort(-confidence[rows], kind="stable")]
            found.append(Faces(boxes_px[rows], landmarks_px[rows], confidence[rows]))
        return found

    def _propose(self, sums: Tensor, min_face_px: float) -> tuple[Tensor, Tensor]:
        """PNet over the pyramid: square boxes (K, 5) with probability, and their frames (K,)."""
        count, height, width = sums.shape[0], sums.shape[1] - 1, sums.shape[2] - 1
        boxes, index = [torch.zeros(0, 9)], [torch.zeros(0, dtype=torch.long)]
        for scale in pyramid_scales(height, width, min_face_px, self.config.factor):
            size = (int(height * scale + 1), int(width * scale + 1))
            # one frame at a time on a CPU: a batch of this size falls out of its cache
            step = count if self.device.type == "cuda" else 1
            for start in range(0, count, step):
                level = _area_resize(sums[start : start + step], size)
                probability, shift = self.pnet(self._scaled(level))
                found, frame = _cells(probability, shift, scale, self.config.thresholds[0])
                kept = batched_nms(found[:, :4], found[:, 4], frame, 0.5)
                boxes.append(found[kept].cpu())
                index.append(frame[kept].cpu() + start)
        candidates, frame_index = torch.cat(boxes), torch.cat(index)
        kept = batched_nms(candidates[:, :4], candidates[:, 4], frame_index, 0.7)
        candidates, frame_index = candidates[kept], frame_index[kept]
        # this network's shifts are in fractions of the side; the later ones count a pixel more
        side = (candidates[:, 2:4] - candidates[:, :2]).repeat(1, 2)
        moved = candidates[:, :4] + candidates[:, 5:] * side
        return torch.cat([_squared(moved), candidates[:, 4:5]], dim=1), frame_index

    def _refine(self, sums: Tensor, boxes: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """RNet: the candidates that pass, moved and squared."""
        boxes, index, out = self._look(self.rnet, _RNET_PX, _RNET_BATCH, sums, boxes, index)
        passed = out[:, 0] > self.config.thresholds[1]
        boxes, index, out = boxes[passed], index[passed], out[passed]
        kept = batched_nms(boxes[:, :4], out[:, 0], index, 0.7)
        boxes, index, out = boxes[kept], index[kept], out[kept]
        moved = _moved(boxes[:, :4], out[:, 1:5])
        return torch.cat([_squared(moved), out[:, :1]], dim=1), index

    def _output(self, sums: Tensor, boxes: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ONet: final boxes (K, 5), landmarks (K, 5, 2) and their frames (K,)."""
        boxes, index, out = self._look(self.onet, _ONET_PX, _ONET_BATCH, sums, boxes, index)
        passed = out[:, 0] > self.config.thresholds[2]
        boxes, index, out = boxes[passed], index[passed], out[passed]
        side = boxes[:, 2:4] - boxes[:, :2] + 1
        fractions = torch.stack([out[:, 5:10], out[:, 10:15]], dim=2)
        landmarks = boxes[:, None, :2] + side[:, None] * fractions - 1
        boxes = torch.cat([_moved(boxes[:, :4], out[:, 1:5]), out[:, :1]], dim=1)
        kept = _nms_inside(boxes, index, 0.7)
        return boxes[kept], landmarks[kept], index[kept]

    def _look(
        self, net: nn.Module, size_px: int, batch: int, sums: Tensor, boxes: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Crop each candidate to ``size_px`` and run ``net`` on it; empty crops are dropped."""
        height, width = sums.shape[1] - 1, sums.shape[2] - 1
        corners = boxes[:, :4].trunc().long()
        # the paper's code counts pixels from 1
        x0, y0 = corners[:, 0].clamp(min=1) - 1, corners[:, 1].clamp(min=1) - 1
        x1, y1 = corners[:, 2].clamp(max=width), corners[:, 3].clamp(max=height)
        inside = (x1 > x0) & (y1 > y0)
        boxes, index = boxes[inside], index[inside]
        windows = torch.stack([x0, y0, x1, y1], dim=1)[inside]
        outputs = [
            net(
                self._scaled(
                    _area_crop(sums, windows[i : i + batch], index[i : i + batch], size_px)
                )
            )
            for i in range(0, len(boxes), batch)
        ]
        width_out = 5 if net is self.rnet else 15
        return boxes, index, torch.cat(outputs).cpu() if outputs else torch.zeros(0, width_out)

    def _scaled(self, pixels: Tensor) -> Tensor:
        """(..., H, W, 3) in [0, 255] -> channels-last (..., 3, H, W) in [-1, 1] on the device."""
        return ((pixels - 127.5) * 0.0078125).permute(0, 3, 1, 2).to(self.device)


def reduced_size(height: int, width: int, detect_height_px: int | None) -> tuple[int, int]:
    """Height and width of the frame the networks see; the shorter side becomes the wanted one."""
    shorter = min(height, width)
    if detect_height_px is None or shorter <= detect_height_px:
        return height, width
    scale = detect_height_px / shorter
    return max(1, round(height * scale)), max(1, round(width * scale))


def pyramid_scales(height: int, width: int, min_face_px: float, factor: float) -> list[float]:
    """Scales at which a face of ``min_face_px`` and larger ones fill PNet's 12 pixel cell."""
    scale, scales = _CELL_PX / min_face_px, []
    while min(height, width) * scale >= _CELL_PX:
        scales.append(scale)
        scale *= factor
    return scales


@cache
def weights_sha256() -> str:
    """SHA-256 over the three weight files, in the order P, R, O."""
    digest = hashlib.sha256()
    for name in _NETS:
        digest.update(_weights_file(name).read_bytes())
    return digest.hexdigest()


def _weights_file(name: str) -> Path:
    # found without importing the package, whose import pulls in much that is not needed here
    spec = importlib.util.find_spec("facenet_pytorch")
    folders: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / "data" / f"{name}.pt"
        if file.exists():
            return file
    raise UserError(
        f"the MTCNN weights {name}.pt are not installed; "
        "install facenet-pytorch==2.5.3, which carries them"
    )


def _load(net: nn.Module, name: str) -> None:
    """Fill ``net`` from the weights file, whose layers stand in the same order as ours."""
    stored = torch.load(_weights_file(name), map_location="cpu", weights_only=True)
    ours = net.state_dict()
    if [tuple(v.shape) for v in stored.values()] != [tuple(v.shape) for v in ours.values()]:
        raise UserError(
            f"the MTCNN weights {_weights_file(name)} have other layers than expected; "
            "install facenet-pytorch==2.5.3"
        )
    net.load_state_dict(dict(zip(ours, stored.values(), strict=True)))


def _summed(frames: Sequence[np.ndarray] | np.ndarray, size: tuple[int, int]) -> Tensor:
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


def _area_resize(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """Area averages of whole frames: (N, h, w, 3) float32."""
    y0, y1 = _bins(torch.tensor(sums.shape[1] - 1), size[0])
    x0, x1 = _bins(torch.tensor(sums.shape[2] - 1), size[1])
    rows = sums.index_select(1, y1) - sums.index_select(1, y0)
    total = rows.index_select(2, x1) - rows.index_select(2, x0)
    return total.float() / ((y1 - y0)[:, None] * (x1 - x0))[..., None]


def _area_crop(sums: Tensor, windows: Tensor, index: Tensor, size_px: int) -> Tensor:
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


def _cells(
    probability: Tensor, shift: Tensor, scale: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """PNet's cells above the threshold: (K, 9) box, probability, shift; and their frames (K,)."""
    where = (probability >= threshold).nonzero()
    frame, y, x = where.unbind(1)
    corner = _STRIDE_PX * torch.stack([x, y], dim=1).float()
    near, far = ((corner + 1) / scale).floor(), ((corner + _CELL_PX) / scale).floor()
    score = probability[frame, y, x][:, None]
    return torch.cat([near, far, score, shift[frame, :, y, x]], dim=1), frame


def _moved(boxes: Tensor, shift: Tensor) -> Tensor:
    """Boxes (K, 4) moved by fractions of their side, which counts both end pixels."""
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _squared(boxes: Tensor) -> Tensor:
    """The squares with the same centres and the longer side."""
    side = boxes[:, 2:] - boxes[:, :2]
    longer = side.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + side * 0.5 - longer * 0.5
    return torch.cat([corner, corner + longer], dim=1)


def _nms_inside(boxes: Tensor, index: Tensor, threshold: float) -> Tensor:
    """Drop boxes (K, 5) of which a better one of the same frame covers ``threshold`` or more.

    Coverage is the common area over the smaller area, so that a box within a box goes as well.
    """
    order = boxes[:, 4].argsort(descending=True, stable=True)
    near, far = boxes[order, None, :2], boxes[order, None, 2:4]
    common = torch.minimum(far, far.transpose(0, 1)) - torch.maximum(near, near.transpose(0, 1)) + 1
    overlap = common.clamp(min=0).prod(2)
    area = (far - near + 1).prod(2)
    is_covered = overlap / torch.minimum(area, area.T) > threshold
    is_covered &= index[order, None] == index[order][None]
    kept = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):  # a few dozen at most: what passed all three networks
        if kept[rank]:
            kept[rank + 1 :] &= ~is_covered[rank, rank + 1 :]
    return order[kept]
