"""Cuts photographs into a .tar of square JPEG tiles, or takes a smaller .tar from a larger one.

    python pack_tiles.py cut tiles.tar --tiles 3200 DIR...
    python pack_tiles.py thin tiles.tar small.tar --mib 24

Lossy sources are shrunk at least to a half first, so that their artefacts are not learned. At most eight tiles of one photograph,
numbered one after the other: `tiles.py` holds out photographs by these numbers.
"""
import argparse
import io
import os
import random
import tarfile

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".ppm")
PER_PHOTOGRAPH = 8


def photographs(folders):
    found = [os.path.join(d, f) for top in folders for d, _, names in os.walk(top) for f in names if f.lower().endswith(SUFFIXES)]
    random.Random(1).shuffle(found)
    return found


def reduced(path, size, long_side):
    """The photograph as RGB at the scale to cut at; None if it is too small for that or of another kind."""
    from PIL import Image, ImageOps
    Image.MAX_IMAGE_PIXELS = None
    im = Image.open(path)
    if im.mode not in ("RGB", "RGBA", "L", "P"):
        return None
    k = min(1.0 if im.format == "PNG" else 0.5, long_side / max(im.size))
    if im.format == "PNG":
        k = max(k, size / min(im.size))
    if k > 1 or min(im.size) * k < size:
        return None
    w, h = (max(size, round(s * k)) for s in im.size)
    return ImageOps.exif_transpose(im.convert("RGB").resize((w, h), Image.LANCZOS))


def tiles(im, size, rng):
    """Up to eight tiles of a grid in the middle; most flat ones are left out."""
    from PIL import ImageStat
    nx, ny = im.width // size, im.height // size
    cells = [(i, j) for i in range(ny) for j in range(nx)]
    rng.shuffle(cells)
    kept = 0
    for i, j in cells:
        x, y = (im.width - nx * size) // 2 + j * size, (im.height - ny * size) // 2 + i * size
        t = im.crop((x, y, x + size, y + size))
        if max(ImageStat.Stat(t).stddev) < 8 and rng.random() > 0.15:
            continue
        yield t
        kept += 1
        if kept == PER_PHOTOGRAPH:
            return


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def cut(a):
    rng, n, used = random.Random(2), 0, 0
    with tarfile.open(a.out, "w") as tar:
        for path in photographs(a.folders):
            try:
                im = reduced(path, a.size, a.long)
            except (OSError, ValueError) as e:
                print("left out:", path, e)
                continue
            for t in tiles(im, a.size, rng) if im else ():
                if n == a.tiles:
                    break
                data = io.BytesIO()
                t.save(data, "JPEG", quality=91, subsampling=0)
                add(tar, f"{n:05d}.jpg", data.getvalue())
                n += 1
            used += im is not None
            if n == a.tiles:
                break
    print(f"{n} tiles of {used} photographs")


def thin(a):
    """Every tile that makes n/m of all, spread evenly: some of each photograph; names stay."""
    with tarfile.open(a.tiles) as source, tarfile.open(a.out, "w") as tar:
        members = sorted((m for m in source if m.isfile()), key=lambda m: m.name)
        keep = min(1.0, a.mib * 2 ** 20 / sum(m.size + 1024 for m in members))
        count = 0
        for i, m in enumerate(members):
            if int((i + 1) * keep) > int(i * keep):
                add(tar, m.name, source.extractfile(m).read())
                count += 1
    print(f"{count} of {len(members)} tiles")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    c = sub.add_parser("cut")
    c.add_argument("out")
    c.add_argument("folders", nargs="+")
    c.add_argument("--tiles", type=int, default=3200)
    c.add_argument("--size", type=int, default=320)
    c.add_argument("--long", type=int, default=1800, help="longest side after shrinking")
    c.set_defaults(run=cut)
    t = sub.add_parser("thin")
    t.add_argument("tiles")
    t.add_argument("out")
    t.add_argument("--mib", type=float, required=True)
    t.set_defaults(run=thin)
    a = p.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
