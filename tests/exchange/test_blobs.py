import json
import random
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.exchange.blobs import shrink

IMAGE = random.Random(1).randbytes(6000)
TEXT = b64encode(IMAGE).decode()
MARK = f"<blob:sha256:{sha256(IMAGE).hexdigest()}:6000>"


def anthropic(data: str) -> dict[str, object]:
    return {"source": {"type": "base64", "media_type": "image/png", "data": data}}


def openai(data: str) -> dict[str, object]:
    return {"image_url": {"url": f"data:image/png;base64,{data}", "detail": "low"}}


@pytest.mark.parametrize("block", [anthropic, openai])
def test_a_large_image_becomes_its_length_and_hash(block):
    body = json.dumps({"model": "m", "content": [block(TEXT)]}).encode()

    assert shrink(body) == json.dumps({"model": "m", "content": [block(MARK)]}).encode()


@pytest.mark.parametrize(
    "spelled",
    [
        json.dumps(urlsafe_b64encode(IMAGE).decode()),
        json.dumps(TEXT.rstrip("=")),
        json.dumps(TEXT).replace("/", "\\/"),
        json.dumps(TEXT).replace("+", "\\u002B").replace("=", "\\u003D"),
    ],
    ids=["url-safe", "unpadded", "slashes escaped", "plus escaped"],
)
def test_every_spelling_of_one_file_has_one_marker(spelled):
    assert shrink(spelled.encode()) == json.dumps(MARK).encode()


def test_images_inside_of_tool_arguments_are_found():
    arguments = json.dumps({"image": TEXT, "url": f"data:image/png;base64,{TEXT}"})
    body = json.dumps({"arguments": arguments}).encode()

    assert shrink(body) == body.replace(TEXT.encode(), MARK.encode())


def test_several_images_in_one_text_are_found():
    page = f"![a](data:image/png;base64,{TEXT}) and ![b](data:image/png;base64,{TEXT})"

    assert shrink(json.dumps(page).encode()) == json.dumps(page.replace(TEXT, MARK)).encode()


@pytest.mark.parametrize(
    "string",
    [
        b64encode(IMAGE[:3072]).decode(),
        f"data:image/png;base64,{b64encode(IMAGE[:3072]).decode()} and prose " * 2,
        "x" * 5000,
        "Words of 9 letters, and MORE. " * 300,
        f"{TEXT} is in this text",
        "../" * 2000,
    ],
    ids=["4096 characters", "small URL", "one letter", "prose", "in prose", "dots"],
)
def test_what_is_small_or_no_base64_stays(string):
    body = json.dumps({"text": string}).encode()

    assert shrink(body) is body


def test_different_files_of_one_length_stay_apart():
    other = b64encode(random.Random(2).randbytes(6000))

    assert shrink(b'"%b"' % other) != shrink(b'"%b"' % TEXT.encode())


PART = st.sampled_from(
    [
        b'"',
        b"\\",
        b"\\/",
        b";base64,",
        b"=",
        b" ",
        TEXT.encode(),
        TEXT[:4000].encode(),
        b"<blob:",
        b"\xff",
    ]
)


@given(st.lists(PART).map(b"".join))
def test_shrinking_again_changes_nothing(body):
    once = shrink(body)

    assert shrink(once) is once


@given(
    st.recursive(
        st.text() | st.just(TEXT), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_stays_json(value):
    body = json.dumps(value).encode()

    assert json.loads(shrink(body)) == json.loads(body.replace(TEXT.encode(), MARK.encode()))
