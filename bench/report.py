"""What a run has measured: as a table, as JSON, as a plot."""

import html
import statistics

UNITS = {"msg/s": "{:,.0f}", "ms": "{:.2f}", "s": "{:.2f}", "MB": "{:.1f}",
         "MB/s": "{:.0f}", "octets": "{:.0f}", "": "{:.0f}"}


class Samples:
    """One value a round of each (row, metric, agent)."""

    def __init__(self):
        self.values, self.units = {}, {}

    def add(self, row, metric, unit, agent, value):
        self.values.setdefault((row, metric, agent), []).append(value)
        self.units[row, metric] = unit

    def of(self, row, metric, agent):
        return self.values.get((row, metric, agent), [])

    def median(self, row, metric, agent):
        return statistics.median(self.of(row, metric, agent))

    def rows(self):
        return list(dict.fromkeys(row for row, _, _ in self.values))

    def metrics(self, row):
        return list(dict.fromkeys(metric for one, metric, _ in self.values
                                  if one == row))

    def agents(self, row):
        return list(dict.fromkeys(agent for one, _, agent in self.values
                                  if one == row))


class Bar:
    """What must hold: a ratio of each round, at least or at most so much.

    value   of one round's value(metric, agent), which raises KeyError for
            what was not measured
    """

    def __init__(self, row, text, value, least=None, most=None, unit="x"):
        self.row, self.text, self.value = row, text, value
        self.least, self.most, self.unit = least, most, unit

    def reached(self, samples):
        """The median of all rounds, or None."""
        ratios = []
        while True:
            def value(metric, agent, number=len(ratios)):
                values = samples.of(self.row, metric, agent)
                if len(values) <= number:
                    raise KeyError(metric)
                return values[number]
            try:
                ratios.append(self.value(value))
            except KeyError:
                return statistics.median(ratios) if ratios else None

    def holds(self, reached):
        return (self.least is None or reached >= self.least) and \
            (self.most is None or reached <= self.most)

    def wanted(self):
        sign, bound = (">=", self.least) if self.most is None else \
            ("<=", self.most)
        return f"{sign} {bound:g} {self.unit}"


def table(samples, bars):
    """Markdown, which a terminal shows well enough."""
    lines = []
    for row in samples.rows():
        agents = samples.agents(row)
        lines += ["", f"### {row}", "", "| | " + " | ".join(agents) + " |",
                  "|---|" + "---:|" * len(agents)]
        for metric in samples.metrics(row):
            unit = samples.units[row, metric]
            cells = [UNITS[unit].format(samples.median(row, metric, agent))
                     if samples.of(row, metric, agent) else "-"
                     for agent in agents]
            lines.append(f"| {metric}{', ' + unit if unit else ''} | " +
                         " | ".join(cells) + " |")
    lines += ["", "### What must hold", "", "| | wanted | reached | |",
              "|---|---:|---:|---|"]
    for bar in bars:
        reached = bar.reached(samples)
        if reached is not None:
            lines.append(f"| {bar.row}: {bar.text} | {bar.wanted()} | "
                         f"{reached:.3g} {bar.unit} | "
                         f"{'holds' if bar.holds(reached) else 'MISSED'} |")
    return "\n".join(lines[1:]) + "\n"


def as_json(samples, bars, about):
    reached = [(bar, bar.reached(samples)) for bar in bars]
    return {
        **about,
        "samples": [
            {"row": row, "metric": metric, "unit": samples.units[row, metric],
             "agent": agent, "values": values,
             "median": statistics.median(values)}
            for (row, metric, agent), values in samples.values.items()],
        "bars": [
            {"row": bar.row, "text": bar.text, "wanted": bar.wanted(),
             "reached": value, "holds": bar.holds(value)}
            for bar, value in reached if value is not None]}


COLOURS = ("#1b6ca8", "#c0392b", "#e08e45", "#7d8a97", "#6b8e23", "#8e6bbf")
WIDTH, LINE, LEFT = 860, 16, 260


def plot(samples):
    """Each metric's medians as bars beside each other, the longest full."""
    agents = list(dict.fromkeys(agent for _, _, agent in samples.values))
    shapes, y = [], 20

    def text(x, height, words, more=""):
        shapes.append(f'<text x="{x}" y="{height}"{more}>'
                      f"{html.escape(words)}</text>")

    for row in samples.rows():
        text(8, y + 4, row, ' font-weight="bold"')
        y += 12
        for metric in samples.metrics(row):
            unit = samples.units[row, metric]
            medians = {agent: samples.median(row, metric, agent)
                       for agent in agents if samples.of(row, metric, agent)}
            most = max(medians.values()) or 1
            text(8, y + 12, f"{metric}{', ' + unit if unit else ''}")
            for agent, value in medians.items():
                width = value / most * (WIDTH - LEFT - 230)
                colour = COLOURS[agents.index(agent) % len(COLOURS)]
                shapes.append(f'<rect x="{LEFT}" y="{y}" height="{LINE - 3}" '
                              f'width="{width:.1f}" fill="{colour}"/>')
                text(LEFT + width + 5, y + 11,
                     f"{agent} {UNITS[unit].format(value)}")
                y += LINE
            y += 6
        y += 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{y}" font-family="sans-serif" font-size="11">'
            f'<rect width="100%" height="100%" fill="white"/>'
            + "\n".join(shapes) + "</svg>\n")
