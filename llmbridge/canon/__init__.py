"""What a reply is: values; standard library only, no I/O."""
