"""Pictures as tensors: layouts, sizes, colours, and pictures that are not what they seem."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from plain_cases import declares, one, outcome, takes

from appliance.core.errors import BadInputError, IngleError, TooLargeError
from appliance.core.manifest import ImageInput
from appliance.core.tensors import TensorSpec
from appliance.workers.plain.picture_layout import frame

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NCHW = takes(("x", "FP32", (-1, 3, 4, 6)))


def encoded(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(rows, mode="RGB"):
    """A picture of these rows of colours."""
    picture = Image.new(mode, (len(rows[0]), len(rows)))
    picture.putdata([colour for row in rows for colour in row])
    return picture


def image(**declaration):
    return declares({"name": "x", "as": "image", **declaration})


FRAMES = [
    # The model's shape alone: height, width, channels, channels first.
    ((-1, 3, 8, 9), {}, (8, 9, 3, True)),
    ((1, 8, 9, 3), {}, (8, 9, 3, False)),
    ((3, 8, 9), {}, (8, 9, 3, True)),
    ((8, 9, 3), {}, (8, 9, 3, False)),
    ((-1, 3, -1, -1), {}, (0, 0, 3, True)),
    ((-1, -1, -1, 3), {}, (0, 0, 3, False)),
    ((-1, -1, 8, 9), {}, (8, 9, 3, True)),
    ((-1, 1, 8, 9), {"colour": "L"}, (8, 9, 1, True)),
    ((-1, 8, 9, 1), {"colour": "L"}, (8, 9, 1, False)),
    ((-1, 8, 9), {"colour": "L"}, (8, 9, 1, True)),
    ((8, 9), {"colour": "L"}, (8, 9, 1, True)),
    # The manifest narrows it.
    ((-1, 3, -1, -1), {"size": [8, 9]}, (8, 9, 3, True)),
    ((-1, -1, -1, -1), {"size": [8, 9], "layout": "NHWC"}, (8, 9, 3, False)),
    ((-1, 3, 8, 3), {"layout": "NCHW"}, (8, 3, 3, True)),
    ((-1, 72), {"size": [8, 9], "colour": "L"}, (8, 9, 1, True)),
    ((-1, 216), {"size": [8, 9], "layout": "NCHW"}, (8, 9, 3, True)),
    ((216,), {"size": [8, 9], "layout": "NHWC"}, (8, 9, 3, False)),
]

NO_FRAMES = [
    ((-1, -1, -1, -1), {}, "does not tell where the 3 channels"),
    ((-1, 3, 8, 3), {}, "does not tell where"),
    ((-1, 1, 8, 9), {}, "does not tell where"),  # grey, and RGB declared
    ((-1, 3, 8, 9), {"size": [9, 8]}, "becomes [3, 9, 8], but the model takes [-1, 3, 8, 9]"),
    ((-1, 3, 8, 9), {"layout": "NHWC"}, "one picture becomes"),
    ((4, 3, 8, 9), {}, "the model takes [4, 3, 8, 9]"),
    ((-1, 4, 8, 9), {"layout": "NCHW"}, "the model takes [-1, 4, 8, 9]"),
    ((-1, 72), {"colour": "L"}, "size = [H, W]"),
    ((-1, 216), {"size": [8, 9]}, "layout"),
    ((), {"size": [8, 9], "layout": "NCHW"}, "one picture becomes"),
    ((-1, 3, -1, -1), {"size": [8]}, "size is [height, width]"),
    ((-1, 3, -1, -1), {"size": [0, 8]}, "size is [height, width]"),
    ((-1, 3, -1, -1), {"size": [99999, 8]}, "size is [height, width]"),
    ((-1, 3, 8, 9), {"mean": [1, 2]}, "mean is one number, or one for each of 3"),
    ((-1, 3, 8, 9), {"std": [1, 0, 1]}, "cannot be 0"),
]


@pytest.mark.parametrize(("shape", "declaration", "expected"), FRAMES)
def test_the_frame_comes_of_declaration_and_shape(shape, declaration, expected):
    (declared,) = image(**declaration).input
    assert frame(TensorSpec("x", "FP32", shape), declared) == expected


@pytest.mark.parametrize(("shape", "declaration", "says"), NO_FRAMES)
def test_a_frame_that_cannot_be_told_is_refused_with_what_to_declare(shape, declaration, says):
    (declared,) = image(**declaration).input
    with pytest.raises(BadInputError) as refused:
        frame(TensorSpec("x", "FP32", shape), declared)
    assert says in refused.value.sentence


def test_strings_are_no_pictures():
    with pytest.raises(BadInputError, match="BYTES, which a picture cannot become"):
        frame(TensorSpec("x", "BYTES", (-1, 3, 8, 8)), ImageInput(name="x"))


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/jpeg", "application/octet-stream", "", "image/x-anything"]
)
def test_a_picture_fills_an_input_of_three_channels_without_a_declaration(content_type):
    tensor = one(content_type, encoded(Image.new("RGB", (50, 30), (10, 20, 30))), NCHW)
    assert (tensor.dtype, tensor.shape) == (np.float32, (1, 3, 4, 6))
    assert [set(channel.ravel()) for channel in tensor[0]] == [{10}, {20}, {30}]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_each_format_is_read(form):
    tensor = one("image/any", encoded(Image.new("RGB", (6, 4), (250, 130, 10)), form), NCHW)
    assert np.abs(tensor[0, :, 2, 3] - [250, 130, 10]).max() <= 6  # what lossy formats lose


def test_json_without_a_type_is_json_for_a_picture_s_model_too():
    assert one("", b"[[[[1, 2]]]]", takes(("x", "FP32", (-1, 1, 1, 2)))).shape == (1, 1, 1, 2)


def test_channels_last_and_blue_first():
    body = encoded(pixels([[RED, GREEN]]))
    assert one("image/png", body, takes(("x", "UINT8", (-1, 1, 2, 3))), image()).tolist() == [
        [[[255, 0, 0], [0, 255, 0]]]
    ]
    bgr = one("image/png", body, takes(("x", "UINT8", (-1, 1, 2, 3))), image(colour="BGR"))
    assert bgr.tolist() == [[[[0, 0, 255], [0, 255, 0]]]]
    first = one("image/png", body, takes(("x", "UINT8", (1, 3, 1, 2))), image(colour="BGR"))
    assert first.tolist() == [[[[0, 0]], [[0, 255]], [[255, 0]]]]


def test_grey_is_one_channel_or_none():
    body = encoded(pixels([[0, 255], [7, 8]], "L"))
    expected = [0, 255, 7, 8]
    for shape in ((-1, 1, 2, 2), (-1, 2, 2, 1), (-1, 2, 2), (1, 2, 2), (2, 2)):
        tensor = one("image/png", body, takes(("x", "FP32", shape)), image(colour="L"))
        assert tensor.ndim == len(shape)
        assert tensor.ravel().tolist() == expected
    assert one("image/png", body, takes(("x", "FP32", (-1, 1, 2, 2)))).ravel().tolist() == expected
    flat = one("image/png", body, takes(("x", "FP32", (-1, 4))), image(colour="L", size=[2, 2]))
    assert flat.tolist() == [expected]


def test_pixels_are_scaled_then_shifted_then_divided():
    manifest = image(scale=1 / 255, mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 2.0])
    tensor = one("image/png", encoded(pixels([[(255, 0, 255)]])), takes(("x", "FP32", (1, 3, 1, 1))), manifest)
    assert tensor.ravel().tolist() == pytest.approx([1.0, -1.0, 0.5])


@pytest.mark.parametrize(
    ("dtype", "declaration", "expected"),
    [
        ("INT8", {"mean": [128]}, [-128, 127]),
        ("INT8", {}, [0, 127]),  # clipped, not wrapped
        ("UINT8", {"scale": 0.5}, [0, 128]),
        ("FP16", {"scale": 1 / 255}, [0.0, 1.0]),
        ("BF16", {}, [0, 0x437F]),
        ("INT64", {}, [0, 255]),
        ("FP64", {"mean": [1]}, [-1.0, 254.0]),
    ],
)
def test_pixels_become_the_input_s_own_type(dtype, declaration, expected):
    tensor = one(
        "image/png",
        encoded(pixels([[0, 255]], "L")),
        takes(("x", dtype, (1, 1, 1, 2))),
        image(colour="L", **declaration),
    )
    assert tensor.ravel().tolist() == expected


WIDE = pixels([[RED, GREEN, GREEN, BLUE]] * 2)  # red and blue edges, a green middle


def test_crop_takes_the_middle():
    tensor = one("image/png", encoded(WIDE), takes(("x", "UINT8", (1, 2, 2, 3))), image(resize="crop"))
    assert {tuple(pixel) for pixel in tensor.reshape(-1, 3).tolist()} == {GREEN}


def test_pad_keeps_all_between_black_bars():
    tensor = one("image/png", encoded(WIDE), takes(("x", "UINT8", (1, 4, 4, 3))), image(resize="pad"))[0]
    assert not tensor[0].any()
    assert not tensor[3].any()
    assert [tuple(pixel) for pixel in tensor[1].tolist()] == [RED, GREEN, GREEN, BLUE]


def test_stretch_uses_all_of_the_picture():
    tensor = one("image/png", encoded(WIDE), takes(("x", "UINT8", (1, 1, 2, 3))), image())[0, 0]
    assert tensor[0, 0] > 100  # red on the left
    assert tensor[1, 2] > 100  # blue on the right


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (1, 1), (3, 5)])
def test_any_proportion_becomes_the_size(resize, size):
    tensor = one(
        "image/png",
        encoded(Image.new("L", size, 200)),
        takes(("x", "UINT8", (1, 7, 5, 1))),
        image(colour="L", resize=resize),
    )
    assert tensor.shape == (1, 7, 5, 1)
    assert tensor.max() == 200


def test_a_model_of_any_size_gets_the_picture_s_own():
    assert one("image/png", encoded(Image.new("RGB", (7, 5))), takes(("x", "FP32", (-1, 3, -1, -1)))).shape == (
        1,
        3,
        5,
        7,
    )
    assert one("image/png", encoded(Image.new("RGB", (7, 5))), takes(("x", "FP32", (-1, 3, -1, 9)))).shape == (
        1,
        3,
        5,
        9,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_set_upright(orientation):
    upright = pixels([[RED, GREEN, BLUE], [RED, RED, RED]])
    turned = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    tensor = one("image/png", encoded(turned, exif=exif), takes(("x", "UINT8", (-1, -1, -1, 3))), image())
    assert np.array_equal(tensor[0], np.asarray(upright))


def test_broken_exif_leaves_the_picture_as_it_lies():
    body = encoded(Image.new("RGB", (6, 4), RED), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert one("image/jpeg", body, NCHW)[0, 0].min() > 250


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (pixels([[0]], "1"), (0, 0, 0)),
        (pixels([[77]], "L"), (77, 77, 77)),
        (Image.new("I;16", (1, 1), 0x4D12), (0x4D, 0x4D, 0x4D)),
        (Image.new("RGB", (1, 1), RED).convert("P"), RED),
        (Image.new("RGBA", (1, 1), (*RED, 255)), RED),
        (Image.new("RGBA", (1, 1), (*RED, 0)), (255, 255, 255)),  # seen on white
        (Image.new("LA", (1, 1), (0, 0)), (255, 255, 255)),
    ],
    ids=["1 bit", "grey", "16 bits", "palette", "opaque", "transparent", "transparent grey"],
)
def test_every_kind_of_png_becomes_rgb(picture, expected):
    tensor = one("image/png", encoded(picture), takes(("x", "UINT8", (1, 1, 1, 3))), image())
    assert tuple(tensor.ravel().tolist()) == expected


def test_sixteen_bits_of_colour_are_read():
    row = b"\x00" + struct.pack(">3H", 0xFFFF, 0x8000, 0x0101)
    assert one(
        "image/png", png(1, 1, zlib.compress(row), depth=16), takes(("x", "UINT8", (1, 1, 1, 3))), image()
    ).ravel().tolist() == [255, 128, 1]


def test_a_transparent_palette_is_seen_on_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putdata([0, 1])
    tensor = one("image/gif", encoded(picture, "GIF", transparency=0), takes(("x", "UINT8", (1, 1, 2, 3))), image())
    assert tensor.reshape(-1, 3).tolist() == [[255, 255, 255], [*BLUE]]


def test_cmyk_becomes_rgb():
    body = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red, green, blue = one("image/jpeg", body, takes(("x", "UINT8", (1, 1, 1, 3))), image()).ravel().tolist()
    assert red > 240
    assert max(green, blue) < 20


def test_the_first_frame_of_an_animation_is_the_picture():
    body = encoded(Image.new("RGB", (4, 4), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)])
    assert one("image/gif", body, takes(("x", "UINT8", (1, 1, 1, 3))), image()).ravel().tolist() == [*RED]


def test_the_first_of_a_phone_s_pair_is_the_picture():
    body = encoded(Image.new("RGB", (8, 8), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)])
    assert one("image/jpeg", body, NCHW)[0, 0].min() > 250


def png(width, height, data, depth=8):
    """A PNG that says what it likes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20000, 20000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_would_not_fit_in_memory_is_refused_by_its_header(size):
    with pytest.raises(TooLargeError, match="pixels are taken"):
        one("image/png", png(*size, zlib.compress(b"")), NCHW)


def test_a_picture_of_its_own_size_is_bounded_before_it_is_read():
    with pytest.raises(TooLargeError, match="declare `size`"):
        one("image/png", encoded(Image.new("1", (6000, 4000))), takes(("x", "FP32", (-1, 3, -1, -1))))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_picture_cut_short_anywhere_is_refused(form):
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), form)
    for kept in (1, 4, 8, 20, 60, len(whole) // 2, len(whole) * 3 // 4):
        with pytest.raises(BadInputError, match=r"no picture that can be read|damaged or cut short"):
            one("image/any", whole[:kept], NCHW)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"II*\x00\x08\x00\x00\x00",
        b"\x00" * 100,
        b"P6 1 1 255 abc",
    ],
    ids=["text", "svg", "pdf", "tiff", "zeros", "ppm"],
)
def test_what_is_no_picture_taken_here_is_refused(body):
    with pytest.raises(BadInputError, match="send JPEG, PNG, WEBP, BMP, GIF"):
        one("image/png", body, NCHW)


def test_damaged_pictures_end_in_a_sentence():
    random = np.random.default_rng(2)
    noise = Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8))
    for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        whole = np.frombuffer(encoded(noise, form), np.uint8)
        for _ in range(40):
            body = whole.copy()
            body[random.integers(0, len(body), 6)] = random.integers(0, 256, 6)
            found = outcome(one, "image/any", body.tobytes(), NCHW)
            assert found.status in (400, 413) if isinstance(found, IngleError) else found.shape == (1, 3, 4, 6)


def test_a_crop_can_leave_a_margin_out():
    ringed = Image.new("RGB", (10, 10), RED)
    ringed.paste(Image.new("RGB", (8, 8), GREEN), (1, 1))
    signature = takes(("x", "UINT8", (1, 4, 4, 3)))
    inner = one("image/png", encoded(ringed), signature, image(resize="crop", shorter=8, filter="box"))
    assert {tuple(pixel) for pixel in inner.reshape(-1, 3).tolist()} == {GREEN}
    whole = one("image/png", encoded(ringed), signature, image(resize="crop", filter="box"))
    assert {GREEN} < {tuple(pixel) for pixel in whole.reshape(-1, 3).tolist()}


def test_a_margin_is_left_out_of_a_picture_of_the_right_size_too():
    tensor = one("image/png", encoded(WIDE), takes(("x", "UINT8", (1, 2, 4, 3))), image(resize="crop", shorter=4))
    assert GREEN in {tuple(pixel) for pixel in tensor.reshape(-1, 3).tolist()}
    assert tensor[0, :, 0, 0].max() < 255


@pytest.mark.parametrize(
    "declared", [{"resize": "pad", "shorter": 8}, {"resize": "crop", "shorter": -1}, {"resize": "crop", "shorter": 3}]
)
def test_a_margin_goes_with_a_crop_alone(declared):
    with pytest.raises(BadInputError, match="shorter is"):
        one("image/png", encoded(WIDE), takes(("x", "UINT8", (1, 2, 4, 3))), image(**declared))


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_a_picture_is_resampled_as_declared(name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8))
    tensor = one("image/png", encoded(noise), takes(("x", "UINT8", (1, 4, 5, 3))), image(filter=name))
    wanted = noise.resize((5, 4), Image.Resampling[name.upper()])
    assert np.array_equal(tensor[0], np.asarray(wanted))
