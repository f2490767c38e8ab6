"""How clients come in: each frontend takes a `handle` and passes requests in, replies out."""
