"""`llmbridge cassette diff`: what differs between two sets of recordings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmbridge.cli.counting import Counted, stats_of
from llmbridge.cli.files import files_of
from llmbridge.cli.screen import FINDINGS, FINE, Screen, say_json
from llmbridge.cli.summary import Told, content_of, json_or_text, matched_as, summary_of
from llmbridge.exchange.difference import Difference, differences
from llmbridge.exchange.matching import Asked
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette

_FIGURES = ("interactions", "tokens", "output_tokens", "cost_usd", "bytes")


@dataclass(frozen=True, slots=True)
class Side:
    """One interaction of one side."""

    file: str
    index: int
    record: Record
    asked: Asked | None

    @property
    def name(self) -> str:
        """Which interaction it is."""
        return f"{self.file} #{self.index}"

    @property
    def kind(self) -> tuple[str, str]:
        """Requests of one kind can be compared."""
        return (
            (self.asked.dialect, self.asked.operation) if self.asked else (self.record.dialect, "")
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two interactions that belong together, and what differs in requests and decoded answers."""

    a: Side
    b: Side
    request: tuple[Difference, ...]
    answer: tuple[Difference, ...]


def run_diff(a: str, b: str, as_json: bool) -> int:
    """Compare two files, folders or globs and say what differs; the exit code.

    Raises:
        CassetteError: one of them cannot be read.
    """
    left, right = _sides(a), _sides(b)
    pairs, only_a, only_b = compare(left, right)
    figures = {"a": _figures(left), "b": _figures(right)}
    if as_json:
        say_json(_told(pairs, only_a, only_b) | figures)
    else:
        _say_lines(pairs, only_a, only_b, figures)
    same = not (only_a or only_b or any(pair.request or pair.answer for pair in pairs))
    return FINE if same else FINDINGS


def compare(
    left: Sequence[Side], right: Sequence[Side]
) -> tuple[list[Pair], list[Side], list[Side]]:
    """Pairs of the same request in order, then the most alike of what is left, then what stands alone."""
    waiting: dict[str, list[Side]] = defaultdict(list)
    for side in right:
        waiting[_key(side)].append(side)
    pairs: list[Pair] = []
    alone: list[Side] = []
    for side in left:
        same = waiting[_key(side)]
        if same:
            pairs.append(_pair(side, same.pop(0)))
        else:
            alone.append(side)
    rest = [side for sides in waiting.values() for side in sides]
    return _most_alike(pairs, alone, rest)


def _key(side: Side) -> str:
    return side.asked.key if side.asked else f"unasked {side.record.dialect}"


def _most_alike(
    pairs: list[Pair], alone: Sequence[Side], rest: list[Side]
) -> tuple[list[Pair], list[Side], list[Side]]:
    only_a: list[Side] = []
    for side in alone:
        candidates = [other for other in rest if other.kind == side.kind]
        if not candidates:
            only_a.append(side)
            continue
        nearest = min(candidates, key=lambda other: len(_asked_differently(side, other)))
        rest.remove(nearest)
        pairs.append(_pair(side, nearest))
    pairs.sort(key=lambda pair: (pair.a.file, pair.a.index))
    return pairs, only_a, rest


def _pair(a: Side, b: Side) -> Pair:
    return Pair(a, b, _asked_differently(a, b), differences(_answer(a.record), _answer(b.record)))


def _asked_differently(a: Side, b: Side) -> tuple[Difference, ...]:
    if a.asked is None or b.asked is None:
        return ()
    return differences(a.asked.body, b.asked.body)


def _answer(record: Record) -> Any:
    """What an answer says; what nobody can decode is compared as it came."""
    told, content = summary_of(record, 0), content_of(record)
    for block in content:
        # Ids are new with every answer.
        block.pop("id", None)
    said = {name: told[name] for name in ("status", "end", "stop_reason", "error_type")}
    return {**said, "content": content} if content else {**said, "body": json_or_text(record.body)}


def _sides(text: str) -> list[Side]:
    return [side for file in files_of([text]) for side in _sides_of(file.path)]


def _sides_of(path: Path) -> Iterator[Side]:
    for index, record in enumerate(Cassette.load(path)):
        yield Side(str(path), index, record, matched_as(record))


def _figures(sides: Iterable[Side]) -> Told:
    return stats_of(
        [Counted(summary_of(it.record, it.index), None, len(it.record.body)) for it in sides]
    )


def _told(pairs: Iterable[Pair], only_a: Iterable[Side], only_b: Iterable[Side]) -> Told:
    return {
        "pairs": [
            {
                "a": {"file": pair.a.file, "interaction": pair.a.index},
                "b": {"file": pair.b.file, "interaction": pair.b.index},
                "request": [_changed(each) for each in pair.request],
                "answer": [_changed(each) for each in pair.answer],
            }
            for pair in pairs
        ],
        "only_a": [{"file": side.file, "interaction": side.index} for side in only_a],
        "only_b": [{"file": side.file, "interaction": side.index} for side in only_b],
    }


def _changed(difference: Difference) -> Told:
    told = asdict(difference)
    return {"path": told["path"], "a": told["recorded"], "b": told["now"]}


def _say_lines(
    pairs: Sequence[Pair], only_a: Sequence[Side], only_b: Sequence[Side], figures: Told
) -> None:
    screen = Screen()
    changed = [pair for pair in pairs if pair.request or pair.answer]
    for pair in changed:
        screen.say(f"{pair.a.name}, {pair.b.name}", "bold")
        for what, found in (("request", pair.request), ("answer", pair.answer)):
            for each in found:
                screen.say(f"  {what} {each.path}: {each.recorded} -> {each.now}", "yellow")
    for sign, style, sides in (("-", "red", only_a), ("+", "green", only_b)):
        for side in sides:
            url = side.record.request.url if side.record.request else side.record.dialect
            screen.say(f"{sign} {side.name} {url}", style)
    screen.say(
        f"{len(pairs) - len(changed)} the same, {len(changed)} different, {len(only_a)} only in the"
        f" first, {len(only_b)} only in the second"
    )
    rows = [[name, *(_figure(figures[side][name]) for side in "ab")] for name in _FIGURES]
    rows += [
        [f"{name} p50", *(_figure(figures[side][name]["p50"]) for side in "ab")]
        for name in ("ttft_s", "duration_s")
    ]
    screen.table({"": False, "first": True, "second": True}, rows)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
