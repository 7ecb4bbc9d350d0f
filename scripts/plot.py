"""Plots with logarithmic axes, drawn by gnuplot."""

import subprocess

WIDTH, HEIGHT = 560, 380  # of a panel, in pixels
BINARY, DECIMAL = (8, "%.0b%B"), (10, "10^{%L}")  # base of the tics, and how they are written


class Panel:
    """One diagram. lines: {name: [(x, y), ...]}; dashed: names of lines that are."""

    def __init__(self, title, xlabel, ylabel, lines, xtics=DECIMAL, dashed=()):
        self.title, self.xlabel, self.ylabel, self.xtics, self.dashed = title, xlabel, ylabel, xtics, dashed
        self.lines = {name: points for name, points in lines.items() if points}

    def values(self):
        return [y for points in self.lines.values() for _, y in points]

    def commands(self, styles, yrange):
        base, form = self.xtics
        yield f'set title "{self.title}" noenhanced; set xlabel "{self.xlabel}" noenhanced'
        yield f'set ylabel "{self.ylabel}" noenhanced'
        yield f'unset logscale; set logscale x {base}; set logscale y; set format x "{form}"'
        yield "set yrange [{}:{}]".format(*yrange)
        for n, points in enumerate(self.lines.values()):
            yield from (f"$line{n} << END", *(f"{x} {y}" for x, y in points), "END")
        yield "plot " + ", ".join(
            f'$line{n} with linespoints linetype {styles[name]} pointtype 7 pointsize 0.4 '
            f'dashtype {2 if name in self.dashed else 1} title "{name}" noenhanced' for n, name in enumerate(self.lines))


def write(path, title, rows):
    """ROWS of panels, as SVG, into the file PATH; a name has one colour everywhere, and what one ylabel says one scale."""
    panels = [panel for row in rows for panel in row]
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    styles = {name: i + 1 for i, name in enumerate(names)}
    values = {label: [y for panel in panels if panel.ylabel == label for y in panel.values()]
              for label in {panel.ylabel for panel in panels}}
    ranges = {label: (min(ys) / 2, max(ys) * 2) for label, ys in values.items()}
    columns = max(len(row) for row in rows)
    script = [f'set terminal svg size {WIDTH * columns},{HEIGHT * len(rows) + 40} background "white" font "sans,11"',
              f'set output "{path}"', f'set multiplot layout {len(rows)},{columns} title "{title}" noenhanced font "sans,16"',
              'set format y "10^{%L}"; set grid',
              "set key at graph 0.02,0.98 left top reverse Left"]
    for panel in panels:
        script += panel.commands(styles, ranges[panel.ylabel])
    script.append("unset multiplot")
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)
