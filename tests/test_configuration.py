"""Bridges from files: what a file may say, what it means, and how a mistake in it is told."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Context, Model, Text, UserMessage
from llmbridge.configuration import Configuration, ProviderRow, Rewrite, Settings
from llmbridge.configuration.settings import ROWS
from llmbridge.errors import ConfigurationError
from llmbridge.frontends.people import hashed
from llmbridge.upstreams.lines import repeat
from llmbridge.upstreams.script import Script
from tests.certified import Certified

YAML = """
host: 127.0.0.1
port: ${PORT}
token: ${TOKEN:-auto}
store: ${FOLDER}/kept.yaml
upstream:
  openai: http://127.0.0.1:9000
providers:
  - name: team
    base_url: https://llm.example.org/v1
    dialects: [openai.chat, anthropic.messages]
    key: ${TEAM_KEY}
    auth: x-api-key
routes:
  claude-*: team/claude-sonnet-4-5
rewrite:
  - append_text: " Be brief; it costs $$5."
    drop_fields: [user]
  - set_fields: {temperature: 0}
    swap_models: {gpt-4o: gpt-5-mini}
log: debug
"""

TOML = """
host = "127.0.0.1"
port = "${PORT}"
token = "${TOKEN:-auto}"
store = "${FOLDER}/kept.yaml"
log = "debug"

[upstream]
openai = "http://127.0.0.1:9000"

[[providers]]
name = "team"
base_url = "https://llm.example.org/v1"
dialects = ["openai.chat", "anthropic.messages"]
key = "${TEAM_KEY}"
auth = "x-api-key"

[routes]
"claude-*" = "team/claude-sonnet-4-5"

[[rewrite]]
append_text = " Be brief; it costs $$5."
drop_fields = ["user"]

[[rewrite]]
set_fields = { temperature = 0 }
swap_models = { gpt-4o = "gpt-5-mini" }
"""

ENVIRON = {"PORT": "8080", "FOLDER": "/tmp", "TEAM_KEY": "a-key: {of} #ours"}


def load(folder: Path, text: str, name: str = "bridge.yaml", **environ: str) -> Configuration:
    path = folder / name
    path.write_text(text, "utf-8")
    return Configuration.load(path, environ)


def complaint(folder: Path, text: str, name: str = "bridge.yaml", **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, name, **environ)
    return caught.value.message.replace(str(folder / name), "FILE")


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.yml", YAML), ("a.toml", TOML)])
def test_yaml_and_toml_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    configuration = load(tmp_path, text, name, **ENVIRON)

    assert configuration.settings == Settings(
        host="127.0.0.1",
        port=8080,
        token="auto",
        store="/tmp/kept.yaml",
        upstream={"openai": "http://127.0.0.1:9000"},
        providers=(
            ProviderRow(
                "team",
                "https://llm.example.org/v1",
                ("openai.chat", "anthropic.messages"),
                "a-key: {of} #ours",
                auth="x-api-key",
            ),
        ),
        routes={"claude-*": "team/claude-sonnet-4-5"},
        rewrite=(
            Rewrite(append_text=" Be brief; it costs $5.", drop_fields=("user",)),
            Rewrite(set_fields={"temperature": 0}, swap_models={"gpt-4o": "gpt-5-mini"}),
        ),
        log="debug",
    )


@pytest.mark.parametrize("name", ["a.yaml", "a.toml"])
def test_an_empty_file_leaves_all_as_it_is(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, "", name).settings == Settings()


def test_a_provider_has_certificates_and_keys_of_its_own(
    tmp_path: Path, certified: Certified
) -> None:
    row = f"{{name: a, base_url: 'https://b', keys: [k-1, k-2], ca: {certified.ca}, cert: {certified.client}}}"

    with load(tmp_path, f"providers: [{row}]").bridge(environ={}) as bridge:
        made = next(each for each in bridge.providers if each.name == "a")

    assert (made.key, made.keys) == ("k-1", ("k-1", "k-2"))
    assert (made.ca, made.cert) == (certified.ca, (certified.client,))


def test_no_key_is_shown_by_a_repr(tmp_path: Path) -> None:
    assert "a-key" not in repr(load(tmp_path, YAML, **ENVIRON))


def test_a_value_of_the_environment_cannot_add_keys(tmp_path: Path) -> None:
    configuration = load(tmp_path, "token: ${TOKEN}", TOKEN='x"\nallow_remote: true\n${HOME}')

    assert configuration.settings == Settings(token='x"\nallow_remote: true\n${HOME}')


MISTAKES = {
    "prot: 1": "FILE: there is no key 'prot': do you mean 'port'?",
    "zzz: 1": "FILE: there is no key 'zzz': there are host, port, token, ",
    "port: many": "FILE: port is 'many': give a whole number",
    "port: 80.5": "FILE: port is 80.5: give a whole number",
    "metrics: maybe": "FILE: metrics is 'maybe': give true or false",
    "metrics:": "FILE: metrics is empty: give true or false",
    "token: 1234": "FILE: token is a whole number: give text, in quotes",
    "providers: {name: a, key: hush}": "FILE: providers is keys with values: give a list",
    "breaker: true": "FILE: breaker is true: give keys with values",
    "replay: [a, 1]": "FILE: replay[1] is 1: give text, in quotes",
    "replay: 1": "FILE: replay is 1: give text or a list",
    "client_keys: always": "FILE: client_keys is 'always': give one of true, false, first",
    "log: loud": "FILE: log is 'loud': give one of warning, info, debug",
    "replay: a\nmode: never": "FILE: mode is 'never': give one of none, once, ",
    "providers: [{name: a, base_url: 'http://b', auth: x}]": (
        "FILE: providers[0].auth is 'x': give one of bearer, x-api-key, "
    ),
    "routes: [a]": "FILE: routes is a list: give keys with values",
    "routes: {b: openai, a: 1}": "FILE: routes.a is 1: give text, in quotes",
    "routes: {1: openai}": "FILE: routes has a key that is no text: write it in quotes",
    "passthrough: {openai: /files}": "FILE: passthrough.openai is '/files': give a list",
    "providers: [{name: a}]": "FILE: providers[0] has no base_url: give one",
    "providers: [{name: a, base_url: 'http://b', key: c, keys: [d]}]": (
        "FILE: providers[0] has key and keys: give one of them"
    ),
    "providers: [{name: a, base_url: b, kay: c}]": (
        "FILE: there is no key 'providers[0].kay': do you mean 'key'?"
    ),
    "providers: [{name: a, base_url: b}]": (
        "FILE: providers[0].base_url: base URL of 'a' is 'b': give http://HOST or https://HOST"
    ),
    "providers: [{name: a, base_url: 'http://b', dialects: [chat]}]": (
        "FILE: providers[0].dialects: there is no 'chat': there are anthropic.messages, "
    ),
    "providers: [{name: a, base_url: 'http://b', dialects: []}]": (
        "FILE: providers[0].dialects is empty: name one, such as openai.chat"
    ),
    "tls_key: a.pem": "FILE: tls_key is the key of a certificate: give tls_cert with it",
    "breaker: {failure: 1}": "FILE: there is no key 'breaker.failure': do you mean 'failures'?",
    "tool_limits: {rounds: 0}": "FILE: tool_limits: rounds=0: give a whole number, ",
    "breaker: {open_s: 0}": "FILE: breaker: open_s=0.0: give a positive number",
    "rewrite: [{}]": "FILE: rewrite[0] changes nothing: give one of append_text, ",
    "rewrite: [{append: x}]": "FILE: there is no key 'rewrite[0].append': do you mean 'append_text'?",
    "token: ${TOKEN}": "FILE: token: the variable 'TOKEN' is not set: set it, or write ${TOKEN:-otherwise}",
    "token: ${TOKEN:-${OTHER}}": "FILE: token: '${TOKEN:-${OTHER}' names no variable: write ${NAME}",
    "upstream: {openai: '${1}'}": "FILE: upstream.openai: '${1}' names no variable: write ${NAME}",
    "token: a\nno_token: true": "FILE: token and no_token contradict each other: give one of them",
    "speed: 1": "FILE: speed is for a replay: give replay with it",
    "record: a.yaml\nreplay: b.yaml": "FILE: record is a replay with mode all: give the one or the other",
    "- a": "FILE is no mapping of names to values",
    "port: 1\ntoken: a\nport: 2": "FILE is not plain data: 'port' is there twice in line 3",
    "routes:\n  a: openai\n  a: groq": "FILE is not plain data: 'a' is there twice in line 3",
    '{"port": 1,\n"port": 2}': "FILE is not JSON: 'port' is there twice, give it once",
    "1: a": "FILE: the file has a key that is no text: write it in quotes",
    "a: b: c": "FILE is not YAML: ",
    "a: !!python/object/apply:os.system [id]": "FILE is not plain data: ",
    "provider: proxy": "FILE: base_url: proxy provider requires base_url",
    "provider: proxy\nbase_url: x": "FILE: providers[0].base_url: ",
    "provider: proxy\nbase_url: http://x\nmodle: y": "FILE: there is no key 'modle': do you mean 'model'?",
    "provider: anthropic": "FILE: there is no key 'provider': do you mean 'providers'?",
}


@pytest.mark.parametrize(("text", "told"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_key_and_the_file(tmp_path: Path, text: str, told: str) -> None:
    assert complaint(tmp_path, text).startswith(told)


def test_the_page_names_every_key() -> None:
    page = Path(__file__).parents[1] / "docs/how-to/configure.md"
    table = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", page.read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", " ".join(table)))

    assert named == set(Settings.__struct_fields__)
    for key, row in ROWS.items():
        assert set(row.__struct_fields__) - set(re.findall(r"`(\w+)`", table[f"`{key}`"])) == set()


def test_a_mistake_in_toml_is_told_with_its_line(tmp_path: Path) -> None:
    told = complaint(tmp_path, "host = 'x'\nport = x", "a.toml")

    assert told == "FILE is not TOML: Invalid value (at line 2, column 8)"


def test_what_nobody_writes_so_deep_is_refused(tmp_path: Path) -> None:
    told = complaint(tmp_path, "a = " + "[" * 3000, "a.toml")

    assert told == "FILE is nested too deeply: write it flatter"


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"its name ends in \.yaml"):
        Configuration.load(tmp_path / "a.ini")
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file"):
        Configuration.load(tmp_path / "a.yaml")
    assert complaint(tmp_path, "#" * 1_100_000).startswith("FILE is larger than 1 MiB")


def test_what_the_bridge_refuses_is_told_with_the_file(tmp_path: Path) -> None:
    configuration = load(tmp_path, "upstream: {nobody: 'http://x'}")

    with pytest.raises(ConfigurationError) as caught:
        configuration.bridge(environ={})

    assert caught.value.message.startswith(f"{tmp_path / 'bridge.yaml'}: upstream names 'nobody'")


@pytest.mark.feature("anthropic-proxy", 2, 4)
def test_rewrites_of_the_file_change_what_is_sent(tmp_path: Path) -> None:
    text = """
    rewrite:
      - add_system: Be kind.
        append_text: " Briefly."
        set_fields: {temperature: 0}
        drop_fields: [top_k]
        swap_models: {claude-a: claude-b}
    """
    asked = {"model": "claude-a", "top_k": 3, "messages": [{"role": "user", "content": "Hi"}]}

    with (
        load(tmp_path, text).bridge(Script("Hello"), environ={}) as bridge,
        httpx2.Client(transport=bridge.transport()) as client,
    ):
        client.post("http://localhost/v1/messages", json=asked)
        sent = bridge.records[0].request

    assert sent is not None
    assert json.loads(sent.body) == {
        "model": "claude-b",
        "system": "Be kind.",
        "messages": [{"role": "user", "content": "Hi Briefly."}],
        "temperature": 0,
    }


def test_a_file_may_name_what_to_replay(tmp_path: Path) -> None:
    fixtures = Path(__file__).parents[1] / "llmbridge" / "demo"
    text = f"replay: [{json.dumps(str(sorted(fixtures.glob('*.yaml'))[0]))}]"

    with load(tmp_path, text).bridge(environ={}) as bridge:
        assert repr(bridge).startswith("Bridge(Replay(")


BITOP = """
provider: proxy
base_url: ${PROXY_URL}/
api_key: $PROXY_TOKEN
model: claude-sonnet-4-5
max_tokens: ${MAX}
temperature: 0
tools:
  preset: coding
"""


def ask(bridge: Bridge, model: Model) -> str:
    question = Context(messages=(UserMessage((Text("Hi"),)),))
    *_, last = bridge.stream_sync(model, question)
    return "".join(block.text for block in last.partial.content if isinstance(block, Text))


@pytest.mark.feature("bitop", 16, 17)
def test_a_file_of_bitop_asks_its_server(tmp_path: Path) -> None:
    with Bridge(Script(repeat("Hello")), environ={}) as far, far.serve(token="sesame") as server:
        environ = {"PROXY_URL": server.url, "PROXY_TOKEN": "sesame", "MAX": "77"}
        configuration = load(tmp_path, BITOP, **environ)
        assert configuration.model == Model("proxy", "claude-sonnet-4-5")
        with (
            configuration.bridge(environ={}) as bridge,
            httpx2.Client(transport=bridge.transport()) as client,
        ):
            said = ask(bridge, configuration.model)
            asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
            reply = client.post("http://localhost/v1/chat/completions", json=asked)
        sent = [json.loads(record.request.body) for record in far.records if record.request]

    assert (said, reply.json()["choices"][0]["message"]["content"]) == ("Hello", "Hello")
    assert [(body["model"], body["max_tokens"], body["temperature"]) for body in sent] == [
        ("claude-sonnet-4-5", 77, 0)
    ] * 2


@pytest.mark.parametrize("environ", [{}, {"PROXY_TOKEN": ""}], ids=["unset", "empty"])
def test_a_file_of_bitop_takes_an_unset_variable_for_nothing(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    text = "provider: proxy\nbase_url: http://127.0.0.1:8080\napi_key: ${PROXY_TOKEN}\n"

    configuration = load(tmp_path, text, **environ)

    assert configuration.settings == Settings(
        providers=(ProviderRow("proxy", "http://127.0.0.1:8080", ("proxy.stream",), keyless=True),),
        routes={"*": "proxy"},
    )


ASKED = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
PEOPLE = """
people:
  - name: alice
    token: ${ALICE_TOKEN}
    metadata: {team: red}
  - {name: portal, token: [%s], acts_for_others: true}
"""


def test_people_come_in_with_tokens_of_the_file_or_their_hashes(tmp_path: Path) -> None:
    text = PEOPLE % f"'{hashed('llmb_portals-own-token')}'"
    configuration = load(tmp_path, text, ALICE_TOKEN="llmb_alices-own-token")
    found = {}

    with configuration.bridge(Script("Hello", "Hello"), environ={}) as bridge:
        with bridge.serve() as server:
            for token in ("llmb_alices-own-token", "llmb_portals-own-token", "llmb_nobodys-token"):
                headers = {"x-api-key": token, "x-llmbridge-actor": "bob"}
                answer = httpx2.post(f"{server.url}/v1/messages", json=ASKED, headers=headers)
                found[token] = answer.status_code
        callers = [each.request.caller for each in bridge.interceptions]

    assert list(found.values()) == [200, 200, 401]
    assert [(caller.actor, caller.metadata) for caller in callers] == [
        ("alice", {"team": "red"}),
        ("bob", {"via": "portal"}),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("people: [{name: a}]", "people[0] has no token: give one"),
        ("people: [{name: a, token: hush}]", "people[0]: the token of 'a' is shorter than 16"),
        ("people: [{name: a, tokens: x}]", "there is no key 'people[0].tokens'"),
        (
            "no_token: true\npeople: [{name: a, token: 0123456789abcdef}]",
            "no_token lets anybody in",
        ),
    ],
)
def test_a_mistake_in_people_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert complaint(tmp_path, text).startswith(f"FILE: {told}")
    assert "hush" not in complaint(tmp_path, text)


def test_budgets_and_rate_limits_may_stand_in_the_file(tmp_path: Path) -> None:
    text = """
budgets:
  - {usd: 20, actor: alice}
  - {usd: "${DAILY:-5}", model: claude-*}
  - {tokens: 1, per: month, shared: true}
rate_limits:
  - {requests_per_minute: 60}
"""
    configuration = load(tmp_path, text)

    with (
        configuration.bridge(Script("Hello", "Hello"), environ={}) as bridge,
        httpx2.Client(transport=bridge.transport()) as client,
    ):
        answers = [client.post("http://localhost/v1/messages", json=ASKED) for _ in range(2)]

    assert configuration.settings.budgets[1].usd == 5
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "all together took" in answers[1].text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budgets: [{actor: a}]", "budgets[0]: a budget of nothing: give usd, tokens, or both"),
        (
            "budgets: [{usd: 1, per: week}]",
            "budgets[0].per is 'week': give one of day, month",
        ),
        ("budgets: [{dollars: 1}]", "there is no key 'budgets[0].dollars'"),
        (
            "rate_limits: [{requests_per_minute: -1}]",
            "rate_limits[0]: requests_per_minute=-1 is no bound",
        ),
    ],
)
def test_a_mistake_in_a_budget_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert complaint(tmp_path, text).startswith(f"FILE: {told}")


def test_a_gateway_may_tell_the_next_one_who_asks_and_pass_clients_keys_on(tmp_path: Path) -> None:
    with Bridge(Script("Hello"), environ={}) as next_one, next_one.serve() as server:
        text = f"""
upstream: {{anthropic: "{server.url}"}}
client_keys: true
actor_headers: true
"""
        with load(tmp_path, text).bridge(environ={}) as bridge:
            with (
                bridge.actor("alice", team="red"),
                httpx2.Client(transport=bridge.transport()) as c,
            ):
                c.post("http://localhost/v1/messages", json=ASKED, headers={"x-api-key": "sk-mine"})
            hint = bridge.records[0].key_hint
        (told,) = next_one.interceptions

    assert (told.actor, told.request.caller.metadata, hint) == ("alice", {"team": "red"}, "s...e")
