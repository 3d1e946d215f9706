"""PSNR with known answers, and SSIM against scikit-image and a loop that places one window at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from invcodec.metrics import BEST_PSNR, Fidelity, over_white, psnr, ssim_map, to_8_bit


def noise(seed: int, height: int = 14, width: int = 17) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slow_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM with mirrored borders (the edge pixel is not repeated), one pixel, channel and tap at a time."""
    height, width, channels = a.shape
    tap = {(i, j): math.exp(-(i * i + j * j) / (2 * 1.5**2)) for i in range(-5, 6) for j in range(-5, 6)}
    total = sum(tap.values())

    def mirror(i: int, size: int) -> int:
        i = abs(i)
        return 2 * (size - 1) - i if i >= size else i

    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            places = [(mirror(y + i, height), mirror(x + j, width), w / total) for (i, j), w in tap.items()]
            for c in range(channels):
                p = [(float(a[v, u, c]), float(b[v, u, c]), w) for v, u, w in places]
                mean_a, mean_b = sum(w * s for s, _, w in p), sum(w * t for _, t, w in p)
                var_a = sum(w * (s - mean_a) ** 2 for s, _, w in p)
                var_b = sum(w * (t - mean_b) ** 2 for _, t, w in p)
                cov = sum(w * (s - mean_a) * (t - mean_b) for s, t, w in p)
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
                out[y, x] += luminance * (2 * cov + c2) / (var_a + var_b + c2) / channels
    return out


def test_psnr_of_a_constant_error() -> None:
    a = np.full((4, 5, 3), 100, np.uint8)
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * math.log10(25.5))
    # The difference of bytes must not wrap around, in either direction.
    assert psnr(np.zeros_like(a), np.full_like(a, 255)) == 0
    assert psnr(np.full_like(a, 255), np.zeros_like(a)) == 0


def test_psnr_averages_errors_before_the_logarithm() -> None:
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 1] = 255
    assert psnr(a, b) == pytest.approx(10 * math.log10(12))


def test_psnr_counts_masked_pixels_only() -> None:
    a = np.zeros((2, 3, 3), np.uint8)
    b = a.copy()
    b[0, 0] = 255
    b[1, 2] = 1
    mask = np.ones((2, 3), bool)
    mask[0, 0] = False
    assert psnr(a, b, mask) == pytest.approx(10 * math.log10(255**2 * 5))
    assert psnr(a, b, ~mask) == 0


def test_identical_pictures() -> None:
    for a in (noise(0), np.zeros((12, 12, 3), np.uint8), np.full((3, 4, 3), 255, np.uint8)):
        assert psnr(a, a.copy()) == BEST_PSNR
        np.testing.assert_allclose(ssim_map(a, a.copy()), np.ones(a.shape[:2]), atol=1e-9)


def test_one_wrong_byte_in_a_large_picture_stays_below_the_best() -> None:
    a = np.zeros((256, 256, 3), np.uint8)
    b = a.copy()
    b[7, 9, 1] = 1
    assert 90 < psnr(a, b) < BEST_PSNR + 1e-9


@pytest.mark.parametrize("height", [6, 14])
def test_ssim_against_slow_twin(height: int) -> None:
    a = noise(1, height, 9)
    # Smooth, noisy, and partly equal: structure, luminance and borders all matter.
    b = np.clip(a * 0.6 + noise(2, height, 9) * 0.2 + 30, 0, 255).astype(np.uint8)
    b[:3] = a[:3]
    np.testing.assert_allclose(ssim_map(a, b), slow_ssim(a, b), atol=1e-7)


@pytest.mark.parametrize("contrast", [1.0, 0.5, 0.02])
def test_ssim_agrees_with_scikit_image(contrast: float) -> None:
    a = noise(4, 40, 50)
    b = np.clip(a * contrast + noise(5, 40, 50) * 0.1 + 20, 0, 255).astype(np.uint8)
    _, expected = structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    # Borders differ: scikit-image repeats the edge pixel.
    np.testing.assert_allclose(ssim_map(a, b)[5:-5, 5:-5], expected.mean(2)[5:-5, 5:-5], atol=1e-7)


@given(st.integers(1, 16), st.integers(1, 16), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_ssim_is_symmetric_and_at_most_one_at_every_size(height: int, width: int, seed: int) -> None:
    a, b = noise(seed, height, width), noise(seed + 1, height, width)
    forth, back = ssim_map(a, b), ssim_map(b, a)
    assert forth.shape == (height, width)
    np.testing.assert_allclose(forth, back, atol=1e-9)
    assert (np.abs(forth) <= 1 + 1e-9).all()


def test_ssim_is_low_where_pictures_differ() -> None:
    a = noise(3, 40, 40)
    b = a.copy()
    b[:5, :5] = 255 - b[:5, :5]
    ssim = ssim_map(a, b)
    assert ssim[:4, :4].max() < 0.5
    np.testing.assert_allclose(ssim[12:, 12:], 1, atol=1e-9)


def test_a_mask_without_pixels_has_no_psnr() -> None:
    with pytest.raises(ValueError, match="without pixels"):
        psnr(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8), np.zeros((2, 2), bool))


def test_transparent_colours_are_mixed_with_white() -> None:
    rgba = np.array([[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]], np.uint8)
    # 51 / 255 is one fifth.
    expected = [[10, 20, 30], [255, 255, 255], [204, 224, 244]]
    np.testing.assert_array_equal(over_white(rgba), expected)
    np.testing.assert_array_equal(over_white(rgba[:, :3], rgba[:, 3].astype(np.float32) / 255), expected)
    np.testing.assert_array_equal(over_white(rgba[:, :3]), rgba[:, :3])


def test_eight_bit_values_are_rounded_and_clipped() -> None:
    values = np.array([-1.0, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 2.0, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(to_8_bit(values), [0, 0, 0, 1, 255, 255, 255, 0, 0])


def _decoded(count: int, moving: int, still_error: int, moving_error: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captured and decoded pixels `[N, 3]`, and which moved: the last `moving` of them."""
    captured = np.full((count, 3), 100, np.uint8)
    moved = np.arange(count) >= count - moving
    return captured, captured + np.where(moved, moving_error, still_error)[:, None].astype(np.uint8), moved


def test_moving_pixels_are_measured_apart() -> None:
    found = Fidelity.measure(*_decoded(1000, 50, 2, 20))
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / (0.95 * 4 + 0.05 * 400)))
    assert found.psnr_moving == pytest.approx(10 * math.log10(255**2 / 400))
    assert found.moving_share == 0.05
    assert found.weighted == pytest.approx(10 * math.log10(255**2 / (0.75 * 4 + 0.25 * 400)))


def test_moving_pixels_are_given_no_number_where_it_would_mean_nothing() -> None:
    captured, decoded, moved = _decoded(1000, 20, 2, 20)
    few = Fidelity.measure(captured, decoded, moved)
    assert few == Fidelity(psnr(captured, decoded), None, 0.02)
    assert few.weighted == few.psnr
    assert Fidelity.measure(captured, decoded) == Fidelity(few.psnr)
    assert Fidelity.measure(captured[:0], decoded[:0], moved[:0]) == Fidelity(BEST_PSNR)


@given(st.floats(0.001, 1), st.floats(10, 60), st.floats(10, 60))
def test_still_pixels_alone_reach_nothing(share: float, still: float, moving: float) -> None:
    errors = [10 ** (-decibels / 10) for decibels in (still, moving)]
    whole = -10 * math.log10((1 - share) * errors[0] + share * errors[1])
    found = Fidelity(whole, moving, share).weighted
    assert found <= whole
    # However good still pixels are, and however few move: those are at most 6.03 dB worse.
    assert moving > found - 6.03
    if moving <= still:
        assert found >= moving - 1e-6
    # No credit for still pixels that are worse.
    else:
        assert found == whole


def test_a_mean_over_frames_is_of_those_where_each_part_is_known() -> None:
    frames = [Fidelity(30.0), Fidelity(31.0, None, 0.01), Fidelity(32.0, 25.0, 0.05)]
    assert Fidelity.mean(frames) == Fidelity(31.0, 25.0, pytest.approx(0.03))  # type: ignore[arg-type]
    assert Fidelity.mean(frames[:1]) == Fidelity(30.0)
