"""What a person in a notebook sees."""
