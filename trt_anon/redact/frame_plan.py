"""What the kernels of `frame.cu` are told: patches, cells, tiles and where their scratch lies, in one table.

A *patch* is one region in one plane of its frame. Cells are those of `gaussian.py` and `pixelate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import RedactConfig
from trt_anon.cuda.device import address_of, side_of
from trt_anon.errors import UsageError
from trt_anon.redact.bitmap import WORD, Bitmap
from trt_anon.redact.frame import MIN_CELL_PX, MIN_SIGMA_PX
from trt_anon.redact.frame_table import BOX, THREADS, TILE, RegionTable, blocks_of, region_table
from trt_anon.redact.gaussian import MAX_CELL, MIN_SIGMA_LOW, MIN_SIGMA_OF_CELLS
from trt_anon.redact.solid import black_codes
from trt_anon.types import Frame, PixelFormat, Region

MAX_SIDE_PX = 16384
"""No frame may be wider or higher: the sums of cells have 32 bits."""

MAX_BIT_DEPTH = 12
"""No frame may have deeper samples, for the same reason."""

METHODS = ("gaussian", "pixelate", "solid")

# What frame.cu calls the same.
_SUM_WORD, _SUM_ITEMS = 16, 160
_MAX_RADIUS, _MAX_NEIGHBOURHOOD = 48, 56
_WRITE_BLOCKS, _WRITE_VALUES, _WORD_BYTES = 128, 4096, 16
_GATHER_CELLS, _NO_MASK = 1024, 0xFFFFFFFF

_SUM_BYTES = 480  # of a row of a tile of sums, about: half a kilobyte is what memory likes to give
_LEAST_PART, _MOST_SLICES = 64, 32  # a cell larger than a part is summed in parts
_LEAST_ROWS = 8  # of a part, where cells are few and are cut so that more threads have work
_WRITE_ROWS = 128  # of blocks, in a tile of samples
_GATHER_BYTES = 1 << 17  # of a patch that one block may sum; more would keep a GPU waiting for it
_MANY_TILES = 512  # of samples in planes of one kind: as many as keep a GPU busy; fewer are cut into halves
_FEW_ROWS = 16  # but no further

_AXIS_NUMBERS = (
    ("cells", np.uint16),
    ("size", np.uint16),
    ("slices", np.uint16),
    ("part", np.uint16),
    ("tile", np.uint16),
    ("blocks", np.uint16),
    ("length", np.uint16),
    ("log2_block", np.uint8),
    ("radius", np.uint8),
    ("sigma", np.float32),
    ("per_unit", np.float32),
)
_PATCH_NUMBERS = (
    ("pitch_bytes", np.uint32),
    ("region", np.uint32),
    ("sums", np.uint32),
    ("low", np.uint32),
    ("before", np.uint32),
    ("after", np.uint32),
    ("mask", np.uint32),
    ("rivals", np.uint32),
    ("fill", np.uint16, 4),
    ("mask_words", np.uint16),
    ("rows", np.uint16),
    ("channels", np.int8),
    ("alpha", np.int8),
    ("wide", np.int8),
    ("shift", np.int8),
)


def _patch_dtype(*, packed: bool) -> np.dtype[np.void]:
    """struct Patch of frame.cu; or, to reckon with, the same of numbers that do not wrap round."""

    def number(entry: tuple[Any, ...]) -> tuple[Any, ...]:
        name, dtype, *shape = entry
        return name, dtype if packed or dtype is np.float32 else np.int64, *shape

    axis = np.dtype([number(entry) for entry in _AXIS_NUMBERS], align=True)
    return np.dtype(
        [("samples", np.uint64), ("axis", axis, 2), *(number(entry) for entry in _PATCH_NUMBERS)], align=True
    )


_PATCH, _WIDE_PATCH = _patch_dtype(packed=True), _patch_dtype(packed=False)
_WORK = np.dtype([("owner", np.uint32), ("tile", np.uint32)])
LAYOUT = np.dtype(
    [(name, np.uint32) for name in ("regions", "patches", "points", "rivals")]
    + [(f"{name}_work", np.uint32) for name in ("gather", "sum", "mask", "blur", "write", "derived")]
    + [(name, np.uint32) for name in ("frame_starts", "gather_tiles", "sum_tiles", "blur_tiles")]
    + [("method", np.int32)],
    align=True,
)


@dataclass(frozen=True, slots=True, eq=False)
class RedactPlan:
    """One batch, ready to be launched.

    table: (T,) uint64, what the kernels read; it has to be on the device. layout: (1,) LAYOUT. sum_words, low_words and
    mask_words: of scratch, 4 bytes each. tiles: of each launch how many blocks. bytes_moved: by each launch. arrays:
    all that the table holds addresses of.
    """

    table: NDArray[np.uint64]
    layout: NDArray[np.void]
    sum_words: int
    low_words: int
    mask_words: int
    tiles: tuple[int, int, int]
    bytes_moved: tuple[int, int, int]
    arrays: tuple[Any, ...]
    outlines: bool

    @property
    def workspace_bytes(self) -> int:
        """What the table and the scratch take together, rounded up to a multiple of 16."""
        taken = self.table.nbytes + 4 * (self.sum_words + self.low_words + self.mask_words)
        return -(-taken // 16) * 16


def plan_redaction(
    frames: Sequence[Frame],
    regions_per_frame: Sequence[Sequence[Region]],
    config: RedactConfig,
    bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None = None,
) -> RedactPlan:
    """Plan the redaction of a batch, without looking at a pixel.

    Raises ValueError for broken regions, bitmaps that do not fit, planes that cannot be written or appear twice;
    UsageError for formats deeper than MAX_BIT_DEPTH and frames larger than MAX_SIDE_PX.
    """
    if len(frames) != len(regions_per_frame):
        raise ValueError(f"{len(frames)} frames, but regions for {len(regions_per_frame)}")
    planes = _planes(frames)
    table = region_table(frames, regions_per_frame, bitmaps_per_frame, config.detail_share, config.feather)
    patches, gathered, planes_each = _patches(frames, planes, table, config)
    across, down = patches["axis"][:, 0], patches["axis"][:, 1]
    channels = patches["channels"]
    parts = [axis["cells"] * axis["slices"] for axis in (across, down)]
    cells = across["cells"] * down["cells"] * channels
    sums = parts[0] * parts[1] * channels
    sum_tiles = -(-parts[0] // np.maximum(across["tile"], 1)) * -(-parts[1] // np.maximum(down["tile"], 1))
    beside = np.where(channels <= 2, channels, 1)
    blur_tiles = -(-across["cells"] * beside // TILE) * -(-down["cells"] // TILE) * (channels // beside)
    blocks_x = -(-across["length"] >> across["log2_block"])
    write_tiles = -(-blocks_x // _WRITE_BLOCKS) * -(-down["length"] // patches["rows"])
    if config.feather:
        write_tiles = -(-across["length"] // TILE) * -(-down["length"] // TILE)
    samples = across["length"] * down["length"] * channels << patches["wide"]
    if config.method == "solid":
        cells, sums, sum_tiles, blur_tiles = (np.zeros_like(array) for array in (cells, sums, sum_tiles, blur_tiles))
    unsummed = ~gathered & (across["size"] == 1) & (down["size"] == 1) & (config.method == "gaussian")
    sums, sum_tiles = (np.where(unsummed | gathered, 0, array) for array in (sums, sum_tiles))
    blur_tiles = np.where(gathered, 0, blur_tiles)
    patches["sums"], patches["low"] = np.cumsum(sums) - sums, np.cumsum(cells) - cells
    tiles_each = {
        "gather": gathered.astype(np.int64),
        "sum": sum_tiles,
        "mask": table.mask_tiles,
        "blur": blur_tiles,
        "derived": table.derived_tiles,
        "write": write_tiles,
    }
    count = {name: int(each.sum()) for name, each in tiles_each.items()}
    tiles = (count["gather"] + count["sum"] + count["mask"], count["blur"] + count["derived"], count["write"])
    if max(*tiles, int(sums.sum()), int(cells.sum()), table.mask_words) >= 1 << 31:
        raise ValueError("the regions of this batch are too many and too large for one; give it fewer frames")
    work = {f"{name}_work": _work(each) for name, each in tiles_each.items()}
    work["gather_work"] = work["gather_work"][np.argsort(-samples[gathered], kind="stable")]  # the longest first

    frame_starts = np.searchsorted(table.frame, np.arange(len(frames) + 1)).astype(np.uint32)
    blob, layout = _packed(
        {
            "regions": table.rows,
            "patches": patches.astype(_PATCH),
            "points": table.points,
            "rivals": table.rivals,
            **work,
            "frame_starts": frame_starts,
        }
    )
    layout["method"] = METHODS.index(config.method)
    for name in ("gather", "sum", "blur"):
        layout[f"{name}_tiles"] = count[name]
    read, unread = int(samples[(sum_tiles > 0) | gathered].sum()), int(samples[unsummed].sum())
    low, of_gathered = 4 * int(cells.sum()), 4 * int(cells[gathered].sum())
    summed, drawn = 4 * int(sums.sum()), 4 * table.plain_words
    derived = 4 * table.mask_words - drawn
    return RedactPlan(
        table=blob,
        layout=layout,
        sum_words=int(sums.sum()),
        low_words=int(cells.sum()),
        mask_words=table.mask_words,
        tiles=tiles,
        bytes_moved=(
            read + of_gathered + summed + drawn,
            unread + summed + low - of_gathered + (drawn + derived if derived else 0),
            low + (derived or drawn) * planes_each + int(samples.sum()),
        ),
        outlines=len(table.points) > 0,
        arrays=(*(p for frame in frames for p in frame.planes), *(b.words for b in table.bitmaps)),
    )


def _planes(frames: Sequence[Frame]) -> NDArray[np.int64]:
    """(F, 3, 4): of each plane the address, the bytes from row to row and within one, and the channels; checked."""
    planes = np.zeros((len(frames), 3, 4), np.int64)
    seen: set[int] = set()
    for place, frame in enumerate(frames):
        form = frame.pixel_format
        if form.bit_depth > MAX_BIT_DEPTH or max(frame.width_px, frame.height_px) > MAX_SIDE_PX:
            raise UsageError(
                f"{form.name} of {frame.width_px}x{frame.height_px} cannot be redacted on a GPU: at most "
                f"{MAX_BIT_DEPTH} bits and {MAX_SIDE_PX} pixels a side; use the CPU"
            )
        for number, plane in enumerate(frame.planes):
            sample = plane.dtype.itemsize
            channels = plane.shape[2] if plane.ndim == 3 else 1
            dense = (channels * sample, sample) if plane.ndim == 3 else (sample,)
            pitch = plane.strides[0]
            if plane.strides[1:] != dense or not plane.shape[1] * dense[0] <= pitch < 1 << 32 or pitch % sample:
                raise ValueError(f"planes need contiguous rows of a positive stride, got strides {plane.strides}")
            if side_of([plane]) == "numpy" and not plane.flags.writeable:
                raise ValueError("a plane is read-only, so its frame cannot be redacted in place")
            address = address_of(plane)
            if address in seen:
                raise ValueError("a plane appears twice in the batch; give all regions of a frame at once")
            seen.add(address)
            planes[place, number] = address, pitch, plane.shape[1] * dense[0], channels
    return planes


def _patches(
    frames: Sequence[Frame], planes: NDArray[np.int64], table: RegionTable, config: RedactConfig
) -> tuple[NDArray[np.void], NDArray[np.bool_], int]:
    """Every region in every plane of its frame, which of these one block sums, and in how many planes at most."""
    plane_counts = np.array([len(frame.planes) for frame in frames], np.int64)[table.frame]
    log2_block = blocks_of(frames)[table.frame]
    made, gathered = [], []
    for plane in range(int(plane_counts.max(initial=0))):
        index = np.flatnonzero(plane_counts > plane)
        of_frame, log2 = table.frame[index], log2_block[index]
        log2_unit = log2 if plane else np.zeros_like(log2)  # of luma pixels per sample
        first = table.rects_px[index, :2] >> log2_unit
        last = -(-table.rects_px[index, 2:] >> log2_unit)
        patches = np.zeros(len(index), _WIDE_PATCH)
        address, pitch, row_bytes, channels = planes[of_frame, plane].T
        forms = [_form_of(frame, plane) for frame in frames]
        size = np.array([form[0] for form in forms], np.int64).reshape(-1)[of_frame]
        patches["samples"] = address + first[:, 1] * pitch + first[:, 0] * channels * size
        patches["pitch_bytes"], patches["channels"], patches["region"] = pitch, channels, index
        patches["wide"] = size == 2
        patches["mask"] = np.where(table.rows["shape"] == BOX, _NO_MASK, table.rows["mask"])[index]
        patches["rivals"] = table.rows["rivals"][index]
        patches["mask_words"] = -(-table.rows["size"][index, 0] // WORD)
        patches["before"] = first[:, 0] * channels * size
        patches["after"] = row_bytes - last[:, 0] * channels * size
        for place, name in enumerate(("shift", "alpha"), 1):
            patches[name] = np.array([form[place] for form in forms], np.int16)[of_frame]
        patches["fill"] = np.array([form[3] for form in forms], np.uint16).reshape(-1, 4)[of_frame]
        for axis in range(2):
            _divide(
                patches["axis"][:, axis],
                config,
                table.object_px[index],
                last[:, axis] - first[:, axis],
                log2_unit[:, axis],
                log2[:, axis],
            )
        gathered.append(_tiles(patches, config.method))
        made.append(patches)
    if not made:
        return np.zeros(0, _WIDE_PATCH), np.zeros(0, np.bool_), 0
    return np.concatenate(made), np.concatenate(gathered), len(made)


def _form_of(frame: Frame, plane: int) -> tuple[int, int, int, list[int]]:
    """Bytes per sample, shift, channel of alpha or -1, and black by channel, in one plane."""
    form: PixelFormat = frame.pixel_format
    if plane >= len(frame.planes):
        return 0, 0, 0, [0] * 4
    black = black_codes(form, frame.color)[plane]
    alpha = form.channels.find("a")
    return form.dtype.itemsize, form.sample_shift, alpha, [*black, 0, 0, 0][:4]


def _divide(
    axis: NDArray[np.void],
    config: RedactConfig,
    object_px: NDArray[np.float64],
    length: NDArray[np.int64],
    log2_unit: NDArray[np.int64],
    log2_block: NDArray[np.int64],
) -> None:
    """Divide one axis of each patch into cells, and cells into parts."""
    log2_in_plane = log2_block - log2_unit
    axis["length"], axis["log2_block"] = length, log2_in_plane
    if config.method == "solid":
        return
    if config.method == "gaussian":
        sigma = np.maximum(config.detail_share * object_px, MIN_SIGMA_PX) / (1 << log2_unit)
        size, sigma_low = cells_and_sigmas(sigma)
        cells = -(-length // size) + 2
        radius = np.ceil(3 * sigma_low).astype(np.int64)
        if ((radius > (_MAX_NEIGHBOURHOOD - TILE) // 2) & (cells > _MAX_NEIGHBOURHOOD)).any() or (
            radius > _MAX_RADIUS
        ).any():  # cannot be, see `cells_and_sigmas`
            raise AssertionError("a Gaussian reaches farther than the kernel holds")
        axis["sigma"], axis["radius"], axis["per_unit"] = sigma_low, radius, 1 / (2 * size)
    else:
        side = np.maximum(object_px / math.floor(1 / config.detail_share), MIN_CELL_PX)
        blocks = -(-length >> log2_in_plane)
        cells = np.maximum(blocks // np.ceil(side / (1 << log2_block)).astype(np.int64), 1)
        size = np.minimum(-(-blocks // cells) << log2_in_plane, length)
        axis["blocks"] = blocks
    part = np.minimum(size, np.maximum(_LEAST_PART, -(-size // _MOST_SLICES)))
    axis["cells"], axis["size"], axis["part"], axis["slices"] = cells, size, part, -(-size // part)


def _gathered(patches: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which patches a single block sums and blurs."""
    across, down, channels = patches["axis"][:, 0], patches["axis"][:, 1], patches["channels"]
    sums = across["cells"] * down["cells"] * down["slices"] * channels
    samples = across["length"] * down["length"] * channels << patches["wide"]
    found: NDArray[np.bool_] = (across["slices"] == 1) & (sums <= _GATHER_CELLS) & (samples <= _GATHER_BYTES)
    return found


def _tiles(patches: NDArray[np.void], method: str) -> NDArray[np.bool_]:
    """How many parts of cells a tile of sums has, and how many rows a tile of samples, so that both find room.

    Gives which patches a single block sums and blurs.
    """
    across, down = patches["axis"][:, 0], patches["axis"][:, 1]
    step = patches["channels"] << patches["wide"]
    log2_y = down["log2_block"]
    width = np.minimum(across["length"], _WRITE_BLOCKS << across["log2_block"])
    tall = np.full(len(patches), _WRITE_ROWS, np.int64) << log2_y
    gathered = np.zeros(len(patches), np.bool_)
    if method != "solid":
        part = across["part"]
        across["tile"] = np.clip(_SUM_BYTES // (part * step), 1, across["cells"] * across["slices"])
        words = (across["tile"] * part * step + 2 * _SUM_WORD - 2) // _SUM_WORD
        busy = np.maximum(down["cells"] * down["slices"] * words, 1)  # threads, one for each word
        cuts = np.minimum(THREADS // busy, down["part"] // _LEAST_ROWS)
        down["part"] = -(-down["part"] // np.maximum(cuts, 1))
        down["slices"] = -(-down["size"] // down["part"])
        parts = np.maximum(down["cells"] * down["slices"], 1)
        gathered = _gathered(patches)
        items = np.where(gathered, _SUM_ITEMS, THREADS)
        down["tile"] = -(-parts // -(-parts // (items // words)))  # tiles alike
        least = down["size"]
        if method == "pixelate":  # cells differ by a block
            least = np.maximum(least - (1 << down["log2_block"]), 1)
        words = -(-(width * step + _WORD_BYTES - 1) // _WORD_BYTES)
        cell_rows = _WRITE_VALUES // (words * _WORD_BYTES >> patches["wide"])
        tall = np.minimum(tall, (cell_rows - 3) * least + 1)
    for _ in range(3):
        tiles = -(-down["length"] // np.maximum(tall, 1)) * -(-across["length"] // np.maximum(width, 1))
        if tiles.sum() >= _MANY_TILES:
            break
        tall = np.where(tall > _FEW_ROWS << log2_y, -(-tall // 2), tall)
    patches["rows"] = np.maximum(tall >> log2_y, 1) << log2_y
    return gathered


def cells_and_sigmas(sigma: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`cell_and_sigma` of `gaussian.py` for many.

    sigma_low stays below 4, unless the cell is MAX_CELL: then it is at most 16, for no sigma is larger than a frame.
    """
    most = np.floor((sigma * sigma + 0.25) / (MIN_SIGMA_LOW * MIN_SIGMA_LOW + 0.25))
    cell = np.floor(np.sqrt(most))  # exact: `most` is far below 2^52
    cell = np.clip(cell, np.where(sigma < MIN_SIGMA_OF_CELLS, 1, 2), MAX_CELL).astype(np.int64)
    return cell, np.sqrt(sigma * sigma - (cell * cell - 1) / 4) / cell


def _work(tiles: NDArray[np.int64]) -> NDArray[np.void]:
    """Of each block, whose tile it makes, and which one. tiles: of each owner."""
    owners = np.repeat(np.arange(len(tiles)), tiles)
    work = np.empty(len(owners), _WORK)
    work["owner"], work["tile"] = owners, np.arange(len(owners)) - (np.cumsum(tiles) - tiles)[owners]
    return work


def _packed(parts: dict[str, NDArray[Any]]) -> tuple[NDArray[np.uint64], NDArray[np.void]]:
    """All tables one behind the other, and a layout that says where each begins."""
    layout = np.zeros(1, LAYOUT)
    blob = np.zeros(sum(-(-array.nbytes // 8) for array in parts.values()), np.uint64)
    octets, at = blob.view(np.uint8), 0
    for name, array in parts.items():
        layout[name] = at
        octets[8 * at : 8 * at + array.nbytes] = array.view(np.uint8) if array.size else 0
        at += -(-array.nbytes // 8)
    return blob, layout
