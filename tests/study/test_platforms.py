import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.platforms import Arrival, BadLinkError, Farewell, farewell, kiosk_arrival, platform_arrival

PID = "5f3c9a0e7b1d2c4e6f8a9b0c"
SANDBOX = "https://workersandbox.mturk.com"


@pytest.mark.parametrize("case", [str, str.lower, str.upper, str.swapcase])
def test_names_in_any_case_and_values_as_received(case) -> None:
    link = {"PROLIFIC_PID": PID, "STUDY_ID": "MiXed Case &?", "SESSION_ID": "x"}
    found = platform_arrival((case(name), value) for name, value in link.items())
    assert found == Arrival("prolific", PID, link)
    link = {"workerId": "A1B2", "assignmentId": "3X", "hitId": "H", "turkSubmitTo": SANDBOX}
    found = platform_arrival((case(name), value) for name, value in link.items())
    assert found == Arrival("mturk", "A1B2", link)


def test_other_parameters_are_nobodys() -> None:
    assert platform_arrival([("lang", "de"), ("utm_source", "x")]) is None
    assert platform_arrival([]) is None


def test_the_first_of_two_is_taken() -> None:
    found = platform_arrival([("PROLIFIC_PID", PID), ("prolific_pid", "another")])
    assert found
    assert found.platform_id == PID
    assert found.received == {"PROLIFIC_PID": PID}


@pytest.mark.parametrize("worker", [{}, {"workerId": "A1"}])
def test_mturk_preview(worker: dict[str, str]) -> None:
    link = {**worker, "assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE", "hitId": "H"}
    assert platform_arrival(link.items()) == Arrival("mturk", preview=True)


@pytest.mark.parametrize(
    "link",
    [
        {"PROLIFIC_PID": ""},
        {"PROLIFIC_PID": "{{%PROLIFIC_PID%}}"},  # a link in which the platform filled in nothing
        {"PROLIFIC_PID": "a b"},
        {"PROLIFIC_PID": "x" * 101},
        {"PROLIFIC_PID": PID, "SESSION_ID": "x" * 501},
        {"STUDY_ID": "s", "SESSION_ID": "t"},
        {"assignmentId": "3X", "hitId": "H"},
        {"workerId": "Ä"},
    ],
)
def test_a_link_without_an_id_is_refused(link: dict[str, str]) -> None:
    with pytest.raises(BadLinkError):
        platform_arrival(link.items())


def test_kiosk_seats() -> None:
    assert kiosk_arrival("") == Arrival("kiosk")
    assert kiosk_arrival("Room 2, A".replace(",", "")).received == {"seat": "Room 2 A"}
    for seat in ("<b>", "x" * 33, "a\nb"):
        with pytest.raises(BadLinkError):
            kiosk_arrival(seat)


def test_what_the_end_offers() -> None:
    assert farewell("", "finished", "link", {}) == Farewell()
    assert farewell("C123", "finished", "invitation", {}) == Farewell(code="C123")
    elsewhere = farewell("https://panel.example/back?cc=1", "finished", "link", {})
    assert (elsewhere.code, elsewhere.address, elsewhere.host) == (
        "",
        "https://panel.example/back?cc=1",
        "panel.example",
    )
    back = farewell("C123", "screened_out", "prolific", {})
    assert (back.code, back.address) == ("C123", "https://app.prolific.com/submissions/complete?cc=C123")


def test_mturks_form() -> None:
    received = {"workerId": "A1", "assignmentId": "3X", "turkSubmitTo": SANDBOX + "/"}
    end = farewell("C1", "finished", "mturk", received)
    assert end.form == SANDBOX + "/mturk/externalSubmit"
    assert end.fields == {"assignmentId": "3X", "outcome": "finished", "code": "C1"}
    assert farewell("C1", "finished", "prolific", received).form == ""


@pytest.mark.parametrize(
    "host",
    [
        "",
        "https://evil.example",
        "http://www.mturk.com",
        "https://www.mturk.com.evil.example",
        "https://www.mturk.com@evil.example",
        "https://evil.example/https://www.mturk.com",
        "https://www.mturk.com/../x",
        "javascript:alert(1)//https://www.mturk.com",
        "//www.mturk.com",
    ],
)
def test_the_form_goes_to_mturk_or_nowhere(host: str) -> None:
    assert farewell("C1", "finished", "mturk", {"assignmentId": "3X", "turkSubmitTo": host}).form == ""


@given(st.text(max_size=80))
def test_no_text_makes_another_form(host: str) -> None:
    form = farewell("C1", "finished", "mturk", {"turkSubmitTo": host}).form
    assert form in ("", *(f"{known}/mturk/externalSubmit" for known in ("https://www.mturk.com", SANDBOX)))
