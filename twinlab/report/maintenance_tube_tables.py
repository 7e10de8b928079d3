"""Steps, tables and words of the tube's twin that a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from twinlab import study
from twinlab.kernels import wear_days
from twinlab.maintenance import drift, online, telemetry, wear
from twinlab.report.maintenance_tube import CAUSES, QC, WEAR
from twinlab.schema import label, refuse

DAY = np.timedelta64(1, "D")
SHARES = {
    "thinning": wear_days.THINNING,
    "bearing wear": wear_days.BEARING,
    "roughening": wear_days.ROUGHENING,
}


class Log(NamedTuple):
    """A scanner's log, and the truth behind it where it was simulated.

    Attributes
    ----------
    telemetry : Dataset, dim scan
    state : Dataset or None
        Hidden wear by day.
    words : str
        What was read or simulated.
    """

    telemetry: xr.Dataset
    state: xr.Dataset | None
    words: str


def clinic_of(key: str, shares: Mapping[str, float]) -> wear.Clinic:
    """A clinic with other shares of its exams; all exams as declared if none is named.

    Raises
    ------
    InputError
        Shares of exams that the clinic does not do, or none above 0.
    """
    place = wear.load_clinic(key)
    if not shares:
        return place
    known = {exam.protocol: exam for exam in place.exams}
    unknown = sorted(set(shares) - set(known))
    if unknown or not all(share >= 0 for share in shares.values()) or not sum(shares.values()) > 0:
        refuse("shares of exams", f"shares above 0 of {', '.join(known)}", dict(shares))
    chosen = [known[name].model_copy(update={"share": share}) for name, share in shares.items() if share > 0]
    return place.with_exams(*chosen)


def observe(
    path: str,
    *,
    scanner: str,
    clinic: wear.Clinic,
    exams_per_day: float,
    days: int,
    seed: int,
    beyond_days: int = 3000,
) -> Log:
    """The user's telemetry (one scanner of it), or the first days of a simulated scanner's first tube.

    The truth behind a simulated log goes on for ``beyond_days`` or until the tube ends.

    Raises
    ------
    InputError
        Files that cannot be read, several scanners and none named, or a workload that cannot be.
    """
    if path:
        reading = telemetry.read_telemetry(path)
        scans = reading.scans
        if scanner:
            scans = scans.isel(scan=scans["scanner"].to_numpy() == scanner)
        return Log(scans, None, reading.report)
    plan = wear.workload(
        clinic, days=days + beyond_days, exams_per_day=exams_per_day, seed=seed, scanner=scanner or "CT-1"
    )
    seen, state = wear.simulate_scanner(plan, seed=seed)
    first = seen["tube"].to_numpy()[0]
    ended = np.flatnonzero(state["tube"].to_numpy() != first)
    if ended.size:
        state = state.isel(day=slice(0, int(ended[0])))
    start = np.datetime64(str(plan.attrs["start"]), "D")
    known = (seen["tube"].to_numpy() == first) & (seen["time"].to_numpy() < start + days * DAY)
    last = min(days, state.sizes["day"])
    count = int(known.sum())
    words = f"Simulated: {count:,} exposures of a scanner's first tube in its first {last} days are followed."
    return Log(seen.isel(scan=known), state, words)


def failed_day(log: Log) -> float | None:
    """Day on which the followed tube will have failed, if it is known."""
    if log.state is None or str(log.state["failed"][-1].item()) not in (
        "filament",
        "bearing",
        "track",
        "arcing",
    ):
        return None
    return float(log.state["day"][-1])


def busiest_day(scans: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Heat of the day with most energy, by the model of the median tube from cold: course, and the day's log."""
    date = scans["time"].to_numpy().astype("datetime64[D]")
    days, which = np.unique(date, return_inverse=True)
    energy = (scans["kv"] * scans["tube_current_ma"] * scans["exposure_s"]).to_numpy()
    best = int(np.argmax(np.bincount(which, weights=energy)))
    own = scans.isel(scan=which == best)
    end = (own["time"].to_numpy() - days[best]) / np.timedelta64(1, "s")
    seconds = own["exposure_s"].to_numpy()
    pause = np.maximum(end[1:] - seconds[1:] - end[:-1], 0.01)
    power = (own["kv"] * own["tube_current_ma"]).to_numpy()
    segments = [(power[0], seconds[0])]
    for k in range(1, end.size):
        segments += [(0.0, pause[k - 1]), (power[k], seconds[k])]
    course = wear.heat_curve([*segments, (0.0, 7200.0)], every_s=30.0)
    hour = (end[0] - seconds[0] + course["time_s"].to_numpy()) / 3600.0
    tube, rest = wear.load_tube_wear().median()[0], wear.load_scanner_wear().median()[0]
    anode = rest["room_c"] + 1000.0 * own["anode_heat_kj"].to_numpy() / tube["anode_j_k"]
    shown = xr.Dataset(
        {
            "anode_temperature_c": ("scan", anode),
            "oil_temperature_c": ("scan", own["oil_temperature_c"].to_numpy()),
            "hour": ("scan", end / 3600.0),
        },
        attrs={"date": str(days[best])},
    )
    return course.assign(hour=("time_s", hour)), shown


def limits() -> dict[str, float]:
    """Temperatures at which the generator waits, degC."""
    tube = wear.load_tube_wear().median()[0]
    return {"track": float(tube["track_limit_c"]), "oil": float(tube["oil_limit_c"])}


def heat_words(course: xr.Dataset, shown: xr.Dataset) -> str:
    """A busy day in one sentence."""
    most = float(course["given_j"][-1]) / 1e6
    peak = {part: float(course[f"{part}_temperature_c"].max()) for part in ("track", "anode", "housing")}
    return (
        f"On {shown.attrs['date']}, the busiest day, {most:.0f} MJ went into the tube: the focal spot reached "
        f"{peak['track']:.0f} °C, the anode {peak['anode']:.0f} °C and the housing {peak['housing']:.0f} °C."
    )


def energy_gap(course: xr.Dataset) -> float:
    """Heat given less stored and cooled, over the heat given."""
    gap = course["given_j"] - course["stored_j"] - course["cooled_j"]
    return float(abs(gap[-1]) / course["given_j"][-1])


def interval_words(followed: xr.Dataset) -> str:
    """How the interval of remaining life has narrowed."""
    q = followed["remaining_days"]
    width = (q.isel(quantile=-1) - q.isel(quantile=0)).to_numpy()
    last, day = q.isel(day=-1).to_numpy(), int(followed["day"][-1])
    return (
        f"The 90 % interval was {width[0]:.0f} days wide on the first day and is {width[-1]:.0f} on day {day}: "
        f"{last[0]:.0f} to {last[-1]:.0f} days left, median {last[2]:.0f}."
    )


def state_rows(followed: xr.Dataset, state: xr.Dataset | None) -> list[dict[str, Any]]:
    """Wear on the last day: followed, with its interval, and the truth where it is known."""
    rows = []
    now = followed.isel(day=-1)
    for name, (title, truth, factor) in WEAR.items():
        mean, half = float(now[name]) * factor, 1.645 * float(now[f"{name}_sd"]) * factor
        row: dict[str, Any] = {"wear": title, "followed": mean, "5 %": mean - half, "95 %": mean + half}
        if state is not None:
            row["simulated truth"] = float(state[truth].sel(day=int(now["day"]))) * factor
        rows.append(row)
    return rows


def surprise(followed: xr.Dataset) -> dict[str, float]:
    """Root mean square of each sensor's departure from what was expected, in standard deviations."""
    z = (followed["sensor_value"] - followed["sensor_expected"]) / followed["sensor_expected_sd"]
    return {str(s): float(np.sqrt((z.sel(sensor=s) ** 2).mean())) for s in z["sensor"].values}


def sensor_words(followed: xr.Dataset) -> str:
    """How well the sensors came as expected."""
    known = [
        f"{name.replace('_', ' ')} {value:.2f}"
        for name, value in surprise(followed).items()
        if value == value
    ]
    return f"Departures from what was expected, root mean square in standard deviations: {', '.join(known)}."


def mix_rows(twin: online.Follower, model: online.TubeModel, other: online.TubeModel) -> list[dict[str, Any]]:
    """Wear a scan-second of a median tube under both mixes, and the followed tube's life under each."""
    seconds = model.plan[wear_days.SECONDS], other.plan[wear_days.SECONDS]
    rows: list[dict[str, Any]] = [
        {"quantity": "scan-seconds a day", "usual mix": f"{seconds[0]:.0f}", "other mix": f"{seconds[1]:.0f}"}
    ]
    for name, column in SHARES.items():
        ratio = (other.plan[column] / seconds[1]) / (model.plan[column] / seconds[0])
        rows.append(
            {"quantity": f"{name} a scan-second, usual = 1", "usual mix": "1.00", "other mix": f"{ratio:.2f}"}
        )
    said = [_said(twin.foresee(m)) for m in (model, other)]
    rows.append({"quantity": "days left, median (90 % interval)", "usual mix": said[0], "other mix": said[1]})
    return rows


def _said(ahead: xr.Dataset) -> str:
    low, *_, high = (float(v) for v in ahead["remaining_days"][0])
    return f"{float(ahead['remaining_days'].sel(quantile=0.5)[0]):.0f} ({low:.0f} to {high:.0f})"


def mix_words(twin: online.Follower, model: online.TubeModel, other: online.TubeModel) -> str:
    """The other mix in one sentence."""
    usual, changed = (twin.foresee(m)["remaining_days"].sel(quantile=0.5).item() for m in (model, other))
    return (
        f"From now on under the other mix the tube would last {changed:.0f} days instead of {usual:.0f} "
        f"({100 * (changed / max(usual, 1e-9) - 1):+.0f} %)."
    )


def check_plan(last_day: int, *, baseline_days: int, later_days: int) -> list[int]:
    """Days to be scanned: a baseline from the first day on, then evenly to the last."""
    start = min(baseline_days, last_day)
    later = np.linspace(start, last_day, later_days + 1)[1:].astype(int)
    return [*range(start), *dict.fromkeys(int(d) for d in later if d >= start)]


def worn_effects(log: Log, followed: xr.Dataset, days: list[int], protocol: Any) -> list[xr.Dataset]:
    """Effects on images: of the simulated scanner, or of the tube as it was followed."""
    if log.state is not None:
        return study.worn_days(log.state, days, protocol)
    tube = wear.load_tube_wear().median()[0]
    effects = []
    for day in days:
        now = followed.sel(day=day, method="nearest")
        spot = 1.0 + tube["spot_loss_growth"] * float(now["mass_loss_followed"]) / 0.1
        spot += tube["spot_wobble"] * float(now["bearing_wear_followed"]) ** 2
        fields = {
            "output_factor": label("output_factor", float(now["output_followed"])),
            "focal_spot_factor": label("focal_spot_factor", [spot]).isel(day=0),
        }
        effects.append(xr.Dataset(fields, attrs={"day": day}))
    return effects


def charts(values: xr.Dataset, *, last_day: int) -> dict[str, xr.Dataset]:
    """Cumulative sums of daily values against the baseline; a value without a usable baseline has none."""
    found = {}
    for name in QC:
        if float(values[name].std()) > 0.0:
            limits = drift.baseline(values[name], last_day=last_day, autocorrelation="residuals")
            found[name] = drift.cusum(values[name], limits)
    return found


def check_words(values: xr.Dataset, found: Mapping[str, xr.Dataset], *, baseline_days: int) -> str:
    """Which daily value tells first, and which none."""
    first = {name: drift.first_alarm(chart, after=baseline_days) for name, chart in found.items()}
    told = sorted((day, name) for name, day in first.items() if np.isfinite(day))
    if not told:
        return "No daily value leaves its baseline: this wear does not show in the daily check."
    words = ", ".join(f"{_quantity(name)} on day {day:.0f}" for day, name in told)
    quiet = [_quantity(name) for name, day in first.items() if not np.isfinite(day)]
    return f"First alarms: {words}." + (f" None from {', '.join(quiet)}." if quiet else "")


def image_rows(effects: xr.Dataset, protocol: Any, *, seed: int) -> list[dict[str, Any]]:
    """What the last day's wear changes in the image: of the tube alone, and of the whole scanner."""
    new = xr.Dataset(attrs={"day": -2})
    alone = effects.drop_vars(["channel_gain", "dead_cell", "cell_axis"], errors="ignore").assign_attrs(
        day=-1
    )
    found = study.check_days(
        [new, alone, effects], protocol=protocol, repeats=4, seed=seed, common_noise=True, calibration="none"
    )
    rows = []
    for name, title in QC.items():
        v = found[name].to_numpy()
        row = {"value": title, "new": v[0], "worn tube": v[1], "worn tube and detector": v[2]}
        rows.append({**row, "uncertainty": float(found[f"{name}_sd"][0])})
    return rows


def coverage_rows(found: xr.Dataset) -> list[dict[str, Any]]:
    """Coverage by age of the tubes."""
    return [
        {
            "age [days of quick wear]": int(s["age"]),
            "tubes at work": int(s["judged"]),
            "90 % interval holds": f"{100 * float(s['coverage']):.0f} ± {100 * float(s['coverage_sd']):.0f} %",
            "width, median [d]": float(s["interval_width"]),
        }
        for s in (found.isel(stage=k) for k in range(found.sizes["stage"]))
    ]


def pooled(found: xr.Dataset) -> tuple[float, float]:
    """Share of intervals that hold over all ages, and its uncertainty if ages of a tube told the same."""
    judged = found["judged"].to_numpy()
    share = float((found["coverage"].to_numpy() * judged).sum() / judged.sum())
    return share, float(np.sqrt(0.9 * 0.1 / judged.max()))


def headline(followed: xr.Dataset, log: Log) -> str:
    """The answer."""
    now = followed.isel(day=-1)
    low, _, middle, _, high = (float(v) for v in now["remaining_days"])
    cause = str(now["cause"].values[int(np.argmax(now["failure_share"].to_numpy()))])
    truth = failed_day(log)
    end = "" if truth is None else f" (truth: {truth - float(now['day']):.0f})"
    share, worn = 100 * float(now["failure_share"].max()), 100 * float(now["mass_loss_followed"])
    return (
        f"After {int(now['day']) + 1} days and {float(now['exposure_seconds']) / 1e6:.2f} million scan-seconds the "
        f"tube has lost {worn:.1f} % of its filament and {100 * (1 - float(now['output_followed'])):.1f} % of its "
        f"output; 90 %: {low:.0f} to {high:.0f} days left, median {middle:.0f}{end}; most likely its end: "
        f"{CAUSES[cause]} ({share:.0f} %)."
    )


def sources() -> list[Any]:
    """Parameters of tube and scanner, with where they come from."""
    return [wear.load_tube_wear(), wear.load_scanner_wear()]


def _quantity(name: str) -> str:
    """A daily value's name inside a sentence: its abbreviations stay as they are."""
    first, *rest = QC[name].split(" [")[0].split(" ")
    return " ".join([first if first.isupper() else first.lower(), *rest])
