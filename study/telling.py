"""Numbers as people read them, on the researcher's pages and in a terminal."""

import math
from datetime import UTC, datetime

THIN = "\N{NARROW NO-BREAK SPACE}"
DASH = "–"


def told_number(number: float | None) -> str:
    """A number of things: 12 345, or 2.5 below ten."""
    if number is None:
        return DASH
    text = f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:,.0f}"
    return text.replace(",", THIN)


def told_share(share: float | None) -> str:
    """A share from 0 to 1 in per cent; never 100 % of what is not whole."""
    if share is None:
        return DASH
    return f"{min(99, round(100 * share)) if share < 1 else 100}{THIN}%"


def told_hours(hours: float | None) -> str:
    """A span of time, to two places at most: 20 min, 3 h 20 min, 2 days 5 h."""
    if hours is None:
        return DASH
    if 0 < hours < 1 / 60:
        return f"less than a{THIN}min"
    minutes = math.ceil(60 * hours)
    days, hour, minute = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days >= 10:
        return f"{days} days"
    if days:
        return f"{days} day{'s' * (days > 1)}" + f" {hour}{THIN}h" * (hour > 0)
    return " ".join(f"{number}{THIN}{unit}" for number, unit in ((hour, "h"), (minute, "min")) if number) or (
        f"0{THIN}min"
    )


def told_seconds(milliseconds: float | None) -> str:
    """A response time in seconds: 0.85 s, 12.3 s."""
    if milliseconds is None:
        return DASH
    return f"{milliseconds / 1000:.{2 if milliseconds < 9995 else 1}f}{THIN}s"


def told_moment(seconds: float | None) -> str:
    """A moment, to the minute, in UTC."""
    return DASH if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
