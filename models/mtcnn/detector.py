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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from models.errors import UserError
from models.mtcnn.areas import area_crop, area_resize, summed
from models.mtcnn.boxes import moved, nms_inside, squared
from models.mtcnn.networks import NETS, ONet, PNet, RNet, load

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


class Mtcnn(nn.Module):
    """The cascade. ``detect`` takes frames of one size and returns the faces of each.

    What it finds in a frame does not depend on which frames are passed with it.
    """

    def __init__(self, config: MtcnnConfig | None = None, device: str = "cpu") -> None:
        super().__init__()
        self.config = config or MtcnnConfig()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        for name in NETS:
            load(getattr(self, name), name)
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
        sums = summed(frames, small)
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
                level = area_resize(sums[start : start + step], size)
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
        shifted = candidates[:, :4] + candidates[:, 5:] * side
        return torch.cat([squared(shifted), candidates[:, 4:5]], dim=1), frame_index

    def _refine(self, sums: Tensor, boxes: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """RNet: the candidates that pass, moved and squared."""
        boxes, index, out = self._look(self.rnet, _RNET_PX, _RNET_BATCH, sums, boxes, index)
        passed = out[:, 0] > self.config.thresholds[1]
        boxes, index, out = boxes[passed], index[passed], out[passed]
        kept = batched_nms(boxes[:, :4], out[:, 0], index, 0.7)
        boxes, index, out = boxes[kept], index[kept], out[kept]
        square = squared(moved(boxes[:, :4], out[:, 1:5]))
        return torch.cat([square, out[:, :1]], dim=1), index

    def _output(self, sums: Tensor, boxes: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ONet: final boxes (K, 5), landmarks (K, 5, 2) and their frames (K,)."""
        boxes, index, out = self._look(self.onet, _ONET_PX, _ONET_BATCH, sums, boxes, index)
        passed = out[:, 0] > self.config.thresholds[2]
        boxes, index, out = boxes[passed], index[passed], out[passed]
        side = boxes[:, 2:4] - boxes[:, :2] + 1
        fractions = torch.stack([out[:, 5:10], out[:, 10:15]], dim=2)
        landmarks = boxes[:, None, :2] + side[:, None] * fractions - 1
        boxes = torch.cat([moved(boxes[:, :4], out[:, 1:5]), out[:, :1]], dim=1)
        kept = nms_inside(boxes, index, 0.7)
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
                self._scaled(area_crop(sums, windows[i : i + batch], index[i : i + batch], size_px))
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
