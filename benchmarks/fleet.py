"""Fleet of scanners under five policies: time, downtime with paired intervals, cost.

    python benchmarks/fleet.py [--seeds 50] [--years 3] [--settle 1] [--threads 2]

Times are of one call that simulates all policies, compiled before; the settling year comes on top of the counted ones.
"""

from __future__ import annotations

import argparse
import os
import time


def main() -> None:
    """Print tables."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seeds", type=int, default=50)
    ask.add_argument("--years", type=float, default=3.0)
    ask.add_argument("--settle", type=float, default=1.0)
    ask.add_argument("--threads", type=int, default=2)
    asked = ask.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = str(asked.threads)
    from twinlab.maintenance import policy

    fleet = policy.load_fleet()
    work = time.process_time()
    learnt = policy.learn(fleet)
    print(f"learning, compilation included: {time.process_time() - work:.1f} s of processor")
    tuned = {kind: policy.cost_against_threshold(fleet, learnt, kind) for kind in ("condition", "predictive")}
    best = {kind: table.attrs["best"] for kind, table in tuned.items()}
    rules = policy.all_policies(fleet, learnt, threshold=best["condition"], probability=best["predictive"])
    wall, work = time.perf_counter(), time.process_time()
    result = policy.simulate_fleet(
        fleet, rules, seeds=asked.seeds, years=asked.years, settle_years=asked.settle
    )
    wall, work = time.perf_counter() - wall, time.process_time() - work
    print(
        f"{fleet.scanners} scanners, {asked.years:g} years (and {asked.settle:g} before), {asked.seeds} seeds, "
        f"{len(rules)} policies, {asked.threads} thread(s): {wall:.1f} s wall, {work:.1f} s of processor"
    )
    print(f"thresholds with the least cost on the history: {best}")
    money = policy.costs(result, fleet)
    print(f"{'policy':16} unplanned h/a  by wear  planned  cancelled/a  USD/a")
    for name in result.policy.values:
        at = {"policy": name}
        print(
            f"{name!s:16} {float(result.unplanned_hours.sel(at).mean()):13.2f} "
            f"{float(result.wear_hours.sel(at).mean()):8.2f} {float(result.planned_hours.sel(at).mean()):8.3f} "
            f"{float(money.cancelled_patients.sel(at).mean()):12.1f} {float(money.total_cost.sel(at).mean()):6.0f}"
        )
    for against in ("run to failure", "optimal age"):
        table = policy.compare(result, ["unplanned_hours", "wear_hours"], against=against)
        for quantity in table["quantity"].values:
            print(f"{quantity} against {against}: reduction, % (95 % interval; single fleets, 5 to 95 %)")
            for name in result.policy.values:
                r = table.sel(quantity=quantity, policy=name)
                print(
                    f"  {name!s:16} {float(r.reduction):6.1f} ({float(r.reduction_low):.1f} to "
                    f"{float(r.reduction_high):.1f}; {float(r.reduction_p05):.1f} to {float(r.reduction_p95):.1f})"
                )
    back, even = policy.return_on_fee(money), policy.break_even_day(result, fleet)
    print(
        f"predictive against run to failure: saving {float(back.saving):.0f} USD/a "
        f"({float(back.saving_low):.0f} to {float(back.saving_high):.0f}), return on the fee {float(back.roi):.2f} "
        f"({float(back.roi_low):.2f} to {float(back.roi_high):.2f}); breaks even at "
        f"{float(even.break_even_lost_day):.0f} USD for a lost day "
        f"({float(even.break_even_low):.0f} to {float(even.break_even_high):.0f})"
    )
    for mode in fleet.modes:
        seen = policy.forecasts(fleet, learnt, mode, units=200)
        held = policy.forecast_coverage(seen)
        print(
            f"remaining life, {mode}: 90 % intervals hold in {100 * float(held.coverage.mean()):.0f} % of forecasts "
            f"of {held.attrs['units']} units; width {', '.join(f'{w:.0f}' for w in held.interval_width.values)} d"
        )


if __name__ == "__main__":
    main()
