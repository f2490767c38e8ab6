from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
from llmbridge.stores import safe_load
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_read import read
from tests.stores.recordings import loads, plain


@pytest.mark.parametrize("data", [b"\xff\xfea\x00", b"\xfe\xff\x00a", b"a: \xe9", b"a: \xc3"])
def test_bytes_that_are_not_utf_8_are_an_error(data):
    with pytest.raises(CassetteError, match=r"^x"):
        read(data, "x", "x")


def test_a_database_is_told_with_the_url_to_name_it_by():
    with pytest.raises(CassetteError, match=r"^a\.db is an SQLite database.*'sqlite:///a\.db'$"):
        read(b"SQLite format 3\0\x10\0", "a.db", "a.db")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system",
        "!!python/object/new:os.system",
        "!!python/object:subprocess.Popen",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:multidict._multidict.CIMultiDictProxy",
        "!ruby/object:Gem",
        "!ruby/array:Gem",
        "!ruby/regexp",
        "!<tag:yaml.org,2002:merge>",
    ],
)
def test_a_tag_that_asks_for_more_than_data_is_refused_by_name(tag, tmp_path):
    made = tmp_path / "made"
    text = plain().replace("version: 1", f"version: {tag} ['touch {made}']")

    with pytest.raises(CassetteError, match=r"session.yaml is not plain data.*line") as error:
        loads(text)

    assert tag.strip("!<>").rpartition("yaml.org,2002:")[2] in str(error.value)
    assert not made.exists()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("!!bool foo", "a value is no bool"),
        ("!!int ''", "a value is no int"),
        ("!!float ''", "a value is no float"),
        ("!!timestamp foo", "a value is no timestamp"),
        ("9" * 5000, "a value is no int"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
    ],
    ids=["bool", "int", "float", "timestamp", "huge", "deep"],
)
def test_a_value_that_cannot_be_is_told_with_its_line(value, told):
    with pytest.raises(
        CassetteError, match=rf"^x is not plain data: {told} in line 2, column \d+$"
    ):
        safe_load.safe_load(f"a: 1\nb: {value}\n".encode(), "x")


@pytest.mark.parametrize("byte", [b"\xff", b"\0"])
def test_a_byte_that_cannot_be_is_told_with_its_line(byte):
    with pytest.raises(CassetteError, match=r"^x is not YAML: unacceptable .*, in line 2$"):
        safe_load.safe_load(b"a: 1\nb: " + byte, "x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "'c' is there twice in line 2, column 17"),
        ("a: 1\n'a': 2", "'a' is there twice in line 2, column 1"),
        ('{"a": {"b": 1, "b": 2}}', "'b' is there twice, give it once"),
    ],
    ids=["flow", "block", "json"],
)
def test_a_key_that_stands_twice_is_an_error(text, told):
    with pytest.raises(CassetteError, match=rf"^x is not .*: {told}$"):
        safe_load.safe_load(text.encode(), "x")


def _bomb(levels: int, link: str = "[{}]") -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        again = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {link.format(again)}")
    return "\n".join([*lines, "interactions: []"])


@pytest.mark.parametrize(
    "text",
    [
        _bomb(9),
        _bomb(30),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 5000))]),
        'a: &a "' + "x" * 40_000_000 + '"\nb: [*a, *a]',
    ],
    ids=["bomb", "large bomb", "list in itself", "map in itself", "chain", "text"],
)
def test_aliases_cannot_grow_without_end(text):
    with pytest.raises(CassetteError, match=r"session\.yaml.*aliases"):
        loads(text)


def test_aliases_of_ordinary_size_are_read():
    text = (
        plain()
        .replace("a:\n      - b", "a: &id001\n      - b")
        .replace("headers: {}", "headers: {a: *id001}")
    )

    assert loads(text)[0].headers == Headers({"a": "b"})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 100_000,
        "{a: " * 1000,
        "a:\n" + "\n".join(" " * i + "a:" for i in range(200)),
    ],
    ids=["json", "lists", "maps", "block"],
)
def test_what_is_nested_too_deeply_is_an_error(text):
    with pytest.raises(CassetteError, match=r"session\.yaml.*(deep|JSON)"):
        loads(text)


def test_json_nested_deeper_than_yaml_may_be_is_an_error():
    with pytest.raises(CassetteError, match="deep"):
        loads('{"a":' * 500 + "1" + "}" * 500)


def test_merge_keys_are_ordinary_keys():
    text = plain() + "x: &a {version: 7}\n<<: *a\n"

    assert loads(text) == loads(plain())


def test_a_file_past_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_load, "LIMIT_BYTES", 100)
    path = tmp_path / "large.yaml"
    path.write_text(plain())

    with pytest.raises(
        CassetteError, match=r"large.yaml' is larger than|large.yaml is larger than"
    ):
        Cassette.load(path)


def test_an_error_shows_nothing_of_the_content():
    with pytest.raises(CassetteError) as error:
        loads('version: 1\nkey: "sk-FAKE\nother: [}')

    assert "FAKE" not in str(error.value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"!!python/tuple x")
@example(b"!!python/object/new:_io.BytesIO x")
@example(b"!binary {}")
@example(b"!ruby/string []")
@example(b"!ruby/hash x")
@example(b"!str:x {str: {}}")
@example(b"interactions: [{request: {method: a, uri: b}, response: {status: {code: 200}}}]")
def test_no_bytes_end_in_another_exception(data):
    with suppress(CassetteError):
        read(data, "x", "x")


@pytest.mark.parametrize("tag", ["!!binary", "!binary"])
def test_bytes_are_read_under_the_tag_of_yaml_and_of_ruby(tag):
    text = plain().replace("string: ''", f"string: {tag} {b64encode('é'.encode()).decode()}")

    assert loads(text)[0].body == "é".encode()


@pytest.mark.parametrize(
    "text",
    [
        "!ruby/string:ActiveSupport::SafeBuffer hello",
        "!str:Faraday::Text hello",
        "!ruby/string:Text {str: hello, '@html_safe': true}",
        "!ruby/sym hello",
        "!ruby/symbol hello",
    ],
)
def test_strings_of_ruby_classes_are_read_as_what_they_say(text):
    assert loads(plain().replace("string: ''", f"string: {text}"))[0].body == b"hello"


def test_hashes_of_ruby_classes_are_read_as_what_they_say():
    text = plain().replace("headers: {}", "headers: !ruby/hash:Faraday::Headers {a: b}")

    assert loads(text)[0].headers == Headers({"a": "b"})
