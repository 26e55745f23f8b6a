"""The figures, for people: a table in Markdown, and a plot of how it grows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import machine
from bench.results import Figure

OURS: Final = "tailrace"


def table(figures: list[Figure]) -> str:
    """A row for each figure; beside it, how many times as good ours is."""
    rows = ["| work | system | figure | value | ours is |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.work, figure.what), []).append(figure)
    for group in groups.values():
        ours = next((each.value for each in group if each.system == OURS), None)
        for each in group:
            rows.append(f"| {each.work} | {each.system} | {each.what} | {said(each.value)} | {ratio(ours, each)} |")
    return "\n".join(rows)


def ratio(ours: float | None, other: Figure) -> str:
    """`2.0 ×` as good: as much more, or as much less where less is better."""
    if ours is None or other.system == OURS or not ours or not other.value:
        return ""
    return f"{other.value / ours if other.less else ours / other.value:,.1f} ×"


def said(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def write(folder: Path, figures: list[Figure], runs: int, made_of: dict[str, str], skipped: dict[str, str]) -> None:
    """`figures.md` in this folder: the machine, the versions, and the table."""
    times = "one run" if runs == 1 else f"medians of {runs} runs"
    lines = [
        "# Figures",
        "",
        "Written by `make bench`; docs/performance.md says what they mean. Everything on one machine and on loopback:",
        "ratios hold, absolute numbers are that machine's.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · {machine.description()} · {times}",
        "",
        *(f"- {name}: {version}" for name, version in made_of.items()),
        *(f"- {name}: not measured, it is not installed ({missing})" for name, missing in skipped.items()),
        "",
        table(figures),
        "",
    ]
    (folder / "figures.md").write_text("\n".join(lines))


def plot(file: Path, growth: dict[str, list[tuple[int, float]]]) -> None:
    """Seconds against the amount of work, both logarithmic: a curve no steeper than the dotted lines is linear."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(7, 4.5), layout="constrained")
    axes = drawing.subplots()
    for name, points in growth.items():
        amounts, seconds = zip(*points, strict=True)
        (line,) = axes.loglog(amounts, seconds, marker="o", label=name)
        linear = [seconds[-1] * amount / amounts[-1] for amount in amounts]
        axes.loglog(amounts, linear, linestyle=":", linewidth=1, color=line.get_color())
    axes.set_xlabel("amount of work: chunks, readers, streams")
    axes.set_ylabel("seconds")
    axes.legend(fontsize="small")
    axes.grid(visible=True, which="major", alpha=0.3)
    drawing.savefig(file)
