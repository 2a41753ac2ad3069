"""The embedded family of pictures: cameras that are mounted wrongly, each in its own way."""
