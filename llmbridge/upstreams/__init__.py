"""Where replies come from: each is a handler."""
