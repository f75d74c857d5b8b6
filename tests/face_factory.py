"""Drawn faces that MTCNN takes for faces, and small videos of them."""

from pathlib import Path

import av
import cv2
import numpy as np


def room(height_px: int = 240, width_px: int = 320) -> np.ndarray:
    """An even grey frame."""
    return np.full((height_px, width_px, 3), 110, np.uint8)


def draw_face(frame: np.ndarray, x_px: float, y_px: float, height_px: float) -> np.ndarray:
    """The frame with a face of ``height_px`` at a centre."""
    frame, scale = frame.copy(), height_px / 200

    def ellipse(dx: float, dy: float, half_x: float, half_y: float, colour: tuple) -> None:
        centre = (round((x_px + dx * scale) * 16), round((y_px + dy * scale) * 16))
        axes = (round(half_x * scale * 16), round(half_y * scale * 16))
        cv2.ellipse(frame, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, 4)

    ellipse(0, -22, 80, 98, (60, 40, 30))
    ellipse(0, 0, 70, 92, (224, 178, 148))
    for side in (-1, 1):
        ellipse(side * 28, -15, 15, 8, (245, 245, 245))
        ellipse(side * 28, -15, 7, 7, (60, 40, 30))
        ellipse(side * 28, -32, 18, 4, (60, 40, 30))
    ellipse(0, 15, 7, 20, (205, 156, 126))
    ellipse(0, 30, 13, 6, (180, 130, 100))
    ellipse(0, 52, 27, 9, (160, 60, 60))
    return cv2.GaussianBlur(frame, (0, 0), 1.2)


def write_video(path: Path, frames: list[np.ndarray], fps: int = 10) -> Path:
    """The frames as H.264 without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
