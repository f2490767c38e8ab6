"""Where records go: each is a store."""
