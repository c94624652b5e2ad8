"""What Pillow makes of pictures with fixed parameters: views.py OUT

Writes into OUT (Tests/GraftDataTests/Fixtures/views):
  pictures.bin     RGB bytes: the pictures, then one result after another
  manifest.json    pictures: size and place; cases: operation, numbers, picture, place of the result; crops, hue
Operations are Pillow's ImageOps, ImageEnhance and Image.transform; `hue` is written down from torchvision's adjust_hue for PIL
images, and the operations' arguments are those that timm's RandAugment would give. Needs Pillow and NumPy."""
import json, math, pathlib, sys
import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageOps

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
data, pictures, cases, resized = bytearray(), [], [], []


def store(pixels):
    pixels = np.ascontiguousarray(pixels, np.uint8)
    offset = len(data)
    data.extend(pixels.tobytes())
    return dict(width=pixels.shape[1], height=pixels.shape[0], offset=offset)


def scene(width, height, seed):
    """Gradients, an edge, noise; few greys."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / (3 + c) + c) * np.cos(y / (4 - c / 2)) + 40 * (x > y + c) + random.normal(0, 12, x.shape) for c in range(3)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


arrays = [
    scene(24, 19, 1),
    np.clip(scene(17, 23, 2) // 3 + 70, 0, 255).astype(np.uint8),  # low contrast
    np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8),  # every kind of hue
    np.full((9, 7, 3), (30, 200, 90), np.uint8),  # a single colour
    np.array([[[0, 0, 0], [255, 255, 255]], [[255, 0, 0], [0, 0, 255]]], np.uint8),  # 2 x 2
]
for pixels in arrays:
    pictures.append(store(pixels))


def hue(image, factor):
    h, s, v = image.convert("HSV").split()
    turned = np.asarray(h).copy()
    with np.errstate(over="ignore"):
        turned += np.int32(factor * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned, "L"), s, v)).convert("RGB")


def affine(image, matrix, resample):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=(124, 116, 104))


def solarize_add(image, amount):
    table = [min(255, i + amount) if i < 128 else i for i in range(256)]
    return image.point(table * 3)


for index, pixels in enumerate(arrays):
    image = Image.fromarray(pixels)
    width, height = image.size

    def case(operation, result, *numbers):
        cases.append(dict(operation=operation, numbers=numbers, picture=index, **store(np.asarray(result))))

    case("autocontrast", ImageOps.autocontrast(image))
    case("equalize", ImageOps.equalize(image))
    case("invert", ImageOps.invert(image))
    for bits in (1, 3, 4, 8):
        case("posterize", ImageOps.posterize(image, bits), bits)
    for threshold in (0, 26, 128, 256):
        case("solarize", ImageOps.solarize(image, threshold), threshold)
    for amount in (0, 55, 110):
        case("solarizeAdd", solarize_add(image, amount), amount)
    for factor in (0.0, 0.1, 0.73, 1.0, 1.27, 1.9):
        case("brightness", ImageEnhance.Brightness(image).enhance(factor), factor)
        case("contrast", ImageEnhance.Contrast(image).enhance(factor), factor)
        case("saturation", ImageEnhance.Color(image).enhance(factor), factor)
        case("sharpness", ImageEnhance.Sharpness(image).enhance(factor), factor)
    for turn in (-0.5, -0.1, 0.0, 0.013, 0.25, 0.5):
        case("hue", hue(image, turn), turn)
    for name, resample in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        for degrees in (-30.0, -7.3, 4.5, 28.0):
            case("rotate." + name, image.rotate(degrees, resample=resample, fillcolor=(124, 116, 104)), degrees)
        for factor in (-0.3, 0.11):
            case("shearX." + name, affine(image, (1, factor, 0, 0, 1, 0), resample), factor)
            case("shearY." + name, affine(image, (1, 0, 0, factor, 1, 0), resample), factor)
        for part in (-0.45, 0.2):
            case("translateX." + name, affine(image, (1, 0, part * width, 0, 1, 0), resample), part)
            case("translateY." + name, affine(image, (1, 0, 0, 0, 1, part * height), resample), part)

# torchvision's resized_crop: the part is cut out, then resized. Where the ratio of the sides is kept or x shrinks no less than y,
# every version of Pillow goes along x first.
for index, box, size, resample in (
    (0, (3, 2, 14, 14), (10, 10), "BILINEAR"), (0, (0, 0, 24, 19), (16, 16), "BICUBIC"), (2, (5, 9, 20, 16), (12, 12), "BICUBIC"),
    (2, (8, 8, 9, 9), (20, 20), "BICUBIC"), (1, (2, 4, 12, 12), (5, 5), "LANCZOS"),
):
    x, y, w, h = box
    image = Image.fromarray(arrays[index]).crop((x, y, x + w, y + h)).resize(size, getattr(Image.Resampling, resample))
    resized.append(dict(picture=index, box=box, interpolation=resample.lower(), **store(np.asarray(image))))

(out / "pictures.bin").write_bytes(data)
(out / "manifest.json").write_text(json.dumps(dict(pillow=PIL.__version__, pictures=pictures, cases=cases, crops=resized), separators=(",", ":")) + "\n")
