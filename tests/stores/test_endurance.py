"""The short runs; `make bench` has the long ones."""

import os

import pytest

from tests.endurance import LEAVERS, kill, soak


def test_each_call_is_on_record_once_however_its_client_ends(database):
    found = soak(database.url, requests=400)

    assert (found.left, dict(found.ends)) == (
        400 // LEAVERS,
        {"completed": 400 - 400 // LEAVERS, "client_gone": 400 // LEAVERS},
    )
    assert (found.lost, found.twice, found.answers) == (0, 0, 400)
    assert database.unsound() == []


@pytest.mark.skipif(
    os.name != "posix", reason="needs the signals of POSIX: run it on Linux or macOS"
)
def test_what_was_acknowledged_survives_kill_9(database):
    found = kill(database.url, kills=5)

    assert found.acknowledged >= 5
    assert (found.lost, found.wrong) == (0, 0)
    assert database.unsound() == []
