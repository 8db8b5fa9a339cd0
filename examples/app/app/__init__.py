"""A small text laboratory: the application that the demo and the tests of bulwark.stack deploy."""
