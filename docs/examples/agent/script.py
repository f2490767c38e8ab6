"""Make the cassettes by a script in place of the provider: nobody needs a key, and every name is invented."""

import os
from pathlib import Path

from llmbridge import Bridge, Script, ToolCall, calls, reply

CASSETTES = Path(__file__).parent / "tests" / "cassettes" / "test_agent"

CONVERSATIONS = {
    "test_it_looks_before_it_books": (
        "Somewhere warm for three days, Lisbon or Oslo: book the better one.",
        reply(
            "I will look at the weather in both.",
            ToolCall("", "weather", {"city": "Lisbon"}),
            ToolCall("", "weather", {"city": "Oslo"}),
        ),
        calls("book", city="Lisbon", days=3),
        "Lisbon it is: 19 degrees and no rain. Your three days are booked.",
    ),
    "test_it_tells_the_weather[Lisbon]": (
        "How is the weather in Lisbon?",
        calls("weather", city="Lisbon"),
        "19 degrees with a light wind.",
    ),
    "test_it_tells_the_weather[Oslo]": (
        "How is the weather in Oslo?",
        calls("weather", city="Oslo"),
        "2 degrees, and it snows.",
    ),
}


def main() -> None:
    os.environ.setdefault("ANTHROPIC_API_KEY", "none")
    import agent  # makes its client

    for name, (question, *lines) in CONVERSATIONS.items():
        path = CASSETTES / f"{name}.yaml"
        path.unlink(missing_ok=True)
        with Bridge(Script(*lines), store=path) as bridge:
            agent.client = bridge.anthropic()
            agent.Agent().ask(question)


if __name__ == "__main__":
    main()
