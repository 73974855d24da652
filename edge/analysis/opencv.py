"""OpenCV's threads while moodring analyses."""

from __future__ import annotations

import threading
from typing import Self

import cv2


class OneThread:
    """`with OneThread():` runs OpenCV in one thread, and restores its number of threads at the end of the last such block.

    Frames are too small to gain from more threads, and the order of detections would depend on them. The number belongs to the
    process, so blocks in several threads are counted.
    """

    _lock = threading.Lock()
    _blocks = 0
    _before = 1

    def __enter__(self) -> Self:
        with OneThread._lock:
            if not OneThread._blocks:
                OneThread._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            OneThread._blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        with OneThread._lock:
            OneThread._blocks -= 1
            if not OneThread._blocks:
                cv2.setNumThreads(OneThread._before)
