"""Where kernels that keep anti-diagonals find them: plain Python, which the common kernels compile for the CPU and for the GPU."""


def place(t: int, frames: int, targets: int, depth: int, all_kept: bool) -> int:
    """Return where frame 0 of anti-diagonal t is, or would be, in a kernel's array of all cells or of the last `depth` anti-diagonals.

    >>> [place(t, frames=3, targets=2, depth=2, all_kept=True) for t in range(4)]  # cells per anti-diagonal: 1, 2, 2, 1
    [0, 1, 2, 3]
    """
    if not all_kept:
        return (t % depth) * frames
    above, right, both = max(t - frames, 0), max(t - targets, 0), max(t - frames - targets, 0)
    cells_before = (t * (t + 1) - above * (above + 1) - right * (right + 1) + both * (both + 1)) // 2
    return cells_before - max(0, t - targets + 1)
