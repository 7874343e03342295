"""Videos, and what they are to be compared by."""

PAGE = """
SCHEMA reelvec
    Videos, their vectors and tags, and the ledger of the work on them. Begin with the views
    progress, failures, best_tags, the view of each encoder, and the function nearest.

TABLE videos
    One row per video. Deleting one deletes its job, vectors, scores and history, too.
video_id bigint
    The number by which all other tables know it.
uri text
    Where the video is read from: file:, s3:// or http(s):. In file and web addresses special
    characters are percent-encoded, in s3 ones they are not: compare reelvec.readable(uri) with
    LIKE.
external_id text
    The id that your own systems know it by, from the list of videos; NULL if there was none, as with
    folders and buckets. Two renditions may have one id.
category text
    What the source said it is; what a model says is in best_tags.
title text
    From the list of videos, or the name of the file.
group_key text
    Channel, uploader or series: videos that belong together.
attributes jsonb
    Every other column of the list.
etag text
    Which version of the file the vectors were made from.
size_bytes bigint
    Of the whole file; only a part of it is read.
codec text
    Of the video stream, as FFmpeg calls it.
width_px integer
    After rotation.
height_px integer
    After rotation.
fps real
    Frames a second, as the file says or as they were counted.
duration_seconds real
    Of the whole video.
added_at timestamptz
    When it was recorded first.
damaged_share real
    The part of its 96 frames, from 0 to 1, that could not be decoded cleanly.
sampler_version smallint
    Which version of the sampler looked at it last; NULL is the first.

VIEW damaged
    Videos of which a part could not be decoded cleanly.
video_id bigint
    The video.
uri text
    Its address.
external_id text
    Your own id of it.
category text
    What the source said it is.
damaged_share real
    The part of its 96 frames, from 0 to 1, that could not be decoded cleanly.
state text
    Of its job: done where enough frames were good, else failed.
error_code text
    Why it failed.

TABLE encoders
    One row per embedding space: a model with its weights and its way of sampling. Vectors of two
    encoders must not be compared.
encoder_id smallint
    The number by which other tables know it.
encoder text
    The name, as nearest takes it.
backbone text
    The model.
checkpoint text
    The published weights that the backbone is made for. What was really loaded says origin.
ref text
    Branch, tag or commit of the checkpoint.
weights text
    pretrained, or random-tiny and random-full: numbers without a meaning, for trying out.
license text
    Of the numbers that were loaded, as far as it is known.
frames_per_window smallint
    How many consecutive sampled frames the model sees at once.
sampling text
    Which frames are looked at: notebook, uniform or keyframes.
preprocessing text
    How a frame became 224 x 224 pixels.
weights_digest text
    SHA-256 of the weights; NULL until the first worker has loaded them.
dim integer
    How many numbers a vector has; NULL until the first worker has loaded the weights.
pooling text
    How one vector is made of the frames of a window.
model text
    The backbone with its kind of weights: what a worker can load or not.
canary_limits jsonb
    By dtype, how far a worker's vectors of the known frames may be from its float32, and float32
    from the reference.
origin text
    Where the numbers come from, as the worker knows that loaded them first: a commit of the hub, a
    folder that was filled by hand, a package, or chance. NULL: nobody has loaded them since
    reelvec writes it down.

TABLE label_sets
    Lists of categories with the prompts that are scored for each.
label_set_id smallint
    The number by which taggers know it.
label_set text
    Its name: en, ru, names, imagenet, or that of your file.
digest text
    SHA-256 of prompts and categories: the version of the list.
prompts text[]
    The texts that are compared with the video.
prompt_categories text[]
    The category of each prompt, in the order of prompts.

TABLE taggers
    What gives scores: an encoder with a label set, or a trained head.
tagger_id smallint
    The number by which scores and jobs know it.
tagger text
    The name, such as x-clip/en.
encoder_id smallint
    Whose vectors it reads; of a head that reads several, the first of heads.encoder_ids, or the
    first of them with random weights.
label_set_id smallint
    What it chooses among; NULL: it is a head, with a row in heads.
categories text[]
    The tags that it can give, in the order of scores.probabilities.

TABLE heads
    Heads that reelvec evaluate --save has trained on the categories of videos: numbers that make
    probabilities of vectors. reelvec tag --head gives their tags to videos.
tagger_id smallint
    The tagger that it is: its name there is head@version.
head text
    The name it was saved under.
version integer
    1, 2, ...: what was learnt anew under the same name is another version.
kind text
    How it was learnt: logistic, centroid or pls.
encoder_ids smallint[]
    The encoders whose vectors it reads, each brought to length 1, side by side.
weights_digests text[]
    Those encoders.weights_digest at that time: it reads no other vectors.
mean real[]
    What is taken off each number of a vector first.
scale real[]
    What each number is divided by then.
coefficients real[]
    By [category][number of the vector], in the order of taggers.categories.
intercept real[]
    By [category]: added to coefficients times vector, which gives logits.
temperature real
    What logits are divided by, so that the softmax of them is right as often as it says.
unsure_below real
    A video whose best probability is below this gets no tag; 0: each gets one. May be changed at
    any time, by reelvec tag --head NAME --unsure-below P.
videos integer
    How many it has learnt from.
judgement jsonb
    What reelvec evaluate found when it was last saved: of videos that its like had not seen.
    examples: ids of some videos by category and answer, the surest first.
digest text
    SHA-256 of all that decides what it says.
made_by text
    Who saved it: user@host.
made_at timestamptz
    When it was saved.
"""
