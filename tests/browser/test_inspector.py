"""The inspector in a real JupyterLab: ten seconds of 500 deltas each, and what a person does meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import streaming
from tests.browser.chromium import Watched
from tests.browser.desk import Desk
from tests.browser.jupyter import Lab
from tests.browser.streaming import Counted, View

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

BUSY_S = 5
CELLS = streaming.cells(words=3700, thoughts=500, steps=20, notes=800, busy_s=BUSY_S)
MOMENTS = "lambda n: [0, 1, 2, 3, 57, n // 9, n // 2, 2 * n // 3, 9 * n // 10, n - 2, n - 1, n]"
TRUTH = streaming.TRUTH.format(moments=f"({MOMENTS})")


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream, seen to its end on two pages."""

    desk: Desk
    other: Desk
    counted: Counted
    while_busy: list[tuple[float, int]]
    steps: list[tuple[float, int]]
    ended: View
    truth: dict[str, Any]

    @property
    def duration_s(self) -> float:
        """From the first event that was seen to the last."""
        return self.steps[-1][0] - self.steps[0][0]


@pytest.fixture(scope="module")
def streamed(desk: Desk, chrome: "Browser", lab: Lab) -> Iterator[Streamed]:
    # A window of its own: a page that is hidden paints once a second.
    elsewhere = Watched(chrome.new_context(viewport={"width": 1200, "height": 900}))
    counted = Counted(desk)
    desk.open(desk.write("stream", *CELLS, TRUTH))
    desk.run(0)
    desk.run(1)
    streaming.watch(desk)
    before = counted.messages
    desk.run(2)
    began_s = streaming.now_s(desk)
    desk.run(3)
    while_busy = [step for step in streaming.steps(desk) if step[0] > began_s]
    desk.save()
    other = Desk(lab, elsewhere)
    other.open("stream.ipynb")
    ended = streaming.finished(desk)
    counted.messages -= before
    steps = streaming.steps(desk)
    desk.run(4)
    truth = streaming.truth(desk, 4)
    yield Streamed(desk, other, counted, while_busy, steps, ended, truth)
    elsewhere.context.close()
    assert elsewhere.trespasses() == []


def test_the_text_is_complete_and_no_event_is_missing(streamed: Streamed) -> None:
    whole = streamed.truth["at"][str(streamed.truth["events"])]

    assert streamed.truth["events"] > 5000
    assert (streamed.ended.events, streamed.ended.blocks) == (streamed.truth["events"], whole)


def test_messages_are_few_however_many_events_there_are(streamed: Streamed) -> None:
    assert streamed.duration_s > 9
    assert streamed.counted.messages / streamed.duration_s <= 22


def test_no_message_and_no_file_holds_the_key(streamed: Streamed, lab: Lab) -> None:
    kept = (lab.folder / "stream.ipynb").read_text("utf-8")

    assert (streamed.counted.leaks, streaming.KEY in kept) == (0, False)


def test_the_view_goes_on_while_the_kernel_is_busy(streamed: Streamed) -> None:
    counts = [events for _, events in streamed.while_busy]

    assert len(counts) > BUSY_S / 1.2
    assert counts == sorted(counts)


def test_scrubbing_shows_the_message_of_that_event_with_what_it_brought_in_sight(
    streamed: Streamed,
) -> None:
    before = streamed.counted.sent
    views = {count: streaming.scrub(streamed.desk, int(count)) for count in streamed.truth["at"]}

    assert {count: view.blocks for count, view in views.items()} == streamed.truth["at"]
    assert [count for count, view in views.items() if not view.seen] == []
    assert "".join(views["57"].fresh.split()).startswith("thought")
    # The page knows every event: the kernel is not asked.
    assert streamed.counted.sent == before > 0


def test_a_page_opened_in_the_middle_reaches_the_same_text(streamed: Streamed) -> None:
    view = streaming.finished(streamed.other)

    assert (view.events, view.blocks) == (streamed.ended.events, streamed.ended.blocks)


def test_a_second_view_shows_the_same(streamed: Streamed) -> None:
    streamed.desk.run(1)
    streamed.desk.page.evaluate("window.panel.content.widgets[1].outputArea.node.scrollIntoView()")

    view = streaming.finished(streamed.desk)

    assert view.blocks == streamed.ended.blocks


def test_a_page_that_is_loaded_again_shows_the_same(streamed: Streamed) -> None:
    streamed.desk.save()
    streamed.desk.reload()
    streamed.desk.open("stream.ipynb")

    view = streaming.finished(streamed.desk)
    first = streaming.scrub(streamed.desk, 57)

    assert (view.events, view.blocks) == (streamed.ended.events, streamed.ended.blocks)
    assert first.blocks == streamed.truth["at"]["57"]
