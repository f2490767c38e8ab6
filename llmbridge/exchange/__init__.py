"""One call and its reply: async, no network."""
