"""The kernels against the specification: masks, pixelation and fill to the bit, the Gaussian within one code."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.config import RedactConfig
from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.errors import UsageError
from trt_anon.redact.bitmap import Bitmap, bitmap_mask, pack_bits, unpack_bits
from trt_anon.redact.frame import Redactor
from trt_anon.redact.frame_cuda import TOLERANCE_CODES, RedactCuda
from trt_anon.redact.frame_plan import MAX_BIT_DEPTH, cells_and_sigmas, plan_redaction
from trt_anon.redact.gaussian import cell_and_sigma
from trt_anon.redact.region import covered_rect, expand_mask, region_mask
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Region

FORMATS = [name for name, form in PIXEL_FORMATS.items() if form.bit_depth <= MAX_BIT_DEPTH]
METHODS = ("gaussian", "pixelate", "solid")
STRICT = HostOptions(seed=7, poison=255, check=True)
HOSTS = {"plain": HostOptions(), "strict": STRICT}

methods = pytest.mark.parametrize("method", METHODS)


def noise(name, width, height, *, seed=0, padding=0, color=None, place=guarded):
    """A frame of white noise; its planes end where memory ends, their rows `padding` samples further apart."""
    form, rng, planes = PIXEL_FORMATS[name], np.random.default_rng(seed), []
    for shape in form.plane_shapes(width, height):
        wide = (shape[0], shape[1] + padding, *shape[2:])
        codes = (rng.integers(0, 1 << form.bit_depth, wide) << form.sample_shift).astype(form.dtype)
        planes.append(place(codes))
    parts = tuple(plane[:, padding:] for plane in planes)
    return Frame(parts, form, width, height, color=color or Color(), native=planes)


def copy_of(frame):
    """A copy of a frame, whose padding is of no interest."""
    return dataclasses.replace(frame, planes=tuple(plane.copy() for plane in frame.planes))


def workspace_for(redact, frames, regions, **more):
    """Of the very size, filled with what must not matter, in front of a page that cannot be touched."""
    return guarded(np.full(redact.workspace_bytes(frames, regions, **more), 0xC7, np.uint8))


def agree(frames, wanted, method):
    for frame, expected in zip(frames, wanted, strict=True):
        shift = frame.pixel_format.sample_shift
        most = TOLERANCE_CODES << shift if method == "gaussian" else 0
        for found, plane in zip(frame.planes, expected.planes, strict=True):
            off = np.abs(found.astype(int) - plane)
            assert off.max(initial=0) <= most
            # float32 tells halves apart but for one in hundreds
            assert (off > 0).sum() <= 2 + off.size // 100


def compare(frames, regions_per_frame, host=STRICT, **config):
    """Redact a batch by the kernels, hold it to the specification, and its padding to what it was."""
    settings_ = RedactConfig(**config)
    wanted = [copy_of(frame) for frame in frames]
    for frame, regions in zip(wanted, regions_per_frame, strict=True):
        Redactor(settings_, implementation="reference").redact(frame, regions)
    before = [whole.copy() for frame in frames for whole in frame.native]
    redact = RedactCuda(settings_, host=host)
    redact.batch(frames, regions_per_frame, workspace_for(redact, frames, regions_per_frame))
    agree(frames, wanted, settings_.method)
    for (plane, whole), old in zip(
        ((plane, whole) for frame in frames for plane, whole in zip(frame.planes, frame.native, strict=True)),
        before,
        strict=True,
    ):
        padding = whole.shape[1] - plane.shape[1]
        np.testing.assert_array_equal(whole[:, :padding], old[:, :padding])


def polygon(points, margin, object_px):
    array = np.array(points)
    (x0, y0), (x1, y1) = array.min(0) - margin, array.max(0) + margin
    return Region(x0, y0, x1, y1, "polygon", object_px, tuple(points), margin)


places = st.one_of(st.floats(-60, 90), st.integers(-10, 90).map(float))
boxes = st.builds(
    lambda x, y, w, h, shape, size: Region(x, y, x + w, y + h, shape, size),
    st.one_of(places, st.sampled_from([-1e9, 1e9])),
    places,
    st.one_of(st.floats(0, 90), st.just(2e9)),
    st.floats(0, 90),
    st.sampled_from(("ellipse", "box", "rounded")),
    st.one_of(st.floats(0, 200), st.sampled_from([20.0, 1e9])),
)
polygons = st.builds(
    polygon,
    st.lists(st.tuples(places, places), min_size=3, max_size=40),
    st.one_of(st.floats(0, 20), st.integers(0, 8).map(lambda n: n / 4)),
    st.floats(0, 200),
)
region_lists = st.lists(st.one_of(boxes, boxes, polygons), max_size=5)


@methods
@settings(max_examples=70, deadline=None)
@given(
    regions=region_lists,
    name=st.sampled_from(FORMATS),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    padding=st.integers(0, 3),
    strength=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
    full=st.booleans(),
    host=st.sampled_from(list(HOSTS.values())),
)
def test_any_regions_in_any_frame(method, regions, name, width, height, padding, strength, seed, full, host):
    frame = noise(name, width, height, seed=seed, padding=padding, color=Color(full_range=full))
    compare([frame], [regions], host, method=method, strength=strength)


@methods
@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name, method):
    regions = [
        Region(8.3, 6.1, 60.4, 49.7, "ellipse", 18),
        Region(38, 20, 70, 60, "rounded", 24),
        Region(20, -5, 55, 22, "box", 10),
        polygon(((70, 50), (140, 60), (100, 80), (80, 70)), 10, 60),
    ]
    for strength in (0.05, 0.2, 0.9):
        compare([noise(name, 131, 97, padding=3)], [regions], method=method, strength=strength)


@methods
@pytest.mark.parametrize(("width", "height", "object_px"), [(331, 205, 320), (700, 9, 700), (5, 600, 900), (1, 1, 4)])
@pytest.mark.parametrize("name", ["nv12", "bgr24", "yuv444p12le"])
def test_cells_larger_than_a_block_of_threads_sums(name, width, height, object_px, method):
    region = Region(0, 0, width, height, "box", object_px)
    for strength in (0.3, 0.6, 1.0):
        frame = noise(name, width, height, place=np.array)
        compare([frame], [[region]], HostOptions(seed=3, poison=255), method=method, strength=strength)


@methods
def test_brightest_samples_of_a_large_cell(method):
    """Sums reach their limit without passing it."""
    frame = noise("yuv444p12le", 1100, 1100, place=np.array)
    for plane in frame.planes:
        plane[...] = 4095
    compare([frame], [[Region(0, 0, 1100, 1100, "box", 1100)]], HostOptions(), method=method, strength=1.0)


def mixed_batch(place=guarded):
    frames, regions = [], []
    rng = np.random.default_rng(5)
    for i in range(7):
        name = ["nv12", "yuv420p", "yuv420p10le", "bgr24", "p010le", "yuv422p", "yuv444p12le"][i]
        frames.append(noise(name, 90 + 7 * i, 70 + i, seed=i, padding=i % 3, place=place))
        corners = rng.uniform(-10, 90, (4 * i, 2))  # none in the first
        regions.append(
            [
                Region(x, y, x + w, y + h, ("ellipse", "box", "rounded")[n % 3], s)
                for n, (x, y, w, h, s) in enumerate(
                    np.concatenate((corners, rng.uniform(2, 60, (4 * i, 2)), rng.uniform(5, 60, (4 * i, 1))), 1)
                )
            ]
        )
    regions[3].append(polygon(((5, 5), (60, 8), (40, 60), (30, 20)), 4.5, 30))
    return frames, regions


@methods
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_a_mixed_batch_in_at_most_three_launches(method, host):
    frames, regions = mixed_batch()
    compare(frames, regions, host, method=method)
    accounting = Accounting()
    redact = RedactCuda(RedactConfig(method=method), accounting=accounting)
    redact.batch(frames, regions, np.empty(redact.workspace_bytes(frames, regions), np.uint8))
    launches = {name: traffic.launches for name, traffic in accounting.by_kernel.items()}
    blur = {"redact_blur": 1} if method == "gaussian" else {}  # these patches find room in a block, but for a weak blur
    assert launches == {"redact_prepare": 1, "redact_write": 1} | blur


@pytest.mark.parametrize(("side", "object_px", "launches"), [(60, 60, 2), (160, 160, 2), (160, 20, 3), (400, 400, 3)])
def test_what_finds_room_in_a_block_takes_a_launch_less(side, object_px, launches):
    frame = noise("nv12", 420, 410)
    accounting = Accounting()
    redact = RedactCuda(RedactConfig(), accounting=accounting)
    regions = [Region(3, 5, 3 + side, 5 + side, "ellipse", object_px)]
    redact.batch([frame], [regions], np.empty(redact.workspace_bytes([frame], [regions]), np.uint8))
    assert accounting.total.launches == launches
    compare([noise("nv12", 420, 410)], [regions])


@pytest.mark.gpu
@pytest.mark.parametrize("feather", [0.0, 0.3])
@methods
def test_a_mixed_batch_on_a_gpu(cupy, method, feather):
    frames, regions = mixed_batch(place=np.array)
    config = RedactConfig(method=method, feather=feather)
    there = []
    for frame in frames:
        moved = Frame.__new__(Frame)
        for field in Frame.__dataclass_fields__:
            value = getattr(frame, field)
            object.__setattr__(moved, field, tuple(map(cupy.asarray, value)) if field == "planes" else value)
        there.append(moved)
        Redactor(config, implementation="reference").redact(frame, regions[len(there) - 1])
    redact = RedactCuda(config)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        workspace = cupy.empty(redact.workspace_bytes(there, regions), np.uint8)
    redact.batch(there, regions, workspace, stream)
    stream.synchronize()
    back = [
        dataclasses.replace(frame, planes=tuple(map(cupy.asnumpy, moved.planes)))
        for frame, moved in zip(frames, there, strict=True)
    ]
    agree(back, frames, method)


@methods
@settings(max_examples=25)
@given(
    regions=region_lists,
    name=st.sampled_from(["nv12", "p010le", "yuv422p", "rgba", "gray"]),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    padding=st.integers(0, 3),
    feather=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
    host=st.sampled_from(list(HOSTS.values())),
)
def test_soft_edges(method, regions, name, width, height, padding, feather, seed, host):
    frame = noise(name, width, height, seed=seed, padding=padding)
    compare([frame], [regions], host, method=method, feather=feather)


@methods
def test_soft_edges_of_a_mixed_batch_in_three_launches(method):
    frames, regions = mixed_batch()
    compare(frames, regions, method=method, feather=0.3)
    accounting = Accounting()
    redact = RedactCuda(RedactConfig(method=method, feather=0.3), accounting=accounting)
    redact.batch(frames, regions, np.empty(redact.workspace_bytes(frames, regions), np.uint8))
    assert set(accounting.by_kernel) == {"redact_prepare", "redact_blur", "redact_write_softly"}
    assert accounting.total.launches == 3


@methods
def test_many_overlapping_regions(method):
    """More rivals than threads look at in one turn, and more patches than a warp finds in two steps."""
    rng = np.random.default_rng(1)
    corners, sides = rng.uniform(-5, 60, (400, 2)), rng.integers(3, 12, 400)
    shapes = ("ellipse", "rounded", "box")
    regions = [
        Region(x, y, x + side, y + side, shapes[i % 3], float(side))
        for i, ((x, y), side) in enumerate(zip(corners.tolist(), sides.tolist(), strict=True))
    ]
    assert 3 * len(regions) > 32 * 32
    compare([noise("yuv420p", 61, 57)], [regions], method=method)


@methods
def test_more_patches_than_a_warp_finds_in_two_steps(method):
    """None hides another, so each has to be found, in launches that have tiles of some only."""
    regions = [
        Region(
            5 * (i % 37), 5 * (i // 37), 5 * (i % 37) + 4, 5 * (i // 37) + 4, ("box", "ellipse")[i % 3 == 0], 4 + i % 9
        )
        for i in range(1073)
    ]
    compare([noise("gray", 185, 145), noise("gray", 185, 145, seed=1)], [regions, regions], method=method, strength=0.9)


def test_the_same_region_again_and_again_is_the_region():
    region = Region(2, 2, 60, 44, "ellipse", 30)
    once, often = noise("nv12", 64, 48), noise("nv12", 64, 48)
    redact = RedactCuda(RedactConfig())
    redact(once, [region])
    redact(often, [region] * 23)
    for a, b in zip(once.planes, often.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@methods
def test_alpha_becomes_opaque(method):
    frame = noise("rgba", 40, 40)
    frame.planes[0][..., -1] = np.arange(40)  # a silhouette
    compare([frame], [[Region(5, 5, 35, 35, "box", 24)]], method=method)
    assert (frame.planes[0][5:35, 5:35, -1] == 255).all()
    assert (frame.planes[0][36:, :, -1] == np.arange(40)).all()


# ---- Bitmaps ---------------------------------------------------------------------------------------------------------


def check_bitmaps(name, method, seed, host=STRICT):
    """Every region's replacement by the specification, pasted where the bitmap says, the larger object last."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(1, 80)), int(rng.integers(1, 80))
    frame = noise(name, width, height, seed=seed)
    form = frame.pixel_format
    block = (1 << form.log2_chroma_w, 1 << form.log2_chroma_h)
    regions, bitmaps = [], []
    for _ in range(3):
        x, y = (float(v) for v in rng.uniform(-30, 70, 2).round(1))
        w, h = (float(v) for v in rng.uniform(1, 70, 2).round(1))
        regions.append(Region(x, y, x + w, y + h, "box", float(rng.integers(5, 60))))
        left, top = math.floor(x) + int(rng.integers(0, 2)), math.floor(y)
        mask = rng.random((math.ceil(y + h) - top, max(math.ceil(x + w) - left, 1))) < rng.choice([0.05, 0.5])
        if left + mask.shape[1] > math.ceil(x + w):
            left -= 1
        bitmaps.append(Bitmap(guarded(pack_bits(mask)), mask.shape[1], left, top))
    regions.append(Region(10, 10, 30, 30, "ellipse", 20))
    bitmaps.append(None)
    wanted, config = copy_of(frame), RedactConfig(method=method)
    for region, bitmap in sorted(zip(regions, bitmaps, strict=True), key=lambda pair: pair[0].object_px):
        rect = covered_rect(region, width, height, block)
        if rect is None:
            continue
        alone = copy_of(frame)
        Redactor(config, implementation="reference").redact(alone, [dataclasses.replace(region, shape="box")])
        blocks = region_mask(region, rect, block) if bitmap is None else bitmap_mask(bitmap, rect, block)
        for number, (target, new) in enumerate(zip(wanted.planes, alone.planes, strict=True)):
            chroma = number > 0
            mask = blocks if chroma else expand_mask(blocks, rect, block)
            x0, y0 = (rect.x0 // block[0], rect.y0 // block[1]) if chroma else (rect.x0, rect.y0)
            at = slice(y0, y0 + mask.shape[0]), slice(x0, x0 + mask.shape[1])
            target[at][mask] = new[at][mask]
    redact = RedactCuda(config, host=host)
    more = {"bitmaps_per_frame": [bitmaps]}
    redact.batch([frame], [regions], workspace_for(redact, [frame], [regions], **more), **more)
    agree([frame], [wanted], method)


@methods
@pytest.mark.parametrize("name", ["nv12", "yuv422p10le", "rgb24", "yuv444p"])
def test_bitmaps(name, method):
    for seed in range(8):
        check_bitmaps(name, method, seed)


@given(st.integers(1, 70), st.integers(1, 5), st.integers(0, 2**31))
def test_bits_come_back(width, height, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    words = pack_bits(mask)
    assert words.shape == (height, -(-width // 32))
    assert words[0, 0] & 1 == mask[0, 0]
    np.testing.assert_array_equal(unpack_bits(words, width), mask)


def test_bitmaps_that_do_not_fit():
    frame, redact = noise("gray", 40, 40), RedactCuda(RedactConfig())
    words = pack_bits(np.ones((10, 10), np.bool_))
    box = Region(5.5, 5.5, 14.5, 14.5, "box")
    plan_redaction([frame], [[box]], redact.config, [[Bitmap(words, 10, 5, 5)]])
    for bitmap in (Bitmap(words, 10, 6, 5), Bitmap(words, 10, 5, 4), Bitmap(words, 10, 4, 5)):
        with pytest.raises(ValueError, match="beyond the box"):
            plan_redaction([frame], [[box]], redact.config, [[bitmap]])
    with pytest.raises(ValueError, match="its region is a box"):
        plan_redaction([frame], [[Region(5, 5, 15, 15)]], redact.config, [[Bitmap(words, 10, 5, 5)]])
    with pytest.raises(ValueError, match="for each region"):
        plan_redaction([frame], [[box, box]], redact.config, [[Bitmap(words, 10, 5, 5)]])
    with pytest.raises(ValueError, match="uint32 rows"):
        Bitmap(words.astype(np.int32), 10, 0, 0)
    with pytest.raises(ValueError, match="uint32 rows"):
        Bitmap(words, 33, 0, 0)
    with pytest.raises(ValueError, match="needs rows"):
        Bitmap(np.zeros((4, 4), np.uint32)[:, ::2], 60, 0, 0)


@pytest.mark.parametrize("name", ["nv12", "yuv422p", "rgb24"])
def test_masks_are_what_is_destroyed(name):
    rng = np.random.default_rng(2)
    frames = [noise(name, 71, 45, seed=i) for i in range(3)]
    regions = [
        [
            Region(x, y, x + 25, y + 17, shape, 20)
            for (x, y), shape in zip(
                rng.uniform(-9, 70, (4 * i, 2)), ["ellipse", "box", "rounded", "box"] * i, strict=True
            )
        ]
        for i in range(3)
    ]
    regions[2].append(polygon(((5, 5), (60, 8), (40, 40)), 2.0, 30))
    redact = RedactCuda(RedactConfig(), host=STRICT)
    out = np.full((3, 45, 3), 0xFFFFFFFF, np.uint32)
    redact.masks(frames, regions, workspace_for(redact, frames, regions), out)
    form = frames[0].pixel_format
    block = (1 << form.log2_chroma_w, 1 << form.log2_chroma_h)
    for words, of_frame in zip(out, regions, strict=True):
        wanted = np.zeros((45, 71), np.bool_)
        for region in of_frame:
            rect = covered_rect(region, 71, 45, block)
            if rect is not None:
                mask = expand_mask(region_mask(region, rect, block), rect, block)
                wanted[rect.y0 : rect.y1, rect.x0 : rect.x1] |= mask
        np.testing.assert_array_equal(unpack_bits(words, 71), wanted)
        assert not (words[:, -1] >> 7).any()
    with pytest.raises(ValueError, match="expected uint32"):
        redact.masks(frames, regions, np.empty(9, np.uint8), out[:2])
    with pytest.raises(ValueError, match="one size"):
        redact.masks([*frames, noise(name, 10, 10)], [*regions, []], np.empty(9, np.uint8), out)
    redact.masks([], [], np.empty(0, np.uint8), out)


# ---- What it costs ---------------------------------------------------------------------------------------------------


def cost(sigma, name="nv12", frames=4, side=256, method="gaussian"):
    """Bytes per sample of the regions: (pixels, scratch), and taps of the Gaussian per sample."""
    pictures = [noise(name, 640, 360, seed=i, place=np.array) for i in range(frames)]
    regions = [[Region(8, 8, 8 + side, 8 + side, "ellipse", float(side))]] * frames
    accounting = Accounting()
    config = RedactConfig(method=method, strength=sigma / side)
    redact = RedactCuda(config, accounting=accounting)
    plan = plan_redaction(pictures, regions, config)
    assert redact.workspace_bytes(pictures, regions) == plan.workspace_bytes
    redact.batch(pictures, regions, np.empty(plan.workspace_bytes, np.uint8))
    samples = frames * side * side * 3 // 2
    assert accounting.total.launches <= 3
    _, sigma_low = cell_and_sigma(sigma)
    taps = plan.low_words * 2 * (2 * math.ceil(3 * sigma_low) + 1) / samples
    assert accounting.total.bytes_moved == sum(plan.bytes_moved)
    return accounting.total.bytes_moved / samples, taps, plan


def test_the_cost_does_not_grow_with_the_strength():
    weakest, most_taps, _ = cost(3)  # no cells: but for the pixels, a mean for each sample
    assert weakest <= 2 + 8 * 1.1
    for sigma in (4, 6, 8, 12, 16, 24, 32, 48, 64):
        moved, taps, plan = cost(sigma)
        # each sample read once and written once, and a scratch that shrinks: 16 bytes for each cell
        luma, chroma = cell_and_sigma(sigma)[0], cell_and_sigma(sigma / 2)[0]
        cells = (1.15 * (256 + 2 * luma) ** 2 / luma**2 + 2.3 * (128 + 2 * chroma) ** 2 / chroma**2) / (256 * 256 * 1.5)
        assert 2 <= moved <= 2.2 + 16 * cells
        assert moved <= weakest
        assert taps <= most_taps
        assert plan.table.nbytes < 6144
    assert cost(32)[0] <= 2.6
    assert cost(12, method="solid")[0] <= 1.15  # the masks, plain and own
    assert cost(12, method="pixelate")[0] <= 2.3


def test_no_tile_does_more_than_its_share():
    """Static: the sums of a tile, whatever the size of a cell, and the reach of the Gaussian."""
    for sigma in (2, 3.99, 4, 5, 7.6, 8, 30, 64, 200, 1000, 2650, 8000, 16384):
        (cell,), (low,) = cells_and_sigmas(np.array([float(sigma)]))
        assert (cell, low) == pytest.approx(cell_and_sigma(sigma))
        assert low < 4 or cell == 1024
        assert math.ceil(3 * low) <= (12 if low < 4 else 48)
    frame = noise("yuv444p12le", 16384, 2, place=np.array)
    plan_redaction([frame], [[Region(0, 0, 16384, 2, "box", 16384)]], RedactConfig(strength=1))


def test_sigmas_of_many_are_those_of_one():
    sigmas = np.concatenate(
        (np.linspace(0.5, 40, 700), np.arange(1, 4000) * math.sqrt(6.5), np.linspace(40, 16384, 900))
    )
    cells, low = cells_and_sigmas(sigmas)
    assert [cell_and_sigma(sigma) for sigma in sigmas.tolist()] == list(zip(cells.tolist(), low.tolist(), strict=True))


# ---- What is refused -------------------------------------------------------------------------------------------------


@methods
def test_broken_regions_leave_the_frame_as_it_was(method):
    good = Region(0, 0, 20, 20)
    for bad in (
        Region(math.nan, 0, 5, 5),
        Region(0, 0, math.inf, 5),
        Region(9, 9, 3, 12),
        Region(0, 0, 9, 9, "box", -1.0),
        Region(0, 0, 9, 9, "polygon"),
        Region(0, 0, 9, 9, "polygon", 5, ((1, 1), (8, 1), (8, math.nan))),
        Region(0, 0, 9, 9, "polygon", 5, ((1, 1), (8, 1), (8, 80))),
        Region(0, 0, 9, 9, "box", 5, ((1, 1), (8, 1), (8, 8))),
    ):
        frame = noise("yuv420p", 32, 32)
        before = copy_of(frame)
        with pytest.raises(ValueError, match="a region"):
            RedactCuda(RedactConfig(method=method))(frame, [good, bad])
        for old, new in zip(before.planes, frame.planes, strict=True):
            np.testing.assert_array_equal(old, new)


def test_wrong_arguments():
    redact = RedactCuda(RedactConfig())
    frame, regions = noise("nv12", 32, 32, place=np.array), [Region(0, 0, 20, 20)]
    needed = redact.workspace_bytes([frame], [regions])
    space = np.empty(needed, np.uint8)
    for wrong in (
        space[:-1],
        space[1:],
        space.view(np.int8),
        np.empty((2, needed), np.uint8),
        np.empty(2 * needed, np.uint8)[::2],
    ):
        with pytest.raises(ValueError, match="workspace: expected uint8"):
            redact.batch([frame], [regions], wrong)
    with pytest.raises(ValueError, match="workspace: must lie"):
        redact.batch([frame], [regions], np.empty(needed + 9, np.uint8)[1:])
    with pytest.raises(ValueError, match="staging: expected uint8"):
        redact.batch([frame], [regions], space, staging=np.empty(8, np.uint8))
    with pytest.raises(ValueError, match="1 frames, but regions for 2"):
        redact.batch([frame], [regions, regions], space)
    with pytest.raises(ValueError, match="appears twice"):
        redact.batch([frame, frame], [regions, regions], space)
    upside_down = Frame(tuple(plane[::-1] for plane in frame.planes), frame.pixel_format, 32, 32)
    with pytest.raises(ValueError, match="positive stride"):
        redact.batch([upside_down], [regions], space)
    for name, size in (("gray16le", 8), ("rgb48le", 8), ("rgba64le", 8), ("gray", 16385)):
        with pytest.raises(UsageError, match="cannot be redacted on a GPU"):
            redact(noise(name, size, 8, place=np.array), regions)
    frame.planes[1].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        redact(frame, regions)


def test_nothing_to_do():
    accounting = Accounting()
    redact = RedactCuda(RedactConfig(), accounting=accounting)
    redact.batch([], [], np.empty(0, np.uint8))
    frames = [noise("nv12", 33, 21, seed=i) for i in range(2)]
    before = [copy_of(frame) for frame in frames]
    redact.batch(frames, [[], [Region(-50, 0, -10, 9), Region(40, 0, 50, 9)]], np.empty(0, np.uint8))
    agree(frames, before, "solid")
    assert accounting.total.launches == 0


def test_it_is_called_like_the_specification():
    mine, theirs = (
        inspect.signature(RedactCuda(RedactConfig()).__call__),
        inspect.signature(Redactor(RedactConfig()).redact),
    )
    assert mine == theirs
