"""Decoding, resizing and channel conversion of pictures, and the refusal of files that are none or too large."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, TiffTags

from corelane.core.types import Array
from corelane.data.stages.cast_image import (
    MAX_PIXELS,
    Geometry,
    ImageRefusedError,
    cast_image,
    decode_image,
    fit_pixels,
    inspect_image,
    pixels_of,
)
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.stages.column import Column
from tests.data.examples import encoded, picture

COLOUR = Column("photo", "image", shape=(6, 5, 3), nullable=False, encoded=True)
GREY = Column("photo", "image", shape=(6, 5, 1), nullable=False, encoded=True)
ANY_SIZE = Column("photo", "image", shape=(6, 5, 3), nullable=False, encoded=True, resize=True)


def huge_png(width: int, height: int) -> bytes:
    """A valid PNG header that promises width x height pixels, in 70 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_give_back_the_pixels(kind: str) -> None:
    """What was written losslessly is what the network sees."""
    pixels = picture(6, 5, 3)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert decode_image(COLOUR, encoded(pixels, kind, **options)).tolist() == pixels.tolist()


def test_channels_are_converted() -> None:
    """Grey becomes three equal channels, and colour becomes luminance."""
    grey, colour = picture(6, 5, 1), picture(6, 5, 3)
    assert decode_image(COLOUR, encoded(grey)).tolist() == np.repeat(grey[:, :, None], 3, axis=2).tolist()
    luminance = np.asarray(Image.fromarray(colour).convert("L"))[:, :, None]
    assert decode_image(GREY, encoded(colour)).tolist() == luminance.tolist()
    assert fit_pixels(GREY, colour).tolist() == luminance.tolist()
    assert fit_pixels(GREY, grey).tolist() == grey[:, :, None].tolist()


@pytest.mark.parametrize(("background", "ground"), [("white", 255), ("black", 0)])
def test_transparency_shows_the_background(background: Any, ground: int) -> None:
    """A transparent pixel looks like the background whatever colour hides in it; an opaque one is itself."""
    colour = picture(6, 5, 3)
    alpha = np.full((6, 5), 255, dtype=np.uint8)
    alpha[2] = 0
    shown = colour.copy()
    shown[2] = ground
    geometry = Geometry(background=background)
    for data in (encoded(np.dstack([colour, alpha])), encoded(np.dstack([colour, alpha]), "WEBP", lossless=True)):
        assert decode_image(COLOUR, data, geometry).tolist() == shown.tolist()
    palette = Image.new("P", (5, 6), 1)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=1)
    assert (decode_image(COLOUR, buffer.getvalue(), geometry) == ground).all()
    grey = encoded(np.dstack([colour[:, :, 0], alpha]))
    assert decode_image(GREY, grey, geometry)[:, :, 0].tolist() == shown[:, :, 0].tolist()


class TestGeometry:
    """A picture of four by eight pixels, its left half black and its right half white, becomes four by four."""

    COLUMN = Column("photo", "image", shape=(4, 4, 1), nullable=False, resize=True)
    WIDE = np.repeat(np.array([[0, 0, 0, 0, 255, 255, 255, 255]], dtype=np.uint8), 4, axis=0)

    def fitted(self, **options: Any) -> Array:
        return fit_pixels(self.COLUMN, self.WIDE, Geometry(**options))[:, :, 0]

    def test_stretch(self) -> None:
        """The whole picture, its sides' relation lost: the edge stays in the middle."""
        assert self.fitted()[:, [0, 3]].tolist() == [[0, 255]] * 4

    def test_crop(self) -> None:
        """The middle part of the right shape, pixel by pixel where nothing has to be resized."""
        assert self.fitted(fit="crop").tolist() == [[0, 0, 255, 255]] * 4
        tall = fit_pixels(self.COLUMN, self.WIDE.T, Geometry(fit="crop"))[:, :, 0]
        assert tall.T.tolist() == [[0, 0, 255, 255]] * 4

    @pytest.mark.parametrize(("background", "ground"), [("white", 255), ("black", 0)])
    def test_pad(self, background: str, ground: int) -> None:
        """All of the picture at half its size, with the background above and below."""
        padded = self.fitted(fit="pad", background=background)
        assert padded[[0, 3]].tolist() == [[ground] * 4] * 2
        assert padded[1:3, [0, 3]].tolist() == [[0, 255]] * 2

    def test_the_middle_is_kept_first(self) -> None:
        """`crop` keeps a share of both sides, also of a picture that has the column's size already."""
        square = np.pad(np.full((4, 4), 255, dtype=np.uint8), 2)
        assert (fit_pixels(self.COLUMN, square, Geometry(crop=0.5)) == 255).all()
        assert (fit_pixels(self.COLUMN, square[2:6, 2:6], Geometry(crop=0.5)) == 255).all()

    @pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5), (333, 1000)])
    @pytest.mark.parametrize("crop", [1.0, 0.7, 1e-3])
    def test_any_size_fits(self, fit: Any, size: tuple[int, int], crop: float) -> None:
        """No aspect and no rounding of the part that is kept falls outside the picture."""
        fitted = fit_pixels(self.COLUMN, np.full(size, 7, dtype=np.uint8), Geometry(fit=fit, crop=crop))
        assert fitted.shape == (4, 4, 1)
        assert 7 in fitted

    @pytest.mark.parametrize("options", [{"fit": "bend"}, {"crop": 0.0}, {"crop": 1.5}, {"background": "blue"}])
    def test_refuses_what_it_does_not_know(self, options: dict[str, Any]) -> None:
        """A stored geometry of another version never becomes one."""
        with pytest.raises(ValueError, match="geometry"):
            Geometry(**options)


def test_sixteen_bits_keep_their_contrast() -> None:
    """A 16-bit grey picture is divided by 256, not clipped to white."""
    deep = (picture(6, 5, 1).astype(np.uint16) << 8) + 200
    assert decode_image(GREY, encoded(deep))[:, :, 0].tolist() == picture(6, 5, 1).tolist()


def test_orientation_is_applied() -> None:
    """A photograph taken sideways stands upright, and is measured upright."""
    image = Image.fromarray(picture(5, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    assert inspect_image(buffer.getvalue()) == (6, 5, 3)
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    assert decode_image(COLOUR, buffer.getvalue()).tolist() == turned.tolist()


def test_another_size_is_resized_or_refused() -> None:
    """Resizing is bilinear and happens only where it was asked for."""
    other = picture(12, 9, 3)
    resized = np.asarray(Image.fromarray(other).resize((5, 6), Image.Resampling.BILINEAR))
    assert decode_image(ANY_SIZE, encoded(other)).tolist() == resized.tolist()
    assert fit_pixels(ANY_SIZE, other).tolist() == resized.tolist()
    with pytest.raises(ImageRefusedError, match=r"must be 5 x 6 pixels, got 9 x 12; set pipeline.image.size"):
        decode_image(COLOUR, encoded(other))


def test_inspection() -> None:
    """Height, width and channels of a picture; a broken one is refused like everywhere."""
    assert inspect_image(encoded(picture(6, 5, 3), "JPEG")) == (6, 5, 3)
    assert inspect_image(encoded(picture(6, 5, 1))) == (6, 5, 1)
    with pytest.raises(ImageRefusedError, match="got a broken one"):
        inspect_image(encoded(picture(6, 5, 1))[:60])


@pytest.mark.parametrize("size", [(MAX_PIXELS, 2), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_cannot_unfold_into_gigabytes(size: tuple[int, int]) -> None:
    """The number of pixels is looked at before memory is taken for them."""
    with pytest.raises(ImageRefusedError) as caught:
        decode_image(ANY_SIZE, huge_png(*size))
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\x89PNG\r\n\x1a\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EOF\n",
        encoded(picture(6, 5, 3))[:-30],
        encoded(picture(6, 5, 3), "JPEG")[:300],
    ],
)
def test_broken_files_are_refused(data: bytes) -> None:
    """Empty, foreign, PostScript and cut-off files have one code and one line."""
    with pytest.raises(ImageRefusedError) as caught:
        decode_image(COLOUR, data)
    assert caught.value.code == "not_an_image"
    assert "\n" not in str(caught.value)


class TestCast:
    def test_encoded_columns(self) -> None:
        """Good files stay as they are; each bad one has its reason."""
        raw = pa.array([encoded(picture(6, 5, 3)), b"text", None, encoded(picture(7, 5, 3))])
        cast = cast_image(COLOUR, raw)
        assert cast.values.type == pa.binary()
        assert cast.bad is not None
        assert cast.bad.tolist() == [False, True, True, True]
        assert [cast.explain(row).code for row in (1, 2, 3)] == ["not_an_image", "missing", "wrong_size"]
        assert cast.explain(3).reason.startswith("photo must be 5 x 6 pixels, got 5 x 7")

    def test_pixel_columns(self) -> None:
        """Pixels of the wrong size or type refuse every row; a missing one refuses its own."""
        for raw in (tensor_array(np.zeros((2, 4, 4), np.uint8)), tensor_array(np.zeros((2, 6, 5))), pa.array([1, 2])):
            cast = cast_image(COLOUR, raw)
            assert cast.bad is not None
            assert cast.bad.all()
            assert cast.explain(0).reason.startswith("photo must be")
        storage = pa.array([None, [7] * 30], pa.list_(pa.uint8(), 30))
        raw = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), [6, 5]), storage)
        cast = cast_image(GREY, raw)
        assert cast.bad is not None
        assert cast.bad.tolist() == [True, False]
        assert pixels_of(GREY, cast.values[1:]).tolist() == [[[[7]] * 5] * 6]

    def test_no_rows(self) -> None:
        """Empty columns give empty pixels of the right shape."""
        for raw in (pa.array([], pa.binary()), tensor_array(np.zeros((0, 6, 5, 3), np.uint8)), pa.nulls(0)):
            assert pixels_of(COLOUR, cast_image(COLOUR, raw).values).shape == (0, 6, 5, 3)


@pytest.mark.parametrize(
    "pixels", [np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32), np.eye(4, dtype="f4")]
)
def test_pixels_beyond_16_bits_are_refused(pixels: Array) -> None:
    """Wider pixels have no range of their own: they would wrap around, or become black, without a word."""
    with pytest.raises(ImageRefusedError, match="8 or 16 bits per channel"):
        inspect_image(encoded(pixels, "TIFF"))
    assert inspect_image(encoded(np.full((4, 4), 65_535, np.int32), "TIFF")) == (4, 4, 1)


def odd_photo(height: int, width: int, orientation: int) -> bytes:
    """A JPEG whose EXIF data have the resolution as a text, as some cameras write it."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[ExifTags.Base.XResolution] = TiffTags.ASCII
    tags[ExifTags.Base.XResolution] = "72"
    tags[ExifTags.Base.Orientation] = orientation
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags.tobytes(8)
    return encoded(picture(height, width, 3), "JPEG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_odd_tags_beside_the_orientation(orientation: int) -> None:
    """A picture stands upright in each of the eight ways, whatever else its EXIF data hold."""
    height, width = (6, 5) if orientation < 5 else (5, 6)
    data = odd_photo(height, width, orientation)
    plain = Image.Exif()
    plain[ExifTags.Base.Orientation] = orientation
    with Image.open(io.BytesIO(encoded(picture(height, width, 3), "JPEG", exif=plain))) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert decode_image(COLOUR, data).tolist() == upright.tolist()
    assert cast_image(COLOUR, pa.array([data])).bad is None
