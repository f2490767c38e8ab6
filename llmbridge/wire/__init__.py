"""How it is spelled: bytes to canon and back; no I/O."""
