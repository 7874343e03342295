"""Pretrained weights: fetched, kept, described and loaded."""
