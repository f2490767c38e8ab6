"""Content codings of stored bodies, undone: gzip, deflate, and br or zstd where a package for it is there."""

import zlib
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType

from llmbridge.errors import CassetteError

LIMIT_BYTES = 64 * 1024 * 1024
"""What one body may inflate to."""

_PIECE_BYTES = 4096
"""Of a body with a million members each copies what is left: of a piece, not of the whole."""


def decoded(body: bytes, codings: str, place: str) -> bytes:
    """The body as a client reads it. One that is plain already, whatever its label says, stays as it is.

    Raises:
        CassetteError: it inflates to more than the limit, or the package for its coding is missing.
    """
    for coding in reversed([coding.strip().lower() for coding in codings.split(",")]):
        decode = _DECODERS.get(coding)
        if decode is not None and body:
            body = decode(body, place)
    return body


def _gzip(body: bytes, place: str) -> bytes:
    return _inflated(body, (31,), place) if body.startswith(b"\x1f\x8b") else body


def _deflate(body: bytes, place: str) -> bytes:
    # Servers send "deflate" with and without the zlib header.
    return _inflated(body, (15, -15), place)


def _inflated(body: bytes, windows: Iterable[int], place: str) -> bytes:
    for window in windows:
        plain, member = bytearray(), zlib.decompressobj(window)
        try:
            for start in range(0, len(body), _PIECE_BYTES):
                piece = body[start : start + _PIECE_BYTES]
                while piece:
                    plain += member.decompress(piece, LIMIT_BYTES + 1 - len(plain))
                    if len(plain) > LIMIT_BYTES:
                        raise _too_large(place)
                    piece = member.unused_data
                    if member.eof:
                        member = zlib.decompressobj(window)
        except zlib.error:
            # What came before is the answer when only the end is damaged.
            if plain:
                return bytes(plain)
            continue
        return bytes(plain)
    return body


def _brotli(body: bytes, place: str) -> bytes:
    brotli = _package(("brotli", "brotlicffi"), body, "br", place)
    if brotli is None:
        return body
    try:
        plain = brotli.Decompressor().process(body, output_buffer_limit=LIMIT_BYTES + 1)
    except brotli.error:
        return body
    return _limited(plain, place)


def _zstd(body: bytes, place: str) -> bytes:
    if not body.startswith(b"\x28\xb5\x2f\xfd"):
        return body
    zstd = _package(("compression.zstd", "zstandard"), body, "zstd", place)
    if zstd is None:
        return body
    try:
        if zstd.__name__ == "zstandard":
            with zstd.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
                plain = reader.read(LIMIT_BYTES + 1)
        else:
            plain = zstd.ZstdDecompressor().decompress(body, LIMIT_BYTES + 1)
    except zstd.ZstdError:
        return body
    return _limited(plain, place)


_DECODERS: dict[str, Callable[[bytes, str], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def _package(names: Iterable[str], body: bytes, coding: str, place: str) -> ModuleType | None:
    """The first of these packages; None where the body is text, hence plain."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    try:
        body.decode()
    except UnicodeDecodeError:
        package = {"br": "brotli", "zstd": "zstandard"}[coding]
        raise CassetteError(
            f"{place} is compressed with {coding}: install the package {package!r} to read it"
        ) from None
    return None


def _limited(plain: bytes, place: str) -> bytes:
    if len(plain) > LIMIT_BYTES:
        raise _too_large(place)
    return plain


def _too_large(place: str) -> CassetteError:
    return CassetteError(
        f"{place} inflates to more than {LIMIT_BYTES >> 20} MiB: it is not a recording of a model"
    )
