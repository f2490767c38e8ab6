"""Hypothesis strategies: messages and requests that every dialect can carry."""

from string import ascii_lowercase

from hypothesis import strategies as st

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Context,
    Image,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)

# Lone surrogates have no UTF-8; JSON carries them only as escapes.
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
name = st.text(ascii_lowercase + "_", min_size=1, max_size=12)
count = st.integers(0, 10_000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(text, json_values, max_size=4)
tool_calls = st.builds(ToolCall, id=name, name=name, arguments=arguments)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage as a provider would add it up."""
    known, read, output = draw(count), draw(count), draw(count)
    reasoning = draw(st.none() | st.integers(0, output))
    return Usage(known, read, None, output, reasoning, known + read + output)


@st.composite
def messages(draw: st.DrawFn) -> AssistantMessage:
    """A whole reply: thinking, text and tool calls, each once or not at all, in this order."""
    content: list[Text | Thinking | ToolCall] = []
    if draw(st.booleans()):
        content.append(Thinking(draw(text), draw(st.none() | name)))
    if draw(st.booleans()):
        content.append(Text(draw(text)))
    calls = draw(st.lists(tool_calls, max_size=3, unique_by=lambda call: call.id))
    reasons: list[StopReason] = ["tool_use"] if calls else ["stop", "length"]
    reason = draw(st.sampled_from(reasons))
    return AssistantMessage(
        (*content, *calls), draw(name), draw(name), reason, None, draw(usages())
    )


pictures = st.builds(Image, st.just("image/png"), st.just("iVBORw0KGgo=")) | st.builds(
    Image, url=name.map(lambda path: f"https://example.org/{path}.png")
)
users = st.builds(
    UserMessage, st.lists(st.builds(Text, text) | pictures, min_size=1, max_size=3).map(tuple)
)
assistants = st.builds(
    AssistantMessage,
    st.tuples(st.builds(Text, text)) | st.tuples(st.builds(Text, text), tool_calls),
)
results = st.builds(ToolResult, name, st.tuples(st.builds(Text, text)))
conversations = st.lists(
    st.tuples(users, assistants) | st.tuples(users, assistants, results), min_size=1, max_size=2
).map(lambda rounds: tuple(turn for turns in rounds for turn in turns))
asks = st.builds(
    Ask,
    name,
    st.builds(
        Context,
        st.just("") | text,
        conversations,
        st.lists(st.builds(ToolSpec, name, text, arguments), max_size=2).map(tuple),
    ),
    st.booleans(),
)
