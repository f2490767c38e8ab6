"""`python -m llmbridge`: the command line."""

from llmbridge.cli import main

if __name__ == "__main__":
    main()
