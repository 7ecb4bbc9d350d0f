"""Plots as SVG, without a library: panels with logarithmic axes."""

import html
import math

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8f5fbf", "#e08e1b", "#555555", "#16a3a3", "#a05a2c")


def decades(values, base):
    """The powers of BASE around VALUES."""
    low = math.floor(math.log(min(values), base) + 1e-9)
    high = math.ceil(math.log(max(values), base) - 1e-9)
    return low, max(high, low + 1)


def bytes_name(value):
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if value >= 1 << shift:
            return f"{value >> shift}{unit}"
    return str(value)


def power_name(value):
    return f"{value:,}" if value < 100000 else f"1e{round(math.log10(value))}"


class Panel:
    """One diagram. lines: {name: [(x, y), ...]}; dashed: names of lines that are."""

    def __init__(self, title, xlabel, ylabel, lines, x_is_bytes=False, dashed=()):
        self.title, self.xlabel, self.ylabel = title, xlabel, ylabel
        self.lines, self.dashed = {name: points for name, points in lines.items() if points}, dashed
        self.x_base, self.x_name = (8, bytes_name) if x_is_bytes else (10, power_name)

    def svg(self, left, top, y_range, colours):
        xs = [x for points in self.lines.values() for x, _ in points]
        self.x_range = decades(xs, self.x_base)
        self.y_range = y_range
        parts = [f'<g transform="translate({left},{top})">', *self.axes()]
        for name, points in self.lines.items():
            at = [(self.x(x), self.y(y)) for x, y in points]
            dash = ' stroke-dasharray="5 3"' if name in self.dashed else ""
            parts.append(f'<polyline fill="none" stroke="{colours[name]}" stroke-width="1.8"{dash} points="'
                         + " ".join(f"{x:.1f},{y:.1f}" for x, y in at) + '"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colours[name]}"/>' for x, y in at]
        return parts + ["</g>"]

    def x(self, value):
        low, high = self.x_range
        return LEFT + (math.log(value, self.x_base) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = self.y_range
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self):
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        yield f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{html.escape(self.title)}</text>'
        for exponent in range(self.y_range[0], self.y_range[1] + 1):
            y = self.y(10.0 ** exponent)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{power_name(10 ** exponent)}</text>'
        for exponent in range(self.x_range[0], self.x_range[1] + 1):
            value = self.x_base ** exponent
            x = self.x(value)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#eee"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{self.x_name(value)}</text>'
        yield (f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" '
               'stroke="#888"/>')
        yield (f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">'
               f'{html.escape(self.xlabel)}</text>')
        middle = (TOP + bottom) / 2
        yield (f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
               f'{html.escape(self.ylabel)}</text>')


def write(path, title, rows):
    """ROWS of panels into the file PATH; a name has one colour everywhere, and all panels one scale of y."""
    panels = [panel for row in rows for panel in row]
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    y_range = decades([y for panel in panels for points in panel.lines.values() for _, y in points], 10)
    width = WIDTH * max(len(row) for row in rows)
    height = 64 + HEIGHT * len(rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
           'font-size="11">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="16" y="24" font-size="17" font-weight="bold">{html.escape(title)}</text>']
    dashed = {name for panel in panels for name in panel.dashed}
    for i, name in enumerate(names):
        x = 16 + i * (width - 32) / len(names)
        dash = ' stroke-dasharray="5 3"' if name in dashed else ""
        out.append(f'<line x1="{x}" y1="46" x2="{x + 26}" y2="46" stroke="{colours[name]}" stroke-width="2.5"{dash}/>'
                   f'<text x="{x + 32}" y="50" font-size="12">{html.escape(name)}</text>')
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            out += panel.svg(c * WIDTH, 64 + r * HEIGHT, y_range, colours)
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
