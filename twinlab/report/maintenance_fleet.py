"""Figures of a fleet's maintenance: survival, cost, downtime by policy, tornado, spares, a watched unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from twinlab.maintenance import policy, survival
from twinlab.report.style import COLOURS, MARKERS, Plot, axes

YEAR = 365.25


def survival_curves(learnt: policy.Learnt) -> Plot:
    """Kaplan-Meier curves of parts with 95 % bands and numbers at risk, and the Weibull laws fitted to them."""
    parts = list(learnt.lives)
    plot, ax = axes(1, len(parts), width_in=9.4, height_in=3.1, sharey=True)
    for panel, colour, part in zip(ax[0], COLOURS, parts, strict=False):
        curve = survival.kaplan_meier(learnt.lives[part])
        years = curve.age.to_numpy() / YEAR
        panel.fill_between(
            years,
            curve.survival_low,
            curve.survival_high,
            step="post",
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        panel.step(years, curve.survival, where="post", color=colour)
        ages = np.linspace(0, 10, 101)
        law = learnt.laws[part].survival(np.maximum(ages, 1e-6) * YEAR)
        panel.plot(ages, law, color="#27313d", linestyle="--", linewidth=1.0)
        ticks = np.arange(0, 11, 2)
        watched = [int((learnt.lives[part].life_days.to_numpy() / YEAR >= t).sum()) for t in ticks]
        panel.set_xticks(ticks, [f"{t}\n{n}" for t, n in zip(ticks, watched, strict=True)])
        panel.set(title=words(part), xlim=(0, 10), ylim=(0, 1.02))
    ax[0, 0].set_ylabel("Share that works")
    plot.supxlabel("Age, years of use; below: parts watched to that age", fontsize=9)
    return plot.say(
        f"Kaplan-Meier curves with 95 % bands and dashed Weibull laws of {', '.join(map(words, parts))}."
    )


def age_costs(learnt: policy.Learnt) -> Plot:
    """Cost in the long run against the age of planned replacement, over that of run to failure."""
    plot, ax = axes(1, 1, width_in=5.6, height_in=3.2)
    panel = ax[0, 0]
    years = np.linspace(0.5, 12, 200)
    for colour, (part, law) in zip(COLOURS, learnt.laws.items(), strict=False):
        at = learnt.events.sel(part=part)
        spent = {"planned_cost": float(at.planned_cost), "failure_cost": float(at.failure_cost)}
        rate = policy.age_cost(years * YEAR, shape=law.shape, scale_days=law.scale_days(), **spent)
        base = float(at.failure_cost_rate)
        panel.plot(years, rate / base, color=colour, label=words(part))
        best = float(at.replacement_age) / YEAR
        if best < years[-1]:
            panel.plot(best, float(at.replacement_cost_rate) / base, "o", color=colour, markersize=6)
    panel.axhline(1.0, color="#8a96a3", linewidth=0.8)
    panel.set(
        xlabel="Age of planned replacement, years of use",
        ylabel="Cost over run to failure",
        ylim=(0.75, 2.0),
        xlim=(0, 12),
    )
    panel.legend()
    return plot.say("Cost against age of planned replacement for each part; dots mark the least cost.")


def threshold_costs(tables: Mapping[str, xr.Dataset]) -> Plot:
    """Cost and unplanned hours against the threshold of each policy."""
    plot, ax = axes(1, len(tables), width_in=8.6, height_in=3.1)
    names = {"condition": "Indicator over its level at failure", "predictive": "Probability of failure"}
    for panel, (kind, table) in zip(ax[0], tables.items(), strict=True):
        x, cost = table.threshold.to_numpy(), table.threshold_cost.to_numpy() / 1000
        panel.errorbar(
            x,
            cost,
            yerr=1.96 * table.threshold_cost_se.to_numpy() / 1000,
            color=COLOURS[0],
            marker="o",
            markersize=4,
            linewidth=1.3,
        )
        best = table.attrs["best"]
        panel.axvline(best, color=COLOURS[0], linewidth=0.8, linestyle=":")
        hours = panel.twinx()
        hours.plot(x, table.threshold_hours, color=COLOURS[1], marker="s", markersize=4, linewidth=1.3)
        hours.set_ylabel("Unplanned hours [h/a]", color=COLOURS[1])
        for side, spine in hours.spines.items():
            spine.set_visible(side == "right")
            spine.set_color("#8a96a3")
        hours.tick_params(colors="#5b6776")
        hours.grid(visible=False)
        hours.set_ylim(0, None)
        panel.set_ylabel("Cost [1,000 USD/a]", color=COLOURS[0])
        panel.set(xlabel=names.get(kind, "Threshold"), title=f"{words(kind)}: least cost at {best:g}")
        if kind == "predictive":
            panel.set_xscale("log")
            panel.set_xticks([0.01, 0.03, 0.1, 0.3, 1], ["1 %", "3 %", "10 %", "30 %", "100 %"])
            panel.minorticks_off()
    return plot.say(
        f"Cost (blue, 95 % bars) and unplanned hours (orange) against the threshold: {', '.join(tables)}."
    )


def downtime(result: xr.Dataset, against: Sequence[str] = ("run to failure", "optimal age")) -> Plot:
    """Clinic hours lost by policy, and the reduction against others with paired 95 % intervals."""
    names = [str(n) for n in result.policy.values]
    plot, ax = axes(1, 1 + len(against), width_in=9.4, height_in=0.42 * len(names) + 1.5, sharey=True)
    left = ax[0, 0]
    start = np.zeros(len(names))
    kinds = {"wear_hours": "wear", "other_hours": "without wear", "planned_hours": "planned"}
    shades = (COLOURS[1], "#c9d1da", COLOURS[2])
    for colour, (name, what) in zip(shades, kinds.items(), strict=True):
        mean = result[name].mean("seed").to_numpy()
        left.barh(range(len(names)), mean, left=start, color=colour, label=what, height=0.62)
        start = start + mean
    left.set_yticks(range(len(names)), [words(n) for n in names])
    left.invert_yaxis()
    left.grid(visible=False, axis="y")
    left.set(xlabel="Clinic hours lost, a scanner and year [h]")
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=0.9)
    for panel, base in zip(ax[0, 1:], against, strict=True):
        table = policy.compare(result, ["unplanned_hours"], against=base).isel(quantity=0)
        _interval_rows(panel, table, [n for n in names if n != base], names)
        panel.set(xlabel=f"Less unplanned down time than\n{base} [%]")
    return plot.say(
        f"Clinic hours lost by policy; reduction against {' and '.join(against)} with paired 95 % intervals."
    )


def _interval_rows(panel: Axes, table: xr.Dataset, shown: Sequence[str], names: Sequence[str]) -> None:
    panel.axvline(0.0, color="#8a96a3", linewidth=0.8)
    panel.grid(visible=False, axis="y")
    for name in shown:
        row, at = table.sel(policy=name), list(names).index(name)
        mean = float(row.reduction)
        panel.plot([row.reduction_p05, row.reduction_p95], [at, at], color="#b8c2cd", linewidth=5)
        panel.plot([row.reduction_low, row.reduction_high], [at, at], color=COLOURS[0], linewidth=2.2)
        panel.plot(mean, at, "o", color=COLOURS[0], markersize=4)
        end = max(float(row.reduction_p95), float(row.reduction_high))
        panel.annotate(f"{mean:.0f} %", (end, at), (6, 0), textcoords="offset points", va="center")
    panel.margins(x=0.22)


def tornado(
    worlds: xr.Dataset, draws: xr.Dataset | None = None, *, most: int = 14, wanted: float = 32.0
) -> Plot:
    """Reduction of unplanned hours with each prior at its ends, and with all drawn at once."""
    shown = worlds.isel(prior=slice(0, most))
    count = shown.sizes["prior"]
    both = draws is not None
    plot, ax = axes(
        1, 1 + both, width_in=9.4 if both else 6.4, height_in=0.27 * count + 1.2,
        gridspec_kw={"width_ratios": [1.9, 1][: 1 + both]},
    )  # fmt: skip
    panel = ax[0, 0]
    base = worlds.attrs["reduction"]
    for at in range(count):
        for end, colour in (("low", COLOURS[4]), ("high", COLOURS[5])):
            value = float(shown.world_reduction.isel(prior=at).sel(end=end))
            if np.isfinite(value):
                panel.barh(at, value - base, left=base, color=colour, height=0.66)
    panel.axvline(base, color="#27313d", linewidth=0.9)
    panel.axvline(wanted, color="#8a96a3", linewidth=0.9, linestyle=":")
    panel.set_yticks(range(count), [place(str(p)) for p in shown.prior.values], fontsize=8)
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    panel.set(xlabel="Less unplanned down time than run to failure [%]")
    panel.set_title("One prior at its low (blue) and high end (orange)", fontsize=9.5)
    if draws is not None:
        right = ax[0, 1]
        values = draws.draw_reduction.to_numpy()
        right.step(
            np.sort(values), 100 * np.arange(1, values.size + 1) / values.size, where="post", color=COLOURS[0]
        )
        right.plot(values, np.zeros(values.size), "|", color=COLOURS[0], markersize=9)
        right.axvline(wanted, color="#8a96a3", linewidth=0.9, linestyle=":")
        right.axvline(base, color="#27313d", linewidth=0.9)
        right.set(xlabel="Less unplanned down time [%]", ylabel="Share of worlds below [%]", ylim=(-3, 103))
        right.set_title("All priors drawn at once", fontsize=9.5)
    return plot.say(
        f"Tornado of the {count} widest priors around {base:.0f} %; the dotted line marks {wanted:g} %."
    )


def spares(stock: xr.Dataset) -> Plot:
    """Fill rate against spares, simulated and by Erlang, and lost hours of policies."""
    plot, ax = axes(1, 2, width_in=8.8, height_in=3.2)
    left, right = ax[0]
    first = stock.isel(policy=0)
    for colour, mark, part in zip(COLOURS, MARKERS, stock.part.values, strict=False):
        left.plot(stock.spares, 100 * first.stock_fill_expected.sel(part=part), color=colour, linewidth=1.2)
        left.plot(
            stock.spares,
            100 * first.stock_fill.sel(part=part),
            mark,
            color=colour,
            markersize=5,
            label=words(str(part)),
        )
    left.set(
        xlabel="Spares of each part for the fleet",
        ylabel="Demands met from the shelf [%]",
        title=f"{words(str(first.policy.values))}: marks simulated, lines Erlang",
        ylim=(-3, 104),
    )
    left.legend()
    for colour, mark, name in zip(COLOURS, MARKERS, stock.policy.values, strict=False):
        right.plot(
            stock.spares,
            stock.stock_availability.sel(policy=name),
            color=colour,
            marker=mark,
            markersize=5,
            linewidth=1.2,
            label=words(str(name)),
        )
    right.set(
        xlabel="Spares of each part for the fleet",
        ylabel="Clinic hours not lost to failures [%]",
        title="Availability",
    )
    right.legend()
    for panel in (left, right):
        panel.set_xticks(stock.spares.to_numpy())
    return plot.say("Share of demands met from the shelf, and availability, against the spares of each part.")


def watched_unit(seen: xr.Dataset) -> Plot:
    """The first unit that warned, as the predictive policy sees it: indicator, level, remaining life, intervals."""
    warned = (np.isfinite(seen.life_left) & np.isfinite(seen.life_left_true)).sum("use_day") > 10
    one = seen.isel(unit=int(np.argmax(warned.to_numpy())))
    worked = np.flatnonzero(np.isfinite(one.life_left_true.to_numpy()))
    alarm = np.flatnonzero(np.isfinite(one.life_left.to_numpy()))
    last = int(worked[-1]) + 1
    first = max(0, int(alarm[0]) - max(20, (last - int(alarm[0])) // 3)) if alarm.size else 0
    part = one.isel(use_day=slice(first, last))
    day = part.use_day.to_numpy() - part.use_day.to_numpy()[-1]
    plot, ax = axes(1, 2, width_in=8.8, height_in=3.0)
    left, right = ax[0]
    left.plot(day, part.indicator, ".", color="#9aa5b1", markersize=3, label="indicator of the day")
    level, sd = part.level_estimate.to_numpy(), part.level_sd.to_numpy()
    left.fill_between(day, level - 1.645 * sd, level + 1.645 * sd, color=COLOURS[0], alpha=0.25, linewidth=0)
    left.plot(day, level, color=COLOURS[0], label="level as followed, 90 %")
    left.axhline(1.0, color=COLOURS[1], linewidth=1.0, linestyle=":")
    left.set(xlabel="Days of use before failure", ylabel="Wear (1 is failure)", title="Health")
    left.legend(loc="upper left")
    low, high = part.life_left_low.to_numpy(), part.life_left_high.to_numpy()
    top = 3.0 * max(float(np.nanmax(part.life_left_true)), 1.0)
    right.fill_between(day, low, np.minimum(high, 10 * top), color=COLOURS[0], alpha=0.25, linewidth=0)
    right.plot(day, part.life_left, color=COLOURS[0], label="estimate, 90 %")
    right.plot(
        day, part.life_left_true, color=COLOURS[1], linestyle="--", linewidth=1.0, label="as it came out"
    )
    right.set(
        xlabel="Days of use before failure",
        ylabel="Remaining life [d of use]",
        title="Remaining life",
        ylim=(0, top),
    )
    right.legend(loc="upper right")
    return plot.say(
        f"Indicator, level and remaining life of a unit, {words(seen.attrs['mode'])}, until it fails."
    )


def words(name: str) -> str:
    """A key in words.

    Examples
    --------
    >>> words("slip_ring")
    'Slip ring'
    """
    plain = name.replace("_", " ")
    return plain[:1].upper() + plain[1:]


def place(prior: str) -> str:
    """A prior's place in words.

    Examples
    --------
    >>> place("modes.slip_ring.seen"), place("service.other_hours")
    ('slip ring: seen', 'failures without wear: hours')
    """
    branch, *rest = prior.split(".")
    text = [r.replace("other_", "failures without wear: ").replace("_", " ") for r in rest]
    return f"{text[0]}: {text[1]}" if branch in ("modes", "parts") else text[-1]
