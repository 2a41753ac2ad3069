"""Messages between server and client, their validation, and both sides of the work."""
