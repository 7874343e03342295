"""What workers make of the canary's frames, and which of them a fleet believes.

A reference that a worker makes alone is worth what that worker is. So nobody is believed for being
first: a vector is *proposed* until a worker on another card or another machine makes the same one.
Then it *counts*, and only then are others refused for being too far from it.

nothing proposed yet                    propose mine, go on
close to what was proposed              go on; it counts now, if another machine proposed it
far from it, and nothing counts yet     propose mine too: the two dispute, and both wait
one counts, and mine is close           go on
one counts, and mine is far             leave this encoder to others

Who disputes writes nothing: of two different vectors one is wrong, and nobody here can know which.
The third worker ends it, or an operator (`reelvec models accept`). A worker that disagrees with its
own float32 loses before it proposes anything. Two workers that are broken alike and come first are
believed, until an operator says otherwise: no vote can find that out.

Limits. Of float32 it is `FLOOR`: another number of threads, other kernels and other batches moved
the float32 vectors of the frames by 1.3e-6 at most (seven models with random-tiny weights,
EfficientNet with trained ones), bfloat16 moves them by 3e-3 or more. How far bfloat16 is from
float32 differs between models (0.003 to 0.011 with random weights, 0.062 with EfficientNet's
trained ones), so it is measured: `MARGIN` times what the first worker finds, lowered by each later
one that finds less. So the limit of a broken first worker holds until the first healthy one. Never
less than `FLOOR`, and never more than `CEILING`: noise is 0.2 to 1.3 from the frames.
"""
