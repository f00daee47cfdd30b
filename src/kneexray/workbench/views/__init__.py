"""The pages, one file each: what is shown and asked. Each has a function ``show``."""
