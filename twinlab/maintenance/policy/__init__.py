"""When to replace: age, condition and prediction compared on a fleet, in hours and money."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "priors": ["Fleet", "load_fleet"],
        "renewal": [
            "age_cost",
            "best_age",
            "best_age_interval",
            "block_cost",
            "break_even_failure_cost",
            "expected_failures",
            "mean_life_to",
        ],
        "money": ["break_even_day", "compare", "costs", "return_on_fee"],
        "stock": ["spare_stock"],
        "tuning": ["cost_against_threshold", "hours_against_stock"],
        "from_wear": ["exams_ratio", "filament_noise", "fleet_from_wear", "lognormal_lives"],
        "simulation": ["Policy", "RUN", "simulate_fleet"],
        "learning": ["Learnt", "learn", "learn_indicators", "unit_history"],
        "forecasts": ["forecast_coverage", "forecasts"],
        "sensitivity": ["all_priors", "tornado", "varying"],
        "rules": ["age_policy", "all_policies", "calendar_policy", "condition_policy", "predictive_policy"],
    },
)
