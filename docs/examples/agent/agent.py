"""A travel agent: asks the model, runs the tools that it wants, asks again."""

import anthropic

client = anthropic.Anthropic()

MODEL = "claude-sonnet-5"
WEATHER = {"Lisbon": "19 degrees, light wind, no rain", "Oslo": "2 degrees, snow"}
TOOLS = [
    {
        "name": "weather",
        "description": "The weather in a city now.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
    {
        "name": "book",
        "description": "Book a trip.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
]


class Agent:
    """One conversation; `booked` is what came of it."""

    def __init__(self) -> None:
        self.messages: list = []
        self.booked: list[tuple[str, int]] = []

    def ask(self, text: str, rounds: int = 5) -> str:
        """The model's last word, or an apology: an agent has to go on whatever happens."""
        self.messages.append({"role": "user", "content": text})
        for _ in range(rounds):
            try:
                message = self._round()
            except Exception:
                return "Sorry, I cannot help you now."
            self.messages.append({"role": "assistant", "content": _plain(message.content)})
            results = [self._use(block) for block in message.content if block.type == "tool_use"]
            if not results:
                return "".join(block.text for block in message.content if block.type == "text")
            self.messages.append({"role": "user", "content": results})
        return "Sorry, that was too much for me."

    def _round(self):
        with client.messages.stream(
            model=MODEL, max_tokens=1024, tools=TOOLS, messages=self.messages
        ) as stream:
            return stream.get_final_message()

    def _use(self, call) -> dict:
        if call.name == "weather":
            result = WEATHER.get(call.input["city"], "unknown")
        else:
            self.booked.append((call.input["city"], call.input["days"]))
            result = "booked"
        return {"type": "tool_result", "tool_use_id": call.id, "content": result}


def _plain(content) -> list[dict]:
    kept = {"text": ("type", "text"), "tool_use": ("type", "id", "name", "input")}
    return [{key: getattr(block, key) for key in kept[block.type]} for block in content]
