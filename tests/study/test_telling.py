from typing import Any

import pytest

from study import telling


@pytest.mark.parametrize(
    ("how", "value", "told"),
    [
        ("number", 0, "0"),
        ("number", 2.54, "2.5"),
        ("number", 3, "3"),
        ("number", 12345.6, "12 346"),
        ("number", None, "–"),
        ("share", 0.125, "12 %"),
        ("share", 0.999, "99 %"),
        ("share", 1, "100 %"),
        ("share", None, "–"),
        ("hours", 0.0, "0 min"),
        ("hours", 0.001, "less than a min"),
        ("hours", 1 / 3, "20 min"),
        ("hours", 3.0, "3 h"),
        ("hours", 3 + 1 / 3, "3 h 20 min"),
        ("hours", 24.0, "1 day"),
        ("hours", 53.5, "2 days 5 h"),
        ("hours", 24 * 365, "365 days"),
        ("hours", None, "–"),
        ("seconds", 303, "0.30 s"),
        ("seconds", 9994, "9.99 s"),
        ("seconds", 12345, "12.3 s"),
        ("seconds", None, "–"),
        ("moment", 0, "1970-01-01 00:00"),
        ("moment", None, "–"),
    ],
)
def test_numbers_as_people_read_them(how: str, value: Any, told: str) -> None:
    assert getattr(telling, f"told_{how}")(value).replace(telling.THIN, " ") == told
