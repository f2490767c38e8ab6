"""Tools that the bridge offers to models and runs itself."""
