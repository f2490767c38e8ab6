import gzip
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.errors import StreamTruncated, UpstreamError, UpstreamLimit
from llmbridge.upstreams.inflate import MAX_RATIO, STEP_BYTES, Inflater, coding_of

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}


def inflated(coding: str, pieces: Iterable[bytes]) -> bytes:
    inflater = Inflater(coding)
    whole = b"".join(plain for piece in pieces for plain in inflater.feed(piece))
    inflater.close()
    return whole


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400)))
def test_any_cut_inflates_to_the_same_bytes(coding: str, data: bytes, cuts: list[int]) -> None:
    squeezed = CODINGS[coding](data)
    places = [0, *sorted(cuts), len(squeezed)]

    whole = inflated(coding, [squeezed[start:end] for start, end in pairwise(places)])

    assert whole == data


@pytest.mark.parametrize("size", [STEP_BYTES - 1, STEP_BYTES, STEP_BYTES * 3, 999_999])
def test_what_is_large_comes_in_steps(size: int) -> None:
    data = bytes(place % 251 for place in range(1000)) * (size // 1000 + 1)

    pieces = list(Inflater("gzip").feed(gzip.compress(data[:size])))

    assert b"".join(pieces) == data[:size]
    assert max(map(len, pieces)) <= STEP_BYTES


def test_several_streams_in_a_row_are_one_answer() -> None:
    squeezed = gzip.compress(b"one, ") + gzip.compress(b"two") + bytes(8)

    assert inflated("gzip", [squeezed]) == b"one, two"
    assert (
        inflated("gzip", [squeezed[place : place + 1] for place in range(len(squeezed))])
        == b"one, two"
    )


def test_deflate_may_come_without_its_header() -> None:
    assert inflated("deflate", [zlib.compress(b"hello", wbits=-15)]) == b"hello"


def test_events_come_out_as_they_are_flushed() -> None:
    squeezer = zlib.compressobj(wbits=31)
    inflater = Inflater("gzip")

    events = [
        b"".join(inflater.feed(squeezer.compress(event) + squeezer.flush(zlib.Z_SYNC_FLUSH)))
        for event in (b"data: 1\n\n", b"data: 2\n\n")
    ]

    assert events == [b"data: 1\n\n", b"data: 2\n\n"]


def test_a_bomb_is_refused_before_it_is_large() -> None:
    pieces: list[bytes] = []

    with pytest.raises(UpstreamLimit, match=f"more than {MAX_RATIO} times"):
        pieces.extend(Inflater("gzip").feed(gzip.compress(bytes(64 * 2**20))))

    assert sum(map(len, pieces)) <= 8 * 2**20


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("kept", [1, 12, -4, -1])
def test_data_cut_short_is_truncated(coding: str, kept: int) -> None:
    with pytest.raises(StreamTruncated):
        inflated(coding, [CODINGS[coding](b"hello there, hello there")[:kept]])


def test_no_bytes_at_all_are_no_bytes() -> None:
    assert inflated("gzip", []) == b""


def test_bytes_of_another_kind_are_an_error() -> None:
    with pytest.raises(UpstreamError, match="compression is broken"):
        inflated("gzip", [b"data: hello\n\n"])


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "compress"])
def test_an_unknown_coding_is_an_error(coding: str) -> None:
    with pytest.raises(UpstreamError, match=f"encoded as '{coding}'"):
        Inflater(coding)


@pytest.mark.parametrize(
    ("field", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("GZip", "gzip"),
        (" gzip , Identity", "gzip"),
        ("gzip,br", "gzip, br"),
    ],
)
def test_codings_are_read_from_the_field(field: str, coding: str) -> None:
    assert coding_of(field) == coding
