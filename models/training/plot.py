"""Line charts as SVG, with the standard library only."""
from html import escape

COLORS = ("#c1121f", "#1d3557", "#2a9d8f", "#e09f3e", "#6a4c93", "#8d99ae", "#3a5a40")
WIDTH, HEIGHT = 460, 340
LEFT, TOP, RIGHT, BOTTOM = 52, 30, 12, 44


def ticks(lo, hi, n=6):
    """About n round values within [lo, hi]."""
    raw = (hi - lo) / n
    power = 10 ** len(str(int(raw))) / 10 if raw >= 1 else 1.0
    while power > raw:
        power /= 10
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw)
    first = -(-lo // step)
    return [round((first + i) * step, 10) for i in range(int((hi - first * step) / step + 1e-9) + 1)]


def chart(title, x_name, y_name, curves, x_range, y_range, left=0):
    """One panel at horizontal offset `left`. curves: (name, [(x, y)], marked); points outside the ranges are left out."""
    (x0, x1), (y0, y1) = x_range, y_range
    px = lambda x: left + LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
    py = lambda y: HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
    out = [f'<text x="{left + LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for x in ticks(x0, x1):
        out.append(f'<path d="M{px(x):.1f} {py(y0):.1f}V{py(y1):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    for y in ticks(y0, y1):
        out.append(f'<path d="M{px(x0):.1f} {py(y):.1f}H{px(x1):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left + LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    out.append(f'<text x="{px((x0 + x1) / 2):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    out.append(f'<text transform="translate({left + 13} {py((y0 + y1) / 2):.1f}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>')
    for i, (name, points, marked) in enumerate(curves):
        color = COLORS[i % len(COLORS)]
        seen = [(px(x), py(y)) for x, y in points if x0 <= x <= x1 and y0 <= y <= y1]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in seen)
        out.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="{2.5 if marked else 1.3}"/>' if seen else "")
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in seen if marked]
        y = HEIGHT - BOTTOM - 12 - 15 * (len(curves) - 1 - i)
        out.append(f'<path d="M{left + WIDTH - 128} {y - 4}h18" stroke="{color}" stroke-width="{2.5 if marked else 1.3}"/>')
        out.append(f'<text x="{left + WIDTH - 106}" y="{y}">{escape(name)}</text>')
    return "\n".join(out)


def document(panels):
    """SVG of charts side by side."""
    width = WIDTH * len(panels)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
            f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n")
