"""Where weights come from, by the names that `--weights` and encoders use. Importing it is free:
`reelvec status` names all queues by it.
"""

#: `pretrained` reads a folder; the other two are seeded random numbers for demonstration, tests and
#: benches.
WEIGHTS_KINDS = ("pretrained", "random-tiny", "random-full")
