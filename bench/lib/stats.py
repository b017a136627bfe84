# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Medians and spreads. A machine's noise comes in bursts, so a ratio is taken within a round, from
slices that lie next to each other, and the median of the rounds' ratios is what counts."""
import statistics


def summary(values, digits=3):
    """The median, the quartiles and the number of rounds, as stored in results.json."""
    values = sorted(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (
        values * 3)
    return {"median": round(statistics.median(values), digits), "q1": round(low, digits),
            "q3": round(high, digits), "rounds": len(values)}


def goal(name, value, limit, at_most=True, unit=""):
    """A figure to reach and whether it was."""
    return {"name": name, "value": value, "limit": limit, "at_most": at_most, "unit": unit,
            "met": value <= limit if at_most else value >= limit}
