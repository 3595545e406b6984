"""The filter against the textbook: matrices, a batch solution, and the identities of smoothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trt_anon.track import kalman
from trt_anon.track.kalman import Warp

STEP = 0.04


def full(cov: NDArray[np.float64], kind: int) -> NDArray[np.float64]:
    p, pv, v = cov[0, kind]
    return np.array([[p, pv], [pv, v]])


def noise_of(mean: NDArray[np.float64], kind: int, step: float) -> NDArray[np.float64]:
    power = kalman.CENTRE_NOISE * kalman.sizes(mean)[0] ** 2 if kind == 0 else kalman.SIZE_NOISE
    return power * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])


def state(size: float = 30.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, cov = kalman.born(kalman.boxes_to_values(np.array([[10.0, 20.0, 10 + size, 20 + 2 * size]])))
    mean[:, 4:] = [[12.0, -7.0, 0.1, 0.05]]
    return mean, cov


def test_boxes_and_values_are_each_others_inverse() -> None:
    boxes = np.array([[1.5, 2.0, 9.0, 30.0], [-5.0, -6.0, 400.0, 2.0]])
    np.testing.assert_allclose(kalman.values_to_boxes(kalman.boxes_to_values(boxes)), boxes)


@pytest.mark.parametrize("kind", [0, 1])
def test_prediction_and_update_are_those_of_the_textbook(kind: int) -> None:
    mean, cov = state()
    ahead, wider = kalman.predict(mean, cov, STEP)
    transition = np.array([[1, STEP], [0, 1]])
    expected = transition @ full(cov, kind) @ transition.T + noise_of(mean, kind, STEP)
    np.testing.assert_allclose(full(wider, kind), expected)
    np.testing.assert_allclose(ahead[0, :4], mean[0, :4] + STEP * mean[0, 4:])

    error = np.array([[3.0, 0.02]])
    values = ahead[:, :4] + [[1.0, -2.0, 0.1, 0.2]]
    better, narrower = kalman.update(ahead, wider, values, error)
    seen = np.array([[1.0, 0.0]])
    gain = full(wider, kind) @ seen.T / (seen @ full(wider, kind) @ seen.T + error[0, kind])
    np.testing.assert_allclose(full(narrower, kind), (np.eye(2) - gain @ seen) @ full(wider, kind))
    place = 2 * kind
    off = values[0, place] - ahead[0, place]
    np.testing.assert_allclose(better[0, [place, place + 4]], ahead[0, [place, place + 4]] + gain[:, 0] * off)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_step_of_smoothing_is_that_of_rauch_tung_and_striebel(kind: int) -> None:
    mean, cov = state()
    ahead, wider = kalman.predict(mean, cov, STEP)
    later_mean = ahead + np.array([[2.0, 1.0, 0.05, -0.05, 3.0, -1.0, 0.1, 0.2]])
    later_cov = wider * 0.5
    better, narrower = kalman.smooth(mean, cov, ahead, wider, later_mean, later_cov, STEP)
    transition = np.array([[1, STEP], [0, 1]])
    gain = full(cov, kind) @ transition.T @ np.linalg.inv(full(wider, kind))
    expected = full(cov, kind) + gain @ (full(later_cov, kind) - full(wider, kind)) @ gain.T
    np.testing.assert_allclose(full(narrower, kind), expected, rtol=1e-6)
    place = [2 * kind, 2 * kind + 4]
    np.testing.assert_allclose(better[0, place], mean[0, place] + gain @ (later_mean - ahead)[0, place], rtol=1e-9)


def test_smoothing_against_its_own_prediction_changes_nothing() -> None:
    mean, cov = state()
    ahead = kalman.predict(mean, cov, STEP)
    same, as_wide = kalman.smooth(mean, cov, *ahead, *ahead, STEP)
    np.testing.assert_allclose(same, mean, rtol=1e-9)
    np.testing.assert_allclose(as_wide, cov, rtol=1e-6)


def test_a_warp_and_its_inverse_leave_a_state_as_it_was() -> None:
    mean, cov = state()
    turn = 1.1 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    warp = Warp(turn, np.array([5.0, -3.0]))
    there = kalman.warped(mean, cov, warp)
    np.testing.assert_allclose(there[0][0, :2], turn @ mean[0, :2] + [5, -3])
    np.testing.assert_allclose(np.exp(there[0][0, 2:4]), 1.1 * np.exp(mean[0, 2:4]))
    back = kalman.warped(*there, warp.inverse)
    np.testing.assert_allclose(back[0], mean)
    np.testing.assert_allclose(back[1], cov)


@settings(max_examples=50, deadline=None)
@given(
    side=st.floats(1e-3, 1e5),
    at=st.floats(-1e5, 1e5),
    off=st.floats(-1e5, 1e5),
    step=st.floats(1e-3, 1.0),
    factor=st.floats(0.1, 100),
)
def test_states_stay_finite_and_variances_positive(
    side: float, at: float, off: float, step: float, factor: float
) -> None:
    mean, cov = kalman.born(kalman.boxes_to_values(np.array([[at, at, at + side, at + side]])))
    for n in range(20):
        mean, cov = kalman.predict(mean, cov, step)
        if n % 3 == 0:
            values = kalman.boxes_to_values(np.array([[at + off, at, at + off + side, at + 2 * side]]))
            mean, cov = kalman.update(mean, cov, values, kalman.error_of(mean, factor))
        assert np.isfinite(mean).all()
        assert np.isfinite(cov).all()
        assert (cov[..., 0] >= 0).all()
        assert (cov[..., 2] >= 0).all()
        assert np.isfinite(kalman.spread(mean, cov)).all()
        assert np.isfinite(kalman.values_to_boxes(mean)).all()
