"""Frames that are kept outside a process: 96 of a video in one object, and the store of those."""
