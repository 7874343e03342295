"""What a worker does to find out that it computes wrongly, before it writes what it computed.

A memory cell that flips, a library that was replaced, a kernel that is wrong on one card: each
gives vectors that look like any others, and nobody who searches them later can tell. So every
worker knows 96 frames (`pictures`) and makes their vectors as it makes those of any video: by the
same thread, in the same batches, with the same compiled layers (`check`). It compares

at load    its own dtype with its own float32, computed from the weights as they were loaded, and
           that float32 with the reference of the fleet
hourly     its own dtype with that float32 again: whatever changed since then shows

Its own float32 is what makes bfloat16 comparable: two cards differ more in bfloat16 than a damaged
weight may show, in float32 they do not. How a reference comes to count, and how far is too far:
`db.canary`.

It looks at vectors, not at probabilities: what only the words of a tagger go through (the text
tower of x-clip and siglip2) is seen at load, by the weights' digest, and not again.
"""
