"""Images: decoding, resizing and channel conversion with Pillow, the same code in both ways through the pipeline, and
the cast that refuses what is no image or has another size.

Only raster formats with a bounded header are opened (no PostScript, no plug-in that starts a program), and the number
of pixels is looked at before any is decoded, so a small file cannot unfold into gigabytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image

from corelane.core.types import Array, BoolArray
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.stages.column import Cast, Column, Verdict, missing

MAX_PIXELS = 1 << 25  # 33 megapixels, beyond any camera whose pictures a CPU network takes; 100 MiB once decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

Fit: TypeAlias = Literal["stretch", "crop", "pad"]
Background: TypeAlias = Literal["white", "black"]

_MODES = {1: "L", 3: "RGB"}
_GREY_MODES = ("1", "L", "LA", "La")
_TURNS = {  # what makes a picture upright, by its orientation in EXIF 2.32, section 4.6.4
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)  # Pillow's readers raise all sorts of things for damaged files; memory that runs out is no fault of a file


class ImageRefusedError(ValueError):
    """Bytes or an array that cannot become an image of the column; `code` says why. It stays inside this room."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture of any size becomes one of the column's size.

    First the middle `crop` of its height and width is kept. Then it is resized: stretched; or the largest middle part
    of the right shape is (crop); or all of it, with `background` around it (pad). `background` also lies behind
    transparent pixels.
    """

    fit: Fit = "stretch"
    crop: float = 1.0
    background: Background = "white"

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit) or self.background not in get_args(Background) or not 0.0 < self.crop <= 1.0:
            raise ValueError(f"a geometry must have a known fit and background and a crop in (0, 1], got {self}")


PLAIN = Geometry()


def inspect_image(data: bytes) -> tuple[int, int, int]:
    """(height, width, channels) of an encoded image as it will be seen. Raises `ImageRefusedError`."""
    image = _decode(data)
    width, height = image.size
    return height, width, 1 if image.mode in _GREY_MODES else 3


def decode_image(column: Column, data: bytes, geometry: Geometry = PLAIN) -> Array:
    """Encoded bytes to uint8 [h, w, c] of the column's shape. Raises `ImageRefusedError`."""
    return _fit(column, _decode(data), geometry)


def fit_pixels(column: Column, pixels: Array, geometry: Geometry = PLAIN) -> Array:
    """uint8 [h, w] or [h, w, c] to the column's shape [h, w, c]. Raises `ImageRefusedError`."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape == column.shape and geometry.crop == 1.0:
        return pixels
    if pixels.ndim != 3 or pixels.shape[2] not in _MODES or 0 in pixels.shape:
        shape = list(pixels.shape)
        raise ImageRefusedError("wrong_shape", f"must be pixels of shape {list(column.shape)}, got {shape}")
    return _fit(column, Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), geometry)


def cast_image(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of encoded images or uint8 tensors; it stays encoded, or becomes uint8 tensors [n, h, w,
    c].
    """
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
        return _cast_encoded(column, raw.cast(pa.binary()))
    if pa.types.is_null(raw.type):
        return _cast_encoded(column, raw.cast(pa.binary()))
    if isinstance(raw.type, pa.FixedShapeTensorType) and raw.type.value_type == pa.uint8():
        return _cast_pixels(column, raw)
    verdict = Verdict("not_an_image", f"{column.name} must be an encoded image or uint8 pixels, got {raw.type}")
    return _refuse_all(len(raw), verdict)


def pixels_of(column: Column, typed: pa.Array, geometry: Geometry = PLAIN) -> Array:
    """A cast image column [n] as uint8 [n, h, w, c] of the column's shape: decoded, resized and converted."""
    if isinstance(typed.type, pa.FixedShapeTensorType):
        arrays = typed.to_numpy_ndarray()
        if arrays.shape[1:] == column.shape and geometry.crop == 1.0:
            return np.asarray(arrays)
        images = [fit_pixels(column, pixels, geometry) for pixels in arrays]
    else:
        images = [decode_image(column, data, geometry) for data in typed.to_pylist()]
    return np.stack(images) if images else np.empty((0, *column.shape), dtype=np.uint8)


def _cast_encoded(column: Column, raw: pa.Array) -> Cast:
    verdicts: dict[int, Verdict] = {}
    for row, data in enumerate(raw.to_pylist()):
        if data is None:
            verdicts[row] = missing(column)
            continue
        try:
            decode_image(column, data)
        except ImageRefusedError as error:
            verdicts[row] = Verdict(error.code, f"{column.name} {error}")
    return Cast(raw, _mask(len(raw), verdicts), verdicts.__getitem__)


def _cast_pixels(column: Column, raw: pa.FixedShapeTensorArray) -> Cast:
    shape = tuple(raw.type.shape)
    lying = (*shape, 1) if len(shape) == 2 else shape
    absent = raw.is_null().to_numpy(zero_copy_only=False)
    try:
        fit_pixels(column, np.zeros(lying, dtype=np.uint8))
    except ImageRefusedError as error:
        verdict = Verdict(error.code, f"{column.name} {error}")
        return _refuse_all(len(raw), verdict)
    filled = raw if not absent.any() else _without_nulls(raw)
    values = tensor_array(filled.to_numpy_ndarray().reshape(len(raw), *lying))
    verdicts = {row: missing(column) for row in np.flatnonzero(absent).tolist()}
    return Cast(values, _mask(len(raw), verdicts), verdicts.__getitem__)


def _refuse_all(num_rows: int, verdict: Verdict) -> Cast:
    verdicts = dict.fromkeys(range(num_rows), verdict)
    return Cast(pa.nulls(num_rows, pa.binary()), _mask(num_rows, verdicts), verdicts.__getitem__)


def _without_nulls(raw: pa.FixedShapeTensorArray) -> pa.FixedShapeTensorArray:
    """The same tensors with a black image where there was none: Arrow cannot view tensors with nulls as an array."""
    present = np.flatnonzero(raw.is_valid().to_numpy(zero_copy_only=False))
    pixels = np.zeros((len(raw), *raw.type.shape), dtype=np.uint8)
    pixels[present] = raw.take(pa.array(present)).to_numpy_ndarray()
    return tensor_array(pixels)


def _mask(num_rows: int, verdicts: dict[int, Verdict]) -> BoolArray | None:
    if not verdicts:
        return None
    bad = np.zeros(num_rows, dtype=np.bool_)
    bad[list(verdicts)] = True
    return bad


def _decode(data: bytes) -> Image.Image:
    """The decoded picture, turned upright as its EXIF data say, with 8 bits per channel."""
    image = _open(data)
    try:
        image.load()
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        if turn is not None:  # not by `ImageOps`, which writes the EXIF data anew and stumbles over odd tags in them
            image = image.transpose(turn)
    except _BROKEN as error:
        raise ImageRefusedError("not_an_image", f"must be a complete image, got a broken one ({error})") from error
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips them to white
        return Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode == "F":
        raise ImageRefusedError(
            "not_an_image", "must have 8 or 16 bits per channel, got floating-point pixels; convert it"
        )
    return image


def _to_8_bits(pixels: Array) -> Array:
    """16 bits, which Pillow also reads into 32, to their upper 8. What 16 bits cannot hold would wrap: refused."""
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ImageRefusedError("not_an_image", "must have 8 or 16 bits per channel, got 32; convert it")
    return (pixels.astype(np.uint32) >> 8).astype(np.uint8)


def _open(data: bytes) -> Image.Image:
    try:
        image: Any = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefusedError("image_too_large", f"must have at most {MAX_PIXELS} pixels, got more") from error
    except _BROKEN as error:
        raise ImageRefusedError(
            "not_an_image", f"must be an image ({', '.join(FORMATS)}), got {len(data)} bytes that are none"
        ) from error
    if image.size[0] * image.size[1] > MAX_PIXELS:
        width, height = image.size
        raise ImageRefusedError("image_too_large", f"must have at most {MAX_PIXELS} pixels, got {width} x {height}")
    return image  # type: ignore[no-any-return]


def _fit(column: Column, image: Image.Image, geometry: Geometry) -> Array:
    height, width, channels = column.shape
    if image.size != (width, height) and not column.resize:
        raise ImageRefusedError(
            "wrong_size",
            f"must be {width} x {height} pixels, got {image.size[0]} x {image.size[1]}; "
            "set pipeline.image.size to resize",
        )
    if image.has_transparency_data:
        image = _laid_on(image, geometry.background)
    if image.mode != _MODES[channels]:
        image = image.convert(_MODES[channels])
    if image.size != (width, height) or geometry.crop != 1.0:
        image = _resize(image, (width, height), geometry)
    return np.asarray(image).reshape(column.shape)


def _laid_on(image: Image.Image, background: Background) -> Image.Image:
    """What is seen of a transparent picture on a plain ground; the colours under transparent pixels are arbitrary."""
    ground = Image.new("RGBA", image.size, background)
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("L" if image.mode in _GREY_MODES else "RGB")


def _resize(image: Image.Image, size: tuple[int, int], geometry: Geometry) -> Image.Image:
    """The part that `geometry` wants, brought to `size` (width, height) in one bilinear, area-weighted step."""
    wide, high = (length * geometry.crop for length in image.size)
    width, height = size
    if geometry.fit == "crop":
        scale = min(wide / width, high / height)
        wide, high = width * scale, height * scale
    left, top = max(0.0, (image.size[0] - wide) / 2), max(0.0, (image.size[1] - high) / 2)
    box = (left, top, min(left + wide, image.size[0]), min(top + high, image.size[1]))
    if geometry.fit != "pad":
        return image.resize(size, Image.Resampling.BILINEAR, box)
    scale = min(width / wide, height / high)
    inner = (max(1, round(wide * scale)), max(1, round(high * scale)))
    padded = Image.new(image.mode, size, geometry.background)
    padded.paste(
        image.resize(inner, Image.Resampling.BILINEAR, box), ((width - inner[0]) // 2, (height - inner[1]) // 2)
    )
    return padded
