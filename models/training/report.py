"""Writes the figures of a model card from what `mlic eval` measured.

    mlic eval --json --anchor models/training/anchors.json -q 0,10,20,30,40,50,60,70,80,90,100 KODAK > eval.json
    python models/training/report.py eval.json models/edge [--logs RUN/log-*.jsonl]

Writes rate-distortion.svg, loss.svg (from the logs, also kept as loss.json) and the part of README.md between its `figures` marks.
Needs no package beyond the standard library.
"""
import argparse
import json
import math
import pathlib
import sys

import plot

ANCHORS = pathlib.Path(__file__).resolve().parent / "anchors.json"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def ssim_db(v):
    return -10 * math.log10(1 - v)


def at_rate(curve, bpp, key):
    """Value of a curve at a rate, linear in log rate; None outside."""
    points = list(zip(curve["bpp"], curve[key]))
    for (r0, v0), (r1, v1) in zip(points, points[1:]):
        if r0 <= bpp <= r1:
            return v0 + (v1 - v0) * math.log(bpp / r0) / math.log(r1 / r0)
    return None


def rate_distortion(name, means, anchors):
    """The chart of PSNR and MS-SSIM against rate."""
    panels = []
    for title, key, f, unit in (("PSNR", "psnr_rgb", float, "dB, RGB"), ("MS-SSIM", "ms_ssim", ssim_db, "dB, -10 log10(1 - MS-SSIM)")):
        own = [(m["bpp"], f(m[key])) for m in means]
        curves = [(name, own, True)] + [(n, [(b, f(v)) for b, v in zip(c["bpp"], c[key])], False) for n, c in anchors.items() if key in c]
        x1 = 1.2 * max(x for x, _ in own)
        ys = [y for _, c, _ in curves for x, y in c if x <= x1]
        panels.append(plot.chart(f"Kodak, {title}", "bits per pixel", unit, curves, (0, x1), (min(ys) - 0.5, max(ys) + 0.5),
                                 len(panels) * plot.WIDTH))
    return plot.document(panels)


def table(means, anchors):
    """Markdown: measured points, and what each anchor has at the same rate."""
    rows = ["| q | bpp | PSNR, dB | MS-SSIM | " + " | ".join(f"{n}, dB" for n in anchors) + " |", "|---" * (4 + len(anchors)) + "|"]
    for m in means:
        there = (at_rate(c, m["bpp"], "psnr_rgb") for c in anchors.values())
        cells = ["" if v is None else f"{v:.2f}" for v in there]
        rows.append(f"| {m['percent']:g} | {m['bpp']:.4f} | {m['psnr_rgb']:.2f} | {m['ms_ssim']:.4f} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def monotone(means):
    """What of `bits and quality grow with q` does not hold."""
    return [f"q {a['percent']:g} to {b['percent']:g}: {k} falls" for a, b in zip(means, means[1:])
            for k in ("bpp", "psnr_rgb", "ms_ssim") if b[k] <= a[k]]


def figures(report, anchors):
    means = sorted(report["means"], key=lambda m: m["percent"])
    bd = "; ".join(f"{b['anchor']} {b['percent']:+.1f} %" for b in report["bd_rates"] if b["percent"] is not None)
    ratios = [math.log(b["bpp"] / a["bpp"]) for a, b in zip(means, means[1:])]
    even = f"Bits grow by a factor of {math.exp(min(ratios)):.2f} to {math.exp(max(ratios)):.2f} per step of q."
    wrong = monotone(means)
    order = "Bits, PSNR and MS-SSIM grow with every step of q." if not wrong else "Not monotone: " + "; ".join(wrong) + "."
    return "\n\n".join(t for t in (
        f"Model {report['model']['id']}, {len(report['images'])} Kodak images, means; streams decoded before measuring. The last columns say "
        "what PSNR each anchor has at the same rate (empty: outside its published points).",
        table(means, anchors), f"{order} {even}", f"BD-rate (PSNR) against {bd}." if bd else "",
        "![PSNR and MS-SSIM against rate](rate-distortion.svg)") if t)


def with_figures(card, text):
    """The text of a card with other figures between its marks."""
    before, _, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"there is no {BEGIN} with {END} after it, between which the figures go")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def loss_rows(paths):
    """[role, step, loss] of training logs by step, which a resumed run counts on."""
    rows = [json.loads(line) for p in paths for line in pathlib.Path(p).read_text().splitlines()]
    return [[r["role"], r["step"], r["loss"]] for r in sorted(rows, key=lambda r: r["step"])]


def smooth(points, n=11):
    """Mean of n neighbours, fewer at the ends: one row sees few photographs."""
    near = [points[max(0, i - n // 2):i + n // 2 + 1] for i in range(len(points))]
    return [(x, sum(y for _, y in w) / len(w)) for (x, _), w in zip(points, near)]


def loss_chart(rows):
    curves = [(role, smooth([(s, l) for r, s, l in rows if r == role]), False) for role in sorted({r for r, _, _ in rows})]
    losses = [l for _, c, _ in curves for _, l in c]
    top = max(s for _, s, _ in rows)
    return plot.document([plot.chart("Training loss", "steps, all workers", "loss", curves, (0, top), (min(losses) * 0.9, max(losses) * 1.05))])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("eval")
    a.add_argument("model", help="folder of the model card")
    a.add_argument("--logs", nargs="*", default=[])
    a = a.parse_args()
    report = json.loads(pathlib.Path(a.eval).read_text())
    anchors = json.loads(ANCHORS.read_text())["codecs"]
    folder = pathlib.Path(a.model)
    card = folder / "README.md"
    try:
        card.write_text(with_figures(card.read_text(), figures(report, anchors)))
    except (OSError, ValueError) as e:
        sys.exit(f"report: {card}: {e}")
    means = sorted(report["means"], key=lambda m: m["percent"])
    (folder / "rate-distortion.svg").write_text(rate_distortion(report["model"]["name"], means, anchors))
    if a.logs:
        rows = loss_rows(a.logs)
        (folder / "loss.json").write_text(json.dumps(rows))
        (folder / "loss.svg").write_text(loss_chart(rows))


if __name__ == "__main__":
    main()
