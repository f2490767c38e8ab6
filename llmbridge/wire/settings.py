"""What a request asks beside model and context, in words that the dialects share, and how each of them spells it.

Source: the request references of Anthropic Messages, OpenAI Chat Completions and OpenAI Responses. Only translation
needs this: what is relayed keeps its own words. Prompt cache marks are hints and are left out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from llmbridge.canon.messages import JsonObject
from llmbridge.wire.loose_json import in_camel, is_list, is_object, objects
from llmbridge.wire.proxy_context import strange

THINKING_BUDGETS: Mapping[str, int] = MappingProxyType(
    {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 16384}
)
"""Tokens that a level of thinking may take, for providers that count them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one request; None: not said.

    `tool_choice` is `auto`, `none`, `required`, or `=NAME` for one tool. `thinking` is `off` or a level of
    `THINKING_BUDGETS`; `thinking_tokens` is the budget where the client gave one. `cache_retention` is `short` or
    `long`: a hint, for providers that cache where they are asked to.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    thinking: str | None = None
    thinking_tokens: int | None = None
    user: str | None = None
    cache_retention: str | None = None


class Untranslatable(ValueError):
    """Something in a request has no place in another dialect; the message names it."""


@dataclass(frozen=True, slots=True)
class SettingsCodec:
    """One dialect's spelling. `strange` names what stands in the context and is not in canon."""

    decode: Callable[[JsonObject], Settings]
    encode: Callable[[Settings], JsonObject]
    strange: Callable[[JsonObject], Iterator[str]]


def _decode_messages(options: JsonObject) -> Settings:
    rest = _said(options)
    thinking, tokens = _decode_thinking(rest.pop("thinking", None))
    choice = _object(rest.pop("tool_choice", None))
    serial = choice.get("disable_parallel_tool_use")
    named = {"any": "required", "tool": f"={choice.get('name')}"}
    kind: str | None = choice.get("type")
    user = _object(rest.pop("metadata", None)).get("user_id")
    settings = Settings(
        max_tokens=rest.pop("max_tokens", None),
        temperature=rest.pop("temperature", None),
        top_p=rest.pop("top_p", None),
        stop=tuple(rest.pop("stop_sequences", ())),
        tool_choice=named.get(kind, kind) if kind else None,
        parallel_tool_calls=None if serial is None else not serial,
        thinking=thinking,
        thinking_tokens=tokens,
        user=user,
    )
    return _nothing_left(rest, settings)


def _decode_thinking(value: Any) -> tuple[str | None, int | None]:
    if not is_object(value):
        return None, None
    if value.get("type") == "disabled":
        return "off", None
    tokens = value.get("budget_tokens")
    if not isinstance(tokens, int):
        return "medium", None
    return _level_of(tokens), tokens


def _encode_messages(settings: Settings) -> JsonObject:
    body: dict[str, Any] = _given(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        stop_sequences=list(settings.stop) or None,
        metadata={"user_id": settings.user} if settings.user else None,
    )
    if settings.cache_retention:
        body["cache_control"] = {"type": "ephemeral"}
    if settings.thinking == "off":
        body["thinking"] = {"type": "disabled"}
    elif settings.thinking is not None:
        tokens = settings.thinking_tokens or THINKING_BUDGETS.get(settings.thinking, 8192)
        body["thinking"] = {"type": "enabled", "budget_tokens": tokens}
        # The budget is a part of max_tokens here.
        body["max_tokens"] = (settings.max_tokens or 4096) + tokens
    if settings.tool_choice or settings.parallel_tool_calls is not None:
        body["tool_choice"] = _choice_of_messages(settings)
    return body


def _choice_of_messages(settings: Settings) -> JsonObject:
    choice: dict[str, Any]
    match settings.tool_choice:
        case "required":
            choice = {"type": "any"}
        case str(name) if name.startswith("="):
            choice = {"type": "tool", "name": name[1:]}
        case other:
            choice = {"type": other or "auto"}
    if settings.parallel_tool_calls is not None and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = not settings.parallel_tool_calls
    return choice


def _decode_chat(options: JsonObject) -> Settings:
    rest = _said(options, stream_options=..., n=1, logprobs=False, store=False)
    stop = rest.pop("stop", ())
    choice = rest.pop("tool_choice", None)
    if is_object(choice):
        choice = f"={_object(choice.get('function')).get('name')}"
    most, older = rest.pop("max_completion_tokens", None), rest.pop("max_tokens", None)
    settings = Settings(
        max_tokens=most if most is not None else older,
        temperature=rest.pop("temperature", None),
        top_p=rest.pop("top_p", None),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        tool_choice=choice,
        parallel_tool_calls=rest.pop("parallel_tool_calls", None),
        thinking=_level(rest.pop("reasoning_effort", None)),
        user=rest.pop("user", None),
    )
    return _nothing_left(rest, settings)


def _encode_chat(settings: Settings) -> JsonObject:
    choice: Any = settings.tool_choice
    if choice and choice.startswith("="):
        choice = {"type": "function", "function": {"name": choice[1:]}}
    return _given(
        max_completion_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        stop=list(settings.stop) or None,
        tool_choice=choice,
        parallel_tool_calls=settings.parallel_tool_calls,
        reasoning_effort=_effort(settings.thinking),
        user=settings.user,
    )


def _decode_responses(options: JsonObject) -> Settings:
    rest = _said(options, stream_options=..., store=False, truncation="disabled", background=False)
    reasoning = _object(rest.pop("reasoning", None))
    # Encrypted reasoning is what a client asks for that keeps no state at the provider.
    if rest.get("include") in ([], ["reasoning.encrypted_content"]):
        del rest["include"]
    if rest.get("text") == {"format": {"type": "text"}}:
        del rest["text"]
    choice = rest.pop("tool_choice", None)
    if is_object(choice):
        choice = f"={choice.get('name')}"
    settings = Settings(
        max_tokens=rest.pop("max_output_tokens", None),
        temperature=rest.pop("temperature", None),
        top_p=rest.pop("top_p", None),
        tool_choice=choice,
        parallel_tool_calls=rest.pop("parallel_tool_calls", None),
        thinking=_level(reasoning.get("effort")),
        user=rest.pop("user", None),
    )
    return _nothing_left(rest, settings)


def _encode_responses(settings: Settings) -> JsonObject:
    if settings.stop:
        raise Untranslatable("stop sequences, which the Responses API does not have")
    choice: Any = settings.tool_choice
    if choice and choice.startswith("="):
        choice = {"type": "function", "name": choice[1:]}
    effort = _effort(settings.thinking)
    return _given(
        max_output_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        tool_choice=choice,
        parallel_tool_calls=settings.parallel_tool_calls,
        reasoning={"effort": effort} if effort else None,
        user=settings.user,
    )


_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}


def _leveled(level: Any, **settings: Any) -> Settings:
    """Settings with a proxy client's level of thinking: its token budget, and the nearest level that all providers have."""
    if level in (None, "", "off", False):
        return Settings(**settings)
    level = "medium" if level is True else level
    if not isinstance(level, str) or level not in _EFFORTS:
        known = ", ".join(("off", *_EFFORTS))
        raise Untranslatable(f"the thinking level {level!r}: give one of {known}")
    return Settings(**settings, thinking=_EFFORTS[level], thinking_tokens=THINKING_BUDGETS[level])


def _decode_api_stream(options: JsonObject) -> Settings:
    # How a client reaches its proxy is between the two.
    ours = dict.fromkeys(("provider", "api", "cost", "spelling"), ...)
    ways = dict.fromkeys(("headers", "transport", "sessionId", "maxRetryDelayMs"), ...)
    rest = _said(options, **ours, **ways)
    level = rest.pop("thinking_level", None)
    level = rest.pop("reasoning", level)
    retention = rest.pop("cacheRetention", None)
    budgets = _object(rest.pop("thinkingBudgets", None))
    budget = budgets.get(level) if isinstance(level, str) else None
    user = _object(rest.pop("metadata", None)).get("user_id")
    settings = _leveled(
        level,
        temperature=rest.pop("temperature", None),
        max_tokens=rest.pop("maxTokens", None),
        cache_retention=None if retention == "none" else retention,
        user=user if isinstance(user, str) else None,
    )
    if settings.thinking and isinstance(budget, int):
        settings = replace(settings, thinking_tokens=budget)
    return _nothing_left(rest, settings)


def _encode_api_stream(settings: Settings) -> JsonObject:
    _only(settings, "max_tokens", "temperature", "thinking", "thinking_tokens")
    return _given(
        temperature=settings.temperature, maxTokens=settings.max_tokens, reasoning=settings.thinking
    )


def _decode_proxy_stream(options: JsonObject) -> Settings:
    rest = _said(options)
    retention = rest.pop("cache_retention", None)
    # What is left is passed over, as Go does.
    return _leveled(
        rest.pop("thinking_level", None),
        temperature=rest.pop("temperature", None),
        max_tokens=rest.pop("max_tokens", None) or None,
        cache_retention=None if retention == "none" else retention or None,
    )


def _encode_proxy_stream(settings: Settings) -> JsonObject:
    _only(settings, "max_tokens", "temperature", "thinking", "thinking_tokens", "cache_retention")
    return _given(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        thinking_level=settings.thinking,
        cache_retention=settings.cache_retention,
    )


def _only(settings: Settings, *carried: str) -> None:
    """Refuse what a proxy protocol has no word for; who asks is a hint."""
    lost = [
        f.name
        for f in fields(settings)
        if f.name not in (*carried, "user") and getattr(settings, f.name) not in (f.default, "auto")
    ]
    if lost:
        raise Untranslatable(", ".join(lost))


def _decode_gemini(options: JsonObject) -> Settings:
    rest = _said(in_camel(options), labels=...)
    config = _said(in_camel(rest.pop("generationConfig", None)), candidateCount=1)
    if config.get("responseMimeType") == "text/plain":
        del config["responseMimeType"]
    thinking = in_camel(config.pop("thinkingConfig", None))
    calling = in_camel(in_camel(rest.pop("toolConfig", None)).get("functionCallingConfig"))
    level, tokens = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if isinstance(tokens, int) and level is None:
        level = "off" if tokens == 0 else "medium" if tokens < 0 else _level_of(tokens)
    settings = Settings(
        max_tokens=config.pop("maxOutputTokens", None),
        temperature=config.pop("temperature", None),
        top_p=config.pop("topP", None),
        stop=tuple(config.pop("stopSequences", ())),
        tool_choice=_gemini_choice(calling),
        thinking=level.lower() if isinstance(level, str) else None,
        thinking_tokens=tokens if isinstance(tokens, int) and tokens > 0 else None,
    )
    return _nothing_left({**rest, **config}, settings)


def _gemini_choice(calling: dict[str, Any]) -> str | None:
    allowed = calling.get("allowedFunctionNames")
    if is_list(allowed) and len(allowed) == 1 and calling.get("mode") == "ANY":
        return f"={allowed[0]}"
    if allowed:
        raise Untranslatable("several names in allowedFunctionNames")
    modes = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
    return modes.get(calling.get("mode") or "")


def _encode_gemini(settings: Settings) -> JsonObject:
    if settings.parallel_tool_calls is False:
        raise Untranslatable("parallel_tool_calls=false, for which Gemini has no word")
    config = _given(
        maxOutputTokens=settings.max_tokens,
        temperature=settings.temperature,
        topP=settings.top_p,
        stopSequences=list(settings.stop) or None,
    )
    if settings.thinking == "off":
        config["thinkingConfig"] = {"thinkingBudget": 0}
    elif settings.thinking is not None:
        tokens = settings.thinking_tokens or THINKING_BUDGETS.get(settings.thinking, 8192)
        config["thinkingConfig"] = {"thinkingBudget": tokens, "includeThoughts": True}
    body: dict[str, Any] = {"generationConfig": config} if config else {}
    match settings.tool_choice:
        case None:
            return body
        case name if name.startswith("="):
            calling = {"mode": "ANY", "allowedFunctionNames": [name[1:]]}
        case "required":
            calling = {"mode": "ANY"}
        case other:
            calling = {"mode": other.upper()}
    return {**body, "toolConfig": {"functionCallingConfig": calling}}


def _level_of(tokens: int) -> str:
    return next((name for name, most in THINKING_BUDGETS.items() if tokens <= most), "xhigh")


def _strange_gemini(body: JsonObject) -> Iterator[str]:
    known = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
    known_tool = "functionDeclarations"
    for content in objects(body.get("contents")):
        for part in objects(content.get("parts")):
            if not any(name in in_camel(part) for name in known):
                yield f"contents: {', '.join(repr(name) for name in part)}"
    for tool in objects(body.get("tools")):
        yield from (f"tools: {name!r}" for name in in_camel(tool) if name != known_tool)


def _object(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}


def _level(effort: Any) -> str | None:
    return "off" if effort == "none" else effort


def _effort(thinking: str | None) -> str | None:
    return "none" if thinking == "off" else thinking


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _said(options: JsonObject, **harmless: Any) -> dict[str, Any]:
    """The options that say something: null says nothing, nor does a `harmless` one (`...`: whatever its value)."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and not (name in harmless and harmless[name] in (value, ...))
    }


def _nothing_left(rest: Mapping[str, Any], settings: Settings) -> Settings:
    if rest:
        raise Untranslatable(", ".join(repr(name) for name in rest))
    return settings


def _strange_messages(body: JsonObject) -> Iterator[str]:
    known = ("text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking")
    parts = [("system", part) for part in objects(body.get("system"))]
    for turn in objects(body.get("messages")):
        for part in objects(turn.get("content")):
            parts.append(("messages", part))
            parts += [("messages", inner) for inner in objects(part.get("content"))]
    yield from (f"{where}: {p.get('type')!r}" for where, p in parts if p.get("type") not in known)
    for tool in objects(body.get("tools")):
        if tool.get("type") not in (None, "custom"):
            yield f"tools: {tool.get('type')!r}"


def _strange_chat(body: JsonObject) -> Iterator[str]:
    for turn in objects(body.get("messages")):
        for part in objects(turn.get("content")):
            if part.get("type") not in ("text", "image_url", "refusal"):
                yield f"messages: {part.get('type')!r}"
    for tool in objects(body.get("tools")):
        if tool.get("type") != "function":
            yield f"tools: {tool.get('type')!r}"


def _strange_responses(body: JsonObject) -> Iterator[str]:
    items = (None, "message", "function_call", "function_call_output", "reasoning")
    parts = ("input_text", "output_text", "text", "refusal", "input_image")
    for item in objects(body.get("input")):
        if item.get("type") not in items:
            yield f"input: {item.get('type')!r}"
        for part in objects(item.get("content")):
            if part.get("type") not in parts and item.get("type") != "reasoning":
                yield f"input: {part.get('type')!r}"
        output = item.get("output")
        for part in objects(output) if is_list(output) else ():
            if part.get("type") not in parts:
                yield f"input: {part.get('type')!r}"
    for tool in objects(body.get("tools")):
        if tool.get("type") != "function":
            yield f"tools: {tool.get('type')!r}"


SETTINGS: Mapping[str, SettingsCodec] = MappingProxyType(
    {
        "anthropic.messages": SettingsCodec(_decode_messages, _encode_messages, _strange_messages),
        "openai.chat": SettingsCodec(_decode_chat, _encode_chat, _strange_chat),
        "openai.responses": SettingsCodec(_decode_responses, _encode_responses, _strange_responses),
        "google.gemini": SettingsCodec(_decode_gemini, _encode_gemini, _strange_gemini),
        "proxy.stream": SettingsCodec(
            _decode_proxy_stream, _encode_proxy_stream, lambda body: iter(())
        ),
        "proxy.api_stream": SettingsCodec(_decode_api_stream, _encode_api_stream, strange),
    }
)
"""The dialects that can be translated, by name."""
