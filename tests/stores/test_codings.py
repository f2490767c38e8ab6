import gzip
import sys
import zlib

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest

from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
from llmbridge.stores import codings
from tests.stores.recordings import STREAM, body_of, loads, plain

COMPRESSED = {
    "gzip": gzip.compress(STREAM),
    "x-gzip": gzip.compress(STREAM[:9]) + gzip.compress(STREAM[9:]),
    "deflate": zlib.compress(STREAM),
    "Deflate": zlib.compress(STREAM)[2:-4],
    "br": brotli.compress(STREAM),
    "deflate, gzip": gzip.compress(zlib.compress(STREAM)),
}


@pytest.mark.parametrize(("coding", "body"), COMPRESSED.items(), ids=COMPRESSED)
def test_compressed_bodies_are_decoded_and_say_so(coding, body):
    headers = {"Content-Encoding": coding, "Content-Length": str(len(body)), "X": "y"}

    (record,) = loads(plain(body={"string": body}, headers=headers))

    assert record.body == STREAM
    assert record.headers == Headers({"Content-Length": str(len(STREAM)), "X": "y"})


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br", "identity", "x"])
@pytest.mark.parametrize("body", [STREAM.decode(), '{"a": 1}', ""])
def test_a_plain_body_is_survived_under_any_label(coding, body):
    assert body_of({"string": body}, **{"content-encoding": coding}) == body.encode()


def test_what_came_of_a_cut_body_is_kept():
    body = gzip.compress(STREAM * 500)[:-20]

    plain_body = body_of({"string": body}, **{"content-encoding": ["gzip"]})

    assert plain_body
    assert (STREAM * 500).startswith(plain_body)


def test_of_many_members_none_is_copied_for_each(monkeypatch):
    fed: list[int] = []

    class Counted:
        def __init__(self, window: int) -> None:
            self._member = inflating(window)
            self.eof, self.unused_data = False, b""

        def decompress(self, data: bytes, limit: int) -> bytes:
            fed.append(len(data))
            plain = self._member.decompress(data, limit)
            self.eof, self.unused_data = self._member.eof, self._member.unused_data
            return plain

    inflating = zlib.decompressobj
    monkeypatch.setattr("zlib.decompressobj", Counted)
    body = gzip.compress(b"x") * 10_000

    assert codings.decoded(body, "gzip", "here") == b"x" * 10_000
    assert sum(fed) < 1000 * len(body)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)

    with pytest.raises(CassetteError, match=r"interactions\[0\].*zstd.*install.*'zstandard'"):
        body_of({"string": b"\x28\xb5\x2f\xfd\x04\x00"}, **{"content-encoding": "zstd"})


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_body_that_inflates_without_end_is_refused(coding, monkeypatch):
    monkeypatch.setattr(codings, "LIMIT_BYTES", 100_000)
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[coding]

    with pytest.raises(CassetteError, match="inflates to more"):
        body_of({"string": compress(bytes(1_000_000))}, **{"content-encoding": coding})
