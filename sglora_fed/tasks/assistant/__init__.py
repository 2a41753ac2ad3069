"""The embedded task family: what people say to an on-device assistant."""
