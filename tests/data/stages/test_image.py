"""Scaling of pictures by channel, fitted exactly from a histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError, StateError
from corelane.core.types import Array
from corelane.data.stages.column import Column
from corelane.data.stages.image import FittedImage, ImageStage
from tests.data.examples import batch, encoded, picture, transformed

PIXELS = np.stack([picture(4, 5, 3, seed) for seed in range(6)])
COLOUR = Column("i", "image", shape=(4, 5, 3), nullable=False)


def fit(*batches: Array) -> FittedImage:
    fitter = ImageStage(COLOUR).fitter()
    for pixels in batches:
        fitter.update(column_batch(pixels))
    return fitter.finish()


def column_batch(pixels: Array) -> pa.RecordBatch:
    return batch({"i": pixels})


def test_channels_are_standardised_and_come_first() -> None:
    """float32 [n, c, h, w], each channel of the training part with zero mean and unit deviation."""
    fitted = fit(PIXELS)
    assert fitted.shape == (3, 4, 5)
    scaled = transformed(fitted, column_batch(PIXELS))
    assert scaled.shape == (6, 3, 4, 5)
    assert scaled.flags.c_contiguous
    np.testing.assert_allclose(scaled.mean(axis=(0, 2, 3)), 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=(0, 2, 3)), 1.0, atol=1e-6)
    plain = (PIXELS[0, 2, 3] - fitted.center) * fitted.scale
    np.testing.assert_allclose(scaled[0, :, 2, 3], plain, rtol=1e-5)


def test_the_fit_does_not_depend_on_batches() -> None:
    """The histogram is exact: any partition of the rows gives the same bits."""
    assert fit(PIXELS).to_json() == fit(PIXELS[:1], PIXELS[1:]).to_json() == fit(PIXELS[3:], PIXELS[:3]).to_json()


def test_encoded_pictures_are_fitted_on_their_pixels() -> None:
    """PNG files give the statistics of the pixels in them."""
    column = Column("i", "image", shape=(4, 5, 3), nullable=False, encoded=True)
    fitter = ImageStage(column).fitter()
    fitter.update(batch({"i": [encoded(pixels) for pixels in PIXELS]}))
    assert fitter.finish().to_json() == fit(PIXELS).to_json()


def test_pictures_of_one_colour() -> None:
    """No deviation to divide by: pixels are brought to a range of one around the colour."""
    fitted = fit(np.full((2, 4, 5, 3), 255, dtype=np.uint8))
    assert fitted.scale.tolist() == [1 / 255] * 3
    assert transformed(fitted, column_batch(np.zeros((1, 4, 5, 3), dtype=np.uint8))).min() == -1.0


def test_no_rows_cannot_be_fitted() -> None:
    """Without a picture there is no mean."""
    with pytest.raises(DataError, match="i must be in at least one training row"):
        fit()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scaling": "none"}, [0.0, 51.0, 255.0]),
        ({"scaling": "unit"}, [0.0, 0.2, 1.0]),
        ({"scaling": "given", "mean": (0.2, 0.2, 0.2), "deviation": (0.4, 0.4, 0.4)}, [-0.5, 0.0, 2.0]),
    ],
)
def test_other_scalings(options: dict[str, Any], expected: list[float]) -> None:
    """As they are, 0..1, or by a known mean and deviation of pixels in 0..1; no picture is decoded to fit them."""
    fitter = ImageStage(COLOUR, **options).fitter()
    fitter.update(batch({"i": [b"no picture"]}))
    pixels = np.zeros((1, 4, 5, 3), dtype=np.uint8)
    pixels[0, 0, :3, 0] = [0, 51, 255]
    scaled = transformed(fitter.finish(), column_batch(pixels))
    np.testing.assert_allclose(scaled[0, 0, 0, :3], expected, atol=1e-6)


def test_json() -> None:
    """The scaling comes back exactly; one with another number of channels is refused."""
    stored = fit(PIXELS).to_json()
    assert FittedImage.from_json(stored, (COLOUR,)).to_json() == stored
    for change in (
        {"version": 0},
        {"center": [1.0]},
        {"scale": ["1", "2", "3"]},
        {"geometry": {"fit": "bend"}},
        {"geometry": 1},
    ):
        with pytest.raises(StateError):
            FittedImage.from_json(stored | change, (COLOUR,))


def test_few_rows() -> None:
    """Pixels of the right size and type take the short way, others do not."""
    fitted = fit(PIXELS)
    few = fitted.transform_few({"i": PIXELS[:2]}, 2)
    assert few is not None
    assert few.tobytes() == transformed(fitted, column_batch(PIXELS[:2])).tobytes()
    for values in (PIXELS[:1], PIXELS[:2].astype(np.int64), PIXELS[:2, 1:], [b"x", b"y"], [PIXELS[0], b"x"]):
        assert fitted.transform_few({"i": values}, 2) is None
