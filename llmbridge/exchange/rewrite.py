"""Changes to a request before it leaves: functions of its JSON body and the call.

The interception keeps the body as it was received, the record the one that was sent. A body that nothing has changed, or
that is not a JSON object, leaves as it came, byte for byte.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any

from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import BridgeError, ConfigurationError, RequestError
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.proxied import PROXIES, model_id
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.google_gemini import GOOGLE_GEMINI
from llmbridge.wire.loose_json import is_list, is_object
from llmbridge.wire.openai_responses import OPENAI_RESPONSES

_logger = logging.getLogger("llmbridge")

Body = dict[str, Any]
Change = Callable[[Body, Call], Body | None]
"""Changes the body in place, or gives another one."""


class Rewriter:
    """An interceptor that makes these changes, in order; more may be added while it works."""

    def __init__(self) -> None:
        self.changes: tuple[Change, ...] = ()

    def add(self, change: Change) -> None:
        """Make this change, too, after those that are there.

        Raises:
            ConfigurationError: it is no function, or an async one.
        """
        if not callable(change):
            raise ConfigurationError(
                f"{change!r:.80} is no change: give a function of body and call"
            )
        if iscoroutinefunction(change):
            raise ConfigurationError(
                f"the rewriting function {_name(change)!r} is async: give a plain one; what has to wait is an interceptor"
            )
        self.changes += (change,)

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call as the changes leave it.

        Raises:
            BridgeError: a change failed.
        """
        return forward(_rewritten(call, self.changes) if self.changes else call)


def append_text(text: str) -> Change:
    """Append to what the last message says."""

    def append(body: Body, call: Call) -> None:
        holder, key, parts = _place(body, call)
        turns = holder.get(key)
        if isinstance(turns, str):
            holder[key] = turns + text
        elif is_list(turns):
            last = turns[-1] if turns else None
            content = last.get(parts) if is_object(last) else None
            if is_object(last) and isinstance(content, str):
                last[parts] = content + text
            elif is_list(content):
                content.append(_part(text, call))
            else:
                # The last item is no message, such as the output of a tool.
                said = text if parts == "content" and holder is body else [_part(text, call)]
                turns.append({"role": "user", parts: said})

    return append


def add_system(text: str) -> Change:
    """Append to the system prompt, or make one."""

    def add(body: Body, call: Call) -> None:
        if call.dialect is ANTHROPIC_MESSAGES and is_list(blocks := body.get("system")):
            blocks.append({"type": "text", "text": text})
        elif call.dialect is ANTHROPIC_MESSAGES:
            body["system"] = _joined(body.get("system"), text)
        elif call.dialect is OPENAI_RESPONSES:
            body["instructions"] = _joined(body.get("instructions"), text)
        elif call.dialect is GOOGLE_GEMINI:
            key = "system_instruction" if "system_instruction" in body else "systemInstruction"
            said = body.get(key)
            parts = said.get("parts") if is_object(said) else None
            body[key] = {"parts": [*(parts if is_list(parts) else ()), _part(text, call)]}
        elif call.dialect.name in PROXIES:
            context, _, _ = _place(body, call)
            key = "systemPrompt" if "systemPrompt" in context else "system_prompt"
            context[key] = _joined(context.get(key), text)
        elif is_list(turns := body.get("messages")):
            system = ("system", "developer")
            said = [t for t in turns if is_object(t) and t.get("role") in system]
            turns.insert(len(said), {"role": "system", "content": text})

    return add


def set_fields(**fields: Any) -> Change:
    """Set top-level fields of the body, whatever the client sent there."""

    def put(body: Body, call: Call) -> None:
        body.update(fields)

    return put


def drop_fields(*names: str) -> Change:
    """Drop top-level fields of the body."""

    def drop(body: Body, call: Call) -> None:
        for name in names:
            body.pop(name, None)

    return drop


def swap_models(models: Mapping[str, str]) -> Change:
    """Ask another model of the same provider instead, by name; not where the path names it, as Gemini's and Azure's do.

    Raises:
        RequestError: the call names one of these models in its path.
    """

    def swap(body: Body, call: Call) -> None:
        model = body.get("model")
        if is_object(model) and model.get("id") in models:
            model["id"] = models[model["id"]]
        elif isinstance(model, str) and model in models:
            body["model"] = models[model]
        elif (call.dialect is GOOGLE_GEMINI or not model) and call.model in models:
            raise RequestError(
                f"the path names the model {call.model!r}, which swap_models cannot change: use routes"
            )

    return swap


def _place(body: Body, call: Call) -> tuple[Body, str, str]:
    """Where the messages stand: in what, under which key, and the key of what each says."""
    if call.dialect is OPENAI_RESPONSES:
        return body, "input", "content"
    if call.dialect is GOOGLE_GEMINI:
        return body, "contents", "parts"
    context = body.get("context")
    if call.dialect.name in PROXIES and is_object(context):
        return context, "messages", "content"
    return body, "messages", "content"


def _part(text: str, call: Call) -> Body:
    if call.dialect is GOOGLE_GEMINI:
        return {"text": text}
    return {"type": "input_text" if call.dialect is OPENAI_RESPONSES else "text", "text": text}


def _joined(before: Any, text: str) -> str:
    return f"{before}\n\n{text}" if isinstance(before, str) and before else text


def _changed(change: Change, body: Body, call: Call) -> Body:
    try:
        other: object = change(body, call)
    except BridgeError:
        raise
    except Exception as error:
        # The border: a user's function.
        _logger.exception("%r failed on %r", change, call)
        raise BridgeError(
            f"the rewriting function {_name(change)!r} failed with {type(error).__name__};"
            " the bridge's log says where"
        ) from error
    if other is None or is_object(other):
        return body if other is None else other
    raise BridgeError(
        f"the rewriting function {_name(change)!r} gave a {type(other).__name__}: return a dict, or None"
        " where it changed the body in place"
    )


def _name(change: object) -> str:
    return getattr(change, "__name__", repr(change))


def _rewritten(call: Call, changes: tuple[Change, ...]) -> Call:
    try:
        body: Any = loads_strict(call.request.body)
    except ValueError:
        return call
    if not is_object(body):
        return call
    for change in changes:
        body = _changed(change, body, call)
    if body == loads_strict(call.request.body):
        return call
    headers = call.request.headers.without("content-length")
    try:
        request = replace(call.request, headers=headers, body=dump(body))
    except (TypeError, ValueError) as error:
        names = ", ".join(repr(_name(change)) for change in changes)
        raise BridgeError(f"the body that {names} left is no JSON: {error}") from error
    # Gemini's path says which model is asked, and how; Azure's says which, where the body does not.
    in_path = call.dialect is GOOGLE_GEMINI
    return replace(
        call,
        request=request,
        model=call.model if in_path else model_id(body.get("model")) or call.model,
        streaming=call.streaming if in_path else call.dialect.streaming(body),
    )
