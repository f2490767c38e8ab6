"""Stand between LLM clients and providers: relay, record, replay and analyse every call."""
