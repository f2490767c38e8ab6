"""A conversation that an official SDK's user leads: asks, gets calls of their own tool, brings what they came to."""

from dataclasses import dataclass, field
from typing import Any

from llmbridge import Bridge

NO_ARGUMENTS: Any = {"type": "object", "properties": {}}


@dataclass
class Heard:
    """What the user of an SDK got: texts, calls as (id, name), input and output tokens."""

    text: str
    calls: list[tuple[str, str]]
    tokens: tuple[int, int]
    raw: Any = field(repr=False, compare=False)


@dataclass
class AnthropicTalk:
    """Messages; the assistant's content goes back as it came."""

    bridge: Bridge
    streaming: bool
    tools: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    history: list[Any] = field(default_factory=list[Any])
    client: dict[str, Any] = field(default_factory=dict[str, Any])

    def say(self, words: str) -> Heard:
        self.history.append({"role": "user", "content": words})
        return self._ask()

    def bring(self, results: dict[str, str]) -> Heard:
        told = [
            {"type": "tool_result", "tool_use_id": id, "content": text}
            for id, text in results.items()
        ]
        self.history.append({"role": "user", "content": told})
        return self._ask()

    def _ask(self) -> Heard:
        tools: Any = [
            {"name": n, "description": "", "input_schema": NO_ARGUMENTS} for n in self.tools
        ]
        asked: Any = {
            "model": "claude-sonnet-5",
            "max_tokens": 100,
            "messages": self.history,
            **({"tools": tools} if tools else {}),
            **self.options,
        }
        opened: Any = self.bridge.anthropic(max_retries=0, **self.client)
        with opened as client:
            if self.streaming:
                with client.messages.stream(**asked) as stream:
                    message = stream.get_final_message()
            else:
                message = client.messages.create(**asked)
        self.history.append({"role": "assistant", "content": message.content})
        return Heard(
            "".join(block.text for block in message.content if block.type == "text"),
            [(b.id, b.name) for b in message.content if b.type == "tool_use"],
            (message.usage.input_tokens, message.usage.output_tokens),
            message,
        )


@dataclass
class ChatTalk(AnthropicTalk):
    """Chat Completions; the message goes back as it came."""

    def bring(self, results: dict[str, str]) -> Heard:
        for id, text in results.items():
            self.history.append({"role": "tool", "tool_call_id": id, "content": text})
        return self._ask()

    def _ask(self) -> Heard:
        tools: Any = [
            {"type": "function", "function": {"name": n, "parameters": NO_ARGUMENTS}}
            for n in self.tools
        ]
        asked: Any = {"model": "gpt-5-mini", "messages": self.history, **self.options}
        asked |= {"tools": tools} if tools else {}
        opened: Any = self.bridge.openai(max_retries=0)
        with opened as client:
            if self.streaming:
                usage: Any = {"include_usage": True}
                with client.chat.completions.stream(**asked, stream_options=usage) as stream:
                    stream.until_done()
                    completion = stream.current_completion_snapshot
            else:
                completion = client.chat.completions.create(**asked)
        said = completion.choices[0].message
        self.history.append(said)
        return Heard(
            said.content or "",
            [(call.id, call.function.name) for call in said.tool_calls or ()],
            (completion.usage.prompt_tokens, completion.usage.completion_tokens),
            completion,
        )


@dataclass
class ResponsesTalk(AnthropicTalk):
    """Responses; all output items go back as they came."""

    def bring(self, results: dict[str, str]) -> Heard:
        for id, text in results.items():
            self.history.append({"type": "function_call_output", "call_id": id, "output": text})
        return self._ask()

    def _ask(self) -> Heard:
        response = self._respond()
        self.history += response.output
        return self._heard(response)

    def _respond(self) -> Any:
        tools: Any = [
            {"type": "function", "name": n, "parameters": NO_ARGUMENTS} for n in self.tools
        ]
        asked: Any = {"model": "gpt-5-mini", "input": self.history, **self.options}
        asked |= {"tools": tools} if tools else {}
        opened: Any = self.bridge.openai(max_retries=0)
        with opened as client:
            if self.streaming:
                with client.responses.stream(**asked) as stream:
                    *_, last = stream
                    return last.response
            return client.responses.create(**asked)

    def _heard(self, response: Any) -> Heard:
        return Heard(
            response.output_text,
            [(item.call_id, item.name) for item in response.output if item.type == "function_call"],
            (response.usage.input_tokens, response.usage.output_tokens),
            response,
        )


@dataclass
class ChainedTalk(ResponsesTalk):
    """Responses; the provider keeps the conversation, and only what is new goes to it."""

    def _ask(self) -> Heard:
        response = self._respond()
        self.options = {**self.options, "previous_response_id": response.id}
        self.history = []
        return self._heard(response)


TALKS = {
    "anthropic": AnthropicTalk,
    "chat": ChatTalk,
    "responses": ResponsesTalk,
    "chained": ChainedTalk,
}
