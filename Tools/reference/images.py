"""Small pictures of every kind that is decoded, and what Pillow makes of them: images.py OUT

Writes into OUT (Tests/GraftDataTests/Fixtures/images):
  *.jpg *.png *.webp *.tif   the pictures
  expected.bin               RGB bytes, one result after another
  manifest.json              decode: file, options, size and place in expected.bin of each result
                             resize, preprocess: cases on pictures of noise that the tests make themselves
Needs Pillow and NumPy. Where Pillow's result is not the one wanted (16-bit grey, which it clips at 255), the expectation is
computed here instead."""
import io, json, pathlib, struct, sys, warnings, zlib
import numpy as np
import PIL
from PIL import Image, ImageOps

warnings.simplefilter("ignore")
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
for old in out.iterdir():
    old.unlink()
expected, decode, resize, preprocess = bytearray(), [], [], []


def store(pixels):
    """Keeps [h, w, 3] bytes, equal ones once; returns size and place."""
    data = np.ascontiguousarray(pixels, np.uint8).tobytes()
    offset = expected.find(data)
    if offset < 0:
        offset = len(expected)
        expected.extend(data)
    return dict(width=pixels.shape[1], height=pixels.shape[0], offset=offset)


def case(name, data, pixels=None, background=None, exif=False):
    """One file and its result: Pillow's, unless `pixels` are given."""
    (out / name).write_bytes(data)
    if pixels is None:
        image = Image.open(io.BytesIO(data))
        if exif:
            image = ImageOps.exif_transpose(image)
        if background:
            below = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(below, image.convert("RGBA"))
        pixels = np.asarray(image.convert("RGB"))
    decode.append(dict(file=name, exif=exif, background="#%02x%02x%02x" % background if background else None, **store(pixels)))


def scene(width, height, channels, seed=0):
    """Gradients, an edge and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        wave = 127 + 90 * np.sin(x / (3 + c) + c) * np.cos(y / (4 - c / 2)) + 40 * (x > y + c)
        planes.append(wave + np.random.default_rng(seed + c).normal(0, 6, wave.shape))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def saved(pixels, format, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


W, H = 23, 17
rgb, rgba, grey = scene(W, H, 3), scene(W, H, 4), scene(W, H, 1)[..., 0]
cmyk = Image.frombytes("CMYK", (W, H), scene(W, H, 4, 9).tobytes())

# ---- JPEG
for name, options in {"444": dict(subsampling=0), "422": dict(subsampling=1), "420": dict(subsampling=2), "progressive": dict(progressive=True),
                      "restart": dict(restart_marker_blocks=1), "rgb": dict(keep_rgb=True), "optimised": dict(optimize=True)}.items():
    case(f"{name}.jpg", saved(rgb, "JPEG", quality=80, **options))
case("grey.jpg", saved(grey, "JPEG"))
cmyk_bytes = saved(cmyk, "JPEG", quality=90)
case("cmyk.jpg", cmyk_bytes)
adobe = cmyk_bytes.index(b"Adobe")
case("ycck.jpg", cmyk_bytes[: adobe + 11] + b"\2" + cmyk_bytes[adobe + 12 :])
case("trailing.jpg", saved(rgb, "JPEG") + b"bytes after the end")
extraneous = saved(rgb, "JPEG")
case("extraneous.jpg", extraneous[:-2] + b"\x12\x34\x56" + extraneous[-2:])
# entropy-coded data that stop at a marker: a warning for libjpeg, a picture for Pillow
case("stops-early.jpg", extraneous[:-60] + b"\xff\xd9")
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    case(f"orientation-{orientation}.jpg", saved(rgb[:9, :14], "JPEG", exif=exif, quality=70), exif=True)
case("ignored-orientation.jpg", (out / "orientation-6.jpg").read_bytes())
big_endian = b"MM\0\x2a\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0"
case("big-endian-exif.jpg", saved(rgb[:9, :14], "JPEG", exif=b"Exif\0\0" + big_endian), exif=True)


# ---- PNG, by a writer that knows every kind
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(samples, depth):
    """[h, w, c] whole numbers as PNG rows."""
    height, width, channels = samples.shape
    if depth == 16:
        return samples.astype(">u2").reshape(height, -1).view(np.uint8)
    flat = samples.reshape(height, -1).astype(np.uint8)
    if depth == 8:
        return flat
    bits = np.unpackbits(flat[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
    return np.packbits(bits, axis=-1)


def filtered(rows, bytes_per_pixel):
    """Each row by the next of the five filters."""
    previous, data = np.zeros(rows.shape[1], np.int64), bytearray()
    for y, row in enumerate(rows.astype(np.int64)):
        left = np.concatenate([np.zeros(bytes_per_pixel, np.int64), row])[: len(row)]
        corner = np.concatenate([np.zeros(bytes_per_pixel, np.int64), previous])[: len(row)]
        p = left + previous - corner
        pa, pb, pc = abs(p - left), abs(p - previous), abs(p - corner)
        paeth = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, previous, corner))
        prediction = [0 * row, left, previous, (left + previous) // 2, paeth][y % 5]
        data += bytes([y % 5]) + ((row - prediction) & 255).astype(np.uint8).tobytes()
        previous = row
    return bytes(data)


def png(samples, depth, colour, palette=None, transparency=None, interlaced=False, extra=(), split=None):
    height, width, channels = samples.shape
    bytes_per_pixel = max(1, channels * depth // 8)
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes]
        data = b"".join(filtered(packed(part, depth), bytes_per_pixel) for part in parts if part.size)
    else:
        data = filtered(packed(samples, depth), bytes_per_pixel)
    data = zlib.compress(data, 9)
    pieces = [data] if split is None else [data[i : i + split] for i in range(0, len(data), split)]
    body = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))]
    body += [chunk(b"PLTE", bytes(palette))] if palette is not None else []
    body += [chunk(b"tRNS", transparency)] if transparency is not None else []
    body += [chunk(*c) for c in extra] + [chunk(b"IDAT", piece) for piece in pieces] + [chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


white_ish, violet = (250, 240, 230), (120, 20, 200)
colours = scene(16, 16, 3).reshape(256, 3)
rgb16 = (rgb.astype(np.uint16) << 8) + scene(W, H, 3, 30)
grey16 = (grey.astype(np.uint16) << 8) + 77
case("rgb.png", png(rgb, 8, 2))
case("rgb-interlaced.png", png(rgb, 8, 2, interlaced=True))
case("rgb-split.png", png(rgb, 8, 2, split=100))
case("rgb-odd-chunks.png", png(rgb, 8, 2, extra=[(b"gAMA", b"\0\0\0\0"), (b"tEXt", b""), (b"sBIT", b"\x09"), (b"prVt", b"x" * 20)]))
case("rgb16.png", png(rgb16, 16, 2))
case("rgb-key.png", png(rgb, 8, 2, transparency=struct.pack(">3H", *map(int, rgb[5, 5]))), background=violet)
case("rgba.png", png(rgba, 8, 6))
case("rgba-background.png", png(rgba, 8, 6), background=white_ish)
case("rgba-interlaced.png", png(rgba, 8, 6, interlaced=True), background=white_ish)
case("rgba16.png", png(rgba.astype(np.uint16) * 257, 16, 6), background=violet)
case("grey.png", png(grey[..., None], 8, 0))
case("grey-key.png", png(grey[..., None], 8, 0, transparency=struct.pack(">H", int(grey[3, 3]))), background=violet)
case("grey-alpha.png", png(rgba[..., 2:], 8, 4))
case("grey-alpha-background.png", png(rgba[..., 2:], 8, 4), background=violet)
case("grey-alpha16.png", png(rgba[..., 2:].astype(np.uint16) * 256 + 9, 16, 4))
case("grey16.png", png(grey16[..., None], 16, 0), pixels=np.repeat(grey[..., None], 3, -1))
for depth in (1, 2, 4):
    case(f"grey{depth}.png", png(grey[..., None] >> (8 - depth), depth, 0))
    case(f"grey{depth}-interlaced.png", png(grey[..., None] >> (8 - depth), depth, 0, interlaced=True))
for depth in (1, 2, 4, 8):
    case(f"palette{depth}.png", png(grey[..., None] >> (8 - depth), depth, 3, palette=colours[: 1 << depth].tobytes()))
case("palette-interlaced.png", png(grey[..., None] >> 4, 4, 3, palette=colours[:16].tobytes(), interlaced=True))
case("palette-alpha.png", png(grey[..., None], 8, 3, palette=colours.tobytes(), transparency=bytes(range(0, 200, 2))), background=white_ish)
case("palette-alpha-dropped.png", (out / "palette-alpha.png").read_bytes())
case("palette-short.png", png(grey[..., None], 8, 3, palette=colours[:100].tobytes()))
case("exif.png", png(rgb, 8, 2, extra=[(b"eXIf", big_endian)]), exif=True)
case("one-pixel.png", png(rgb[:1, :1], 8, 2, interlaced=True))
case("column-interlaced.png", png(rgb[:, :1], 8, 2, interlaced=True))

# ---- WebP
case("lossy.webp", saved(rgb, "WEBP", quality=70))
case("lossless.webp", saved(rgb, "WEBP", lossless=True))
case("lossy-alpha.webp", saved(rgba, "WEBP", quality=70))
case("lossy-alpha-background.webp", saved(rgba, "WEBP", quality=70), background=white_ish)
case("lossless-alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True))
case("lossless-alpha-background.webp", saved(rgba, "WEBP", lossless=True, exact=True), background=violet)
exif = Image.Exif()
exif[0x0112] = 6
case("exif.webp", saved(rgb, "WEBP", lossless=True, exif=exif), exif=True)
frames = [Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())]
case("animation.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True))


def riff(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def three(value):
    return struct.pack("<I", value)[:3]


def offset_animation(x, y):
    """One small frame on a larger canvas."""
    frame = saved(rgba[:8, :10].copy(), "WEBP", lossless=True, exact=True)
    bitstream = riff(b"VP8L", frame[frame.index(b"VP8L") + 8 :])
    body = riff(b"VP8X", bytes([0x12, 0, 0, 0]) + three(W - 1) + three(H - 1)) + riff(b"ANIM", b"\xff\xff\xff\xff\0\0")
    body += riff(b"ANMF", three(x // 2) + three(y // 2) + three(9) + three(7) + three(100) + b"\2" + bitstream)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


case("animation-offset.webp", offset_animation(6, 4))
case("animation-offset-background.webp", offset_animation(6, 4), background=white_ish)

# ---- TIFF
for name, compression in {"raw": None, "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits", "zstd": "zstd"}.items():
    case(f"{name}.tif", saved(rgb, "TIFF", compression=compression))
case("jpeg.tif", saved(rgb, "TIFF", compression="jpeg", quality=80))
case("rgba.tif", saved(rgba, "TIFF", compression="tiff_lzw"), background=violet)
case("grey.tif", saved(grey, "TIFF", compression="tiff_lzw"))
case("grey-alpha.tif", saved(Image.fromarray(rgba[..., 2:].copy(), "LA"), "TIFF", compression="tiff_lzw"))
case("bilevel.tif", saved(Image.fromarray(grey).convert("1"), "TIFF"))
case("fax4.tif", saved(Image.fromarray(grey).convert("1"), "TIFF", compression="group4"))
case("palette.tif", saved(Image.fromarray(rgb).quantize(20), "TIFF", compression="tiff_lzw"))
case("cmyk.tif", saved(cmyk, "TIFF", compression="tiff_lzw"))
case("ycbcr.tif", saved(Image.fromarray(rgb).convert("YCbCr"), "TIFF", compression="tiff_lzw"))
# any bytes, so that sums leave 0…255; not compressed, they are not libtiff's to convert
case("ycbcr-raw.tif", saved(Image.frombytes("YCbCr", (W, H), scene(W, H, 3, 5).tobytes()), "TIFF"))
case("grey16.tif", saved(Image.fromarray(grey16), "TIFF", compression="tiff_lzw"), pixels=np.repeat(grey[..., None], 3, -1))
for orientation in (3, 6):
    case(f"orientation-{orientation}.tif", saved(rgb, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation}))


def tiff(samples, depth, photometric, order="<", planar=False, tile=None, extra=None, deflate=False, big=False, palette=None, bits=None):
    """What Pillow does not write: planes, tiles, 16 bits, BigTIFF, premultiplied alpha."""
    height, width, channels = samples.shape
    planes = [samples[..., c : c + 1] for c in range(channels)] if planar else [samples]
    side = tile or max(height, width)
    blocks = []
    for plane in planes:
        if tile:
            padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, plane.shape[2]), plane.dtype)
            padded[:height, :width] = plane
            blocks += [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        else:
            blocks += [plane[y : y + 5] for y in range(0, height, 5)]
    data = [(b.astype(order + "u2").tobytes() if depth == 16 else packed(b, depth).tobytes()) for b in blocks]
    data = [zlib.compress(d) for d in data] if deflate else data
    start = 16 if big else 8
    offsets = [start + sum(map(len, data[:i])) for i in range(len(data))]
    entries = [(256, 3, [width]), (257, 3, [height]), (258, 3, [depth] * channels), (259, 3, [8 if deflate else 1]), (262, 3, [photometric]),
               (277, 3, [channels]), (284, 3, [2 if planar else 1])]
    entries += [(338, 3, extra)] if extra else []
    entries += [(320, 3, palette)] if palette is not None else []
    entries += [(322, 3, [tile]), (323, 3, [tile]), (324, 4, offsets), (325, 4, list(map(len, data)))] if tile else \
               [(273, 4, offsets), (278, 3, [5]), (279, 4, list(map(len, data)))]
    place = start + sum(map(len, data))
    place += place & 1
    count, wide = ("Q", "Q") if big else ("H", "I")
    entry_size = 20 if big else 12
    overflow_at = place + struct.calcsize(order + count) + entry_size * len(entries) + struct.calcsize(order + wide)
    table, overflow = b"", b""
    for tag, kind, values in sorted(entries):
        packed_values = struct.pack(order + str(len(values)) + {3: "H", 4: "I"}[kind], *map(int, values))
        room = 8 if big else 4
        if len(packed_values) > room:
            field = struct.pack(order + wide, overflow_at + len(overflow))
            overflow += packed_values + b"\0" * (len(packed_values) & 1)
        else:
            field = packed_values.ljust(room, b"\0")
        table += struct.pack(order + "HH" + wide, tag, kind, len(values)) + field
    head = (b"II" if order == "<" else b"MM") + (struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HI", 42, place))
    body = (head + b"".join(data)).ljust(place, b"\0")
    return body + struct.pack(order + count, len(entries)) + table + struct.pack(order + wide, 0) + overflow


case("rgb16.tif", tiff(rgb16, 16, 2))
case("rgb16-big-endian.tif", tiff(rgb16, 16, 2, order=">"))
case("planar.tif", tiff(rgb, 8, 2, planar=True, deflate=True))
case("planar16.tif", tiff(rgb16, 16, 2, planar=True, deflate=True), pixels=(rgb16 >> 8))
case("tiled.tif", tiff(rgb, 8, 2, tile=16, deflate=True))
case("tiled-planar.tif", tiff(rgb, 8, 2, tile=16, planar=True, deflate=True), pixels=rgb)
case("bigtiff.tif", tiff(rgb, 8, 2, big=True, deflate=True))
case("premultiplied.tif", tiff(rgba, 8, 2, extra=[1], deflate=True), background=violet)
case("five-samples.tif", tiff(scene(W, H, 5), 8, 2, extra=[0, 0], deflate=True))
case("white-is-zero.tif", tiff(grey[..., None], 8, 0, deflate=True))
case("grey4.tif", tiff(grey[..., None] >> 4, 4, 1))
case("palette4.tif", tiff(grey[..., None] >> 4, 4, 3, palette=(colours[:16].T.astype(np.uint16) * 257).ravel()))


# ---- resampling, of noise that the tests make in the same way
def noise(width, height, seed):
    """Bytes from the high bits of a linear congruential generator, x ← 1664525 x + 1013904223 mod 2^32."""
    state, values = seed, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append(state >> 24)
    return np.frombuffer(bytes(values), np.uint8).reshape(height, width, 3)


filters = dict(nearest=Image.NEAREST, box=Image.BOX, bilinear=Image.BILINEAR, hamming=Image.HAMMING, bicubic=Image.BICUBIC, lanczos=Image.LANCZOS)
sizes = [((1, 1), (5, 7)), ((1, 1), (1, 1)), ((1, 19), (3, 4)), ((37, 1), (5, 6)), ((37, 1), (90, 1)), ((2, 3), (17, 16)), ((16, 16), (16, 16)),
         ((33, 31), (16, 17)), ((21, 31), (21, 9)), ((33, 19), (9, 19)), ((50, 40), (7, 5)), ((14, 16), (15, 17)), ((5000, 3), (7, 3)), ((3, 5000), (3, 7)),
         ((97, 61), (1, 1)), ((7, 300), (20, 11)), ((200, 20), (26, 11))]
for index, ((w, h), (to_w, to_h)) in enumerate(sizes):
    source = Image.fromarray(noise(w, h, index + 1))
    for name, number in filters.items():
        if name in ("box", "hamming") and index % 3:
            continue
        # along x, then along y, as Pillow did up to version 12 and does where the ratio is kept; from 13 on it begins with y
        # if the height shrinks much more than the width
        result = source.resize((to_w, to_h), number) if name == "nearest" else source.resize((to_w, h), number).resize((to_w, to_h), number)
        resize.append(dict(source_width=w, source_height=h, seed=index + 1, interpolation=name, **store(np.asarray(result))))


def preprocessed(image, size, crop_pct, interpolation, mode):
    """As torchvision's Resize and CenterCrop, and timm's ResizeKeepRatio for sides that differ."""
    (height, width), (w, h) = size, image.size
    target = int(height / crop_pct), int(width / crop_pct)
    if mode == "squash":
        scaled = target[1], target[0]
    elif target[0] == target[1]:
        short = target[0]
        scaled = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    else:
        ratio = min(h / target[0], w / target[1])
        scaled = round(w / ratio), round(h / ratio)
    image = image.resize(scaled, filters[interpolation])
    missing_w, missing_h = max(0, width - scaled[0]), max(0, height - scaled[1])
    padded = Image.new("RGB", (scaled[0] + missing_w, scaled[1] + missing_h))
    padded.paste(image, (missing_w // 2, missing_h // 2))
    left, top = round((padded.width - width) / 2), round((padded.height - height) / 2)
    return np.asarray(padded.crop((left, top, left + width, top + height)))


for index, (source, size, crop_pct, interpolation, mode) in enumerate([
        ((60, 45), (16, 16), 0.875, "bicubic", "center"), ((45, 60), (16, 16), 0.875, "bilinear", "center"), ((31, 31), (15, 15), 0.9, "bicubic", "center"),
        ((90, 20), (16, 16), 1.0, "bilinear", "center"), ((7, 9), (20, 20), 0.95, "bicubic", "center"), ((64, 48), (16, 16), 1.3, "bilinear", "center"),
        ((64, 48), (17, 16), 1.3, "bicubic", "center"), ((64, 48), (12, 20), 0.875, "bicubic", "center"), ((48, 64), (21, 10), 0.9, "bilinear", "center"),
        ((64, 48), (16, 16), 0.8, "bicubic", "squash"), ((1, 40), (6, 6), 0.875, "bicubic", "center"), ((53, 47), (16, 16), 0.888, "lanczos", "center")]):
    image = Image.fromarray(noise(*source, 100 + index))
    preprocess.append(dict(source_width=source[0], source_height=source[1], seed=100 + index, input_size=[3, *size], crop_pct=crop_pct,
                           interpolation=interpolation, crop_mode=mode, **store(preprocessed(image, size, crop_pct, interpolation, mode))))

(out / "expected.bin").write_bytes(expected)
json.dump(dict(pillow=PIL.__version__, decode=decode, resize=resize, preprocess=preprocess), open(out / "manifest.json", "w"), separators=(",", ":"))
total = sum(path.stat().st_size for path in out.iterdir())
print(f"{len(decode)} pictures, {len(resize)} resizings, {len(preprocess)} preprocessings, {total} bytes")
