"""Vectors and scores, and the views of them."""

PAGE = """
TABLE video_embeddings
    One vector per video and encoder, each number a float16. For searching use nearest, or the view
    of the encoder, which has the type that an index is for.
encoder_id smallint
    What made it; vectors of two encoders must not be compared.
video_id bigint
    The video.
embedding halfvec
    The vector: the mean of those of the windows. embedding::real[] gives plain numbers.
dtype text
    The precision it was computed with.
worker_id uuid
    Who made it; its row in workers may be gone.
created_at timestamptz
    When the transaction began that wrote it.

TABLE window_embeddings
    The vectors of the windows of a video, of which the one in video_embeddings is the mean.
encoder_id smallint
    What made it.
video_id bigint
    The video.
window_index smallint
    From 0, in the order of time.
start_seconds real
    The time of its first frame in the video.
end_seconds real
    The time of its last frame in the video.
embedding halfvec
    The vector, kept in 16 bits a number.

TABLE scores
    What a tagger says of a video: a probability for each of its categories. The view tags has a
    row for each of them.
tagger_id smallint
    Who says it.
video_id bigint
    Of which video.
probabilities real[]
    In the order of tags, where that is filled, else of taggers.categories; all of them add up
    to 1.
window_probabilities real[]
    The same for each window, [window][category]; NULL where the tagger has more than 200
    categories, or is a head.
tag text
    The category with the highest probability.
probability real
    That of the tag.
worker_id uuid
    Who made it; NULL: a command, such as reelvec tag.
created_at timestamptz
    When the transaction began that wrote it.
tags text[]
    The 20 best, where the tagger has more than 200 categories; else NULL.
vectors_at timestamptz
    Of a head: when the newest of the vectors was made that it read. Where that is not the newest
    any more, reelvec tag makes the tag anew. NULL: of a label set.

TABLE contexts
    What else a model saw of a video, where enqueue --keep-context asked for it: reelvec tag
    --labels compares it with labels that come later. Of models whose text depends on the video,
    such as x-clip; 0.6 MB a video.
encoder_id smallint
    The model's encoder.
video_id bigint
    The video.
vectors bytea
    The vectors of the windows, float32 and little-endian: [window][number]. Those in
    window_embeddings are rounded, which labels would show.
context bytea
    float16, little-endian: [window][token][number].

TABLE strips
    A picture of each video that has vectors, for reelvec ui: three of its frames. Videos from
    before this table have none, nor those of enqueue --no-thumbnails.
video_id bigint
    The video.
etag text
    The version of the video that the frames are of.
strip bytea
    A WebP file of 336 x 112 pixels, about 6 KB.
made_at timestamptz
    When it was written.

TABLE packs
    Which videos have their 96 frames in the frame store (REELVEC_FRAMES): one row per video and
    sampling policy, written before the object is. Removing a row removes the object.
video_id bigint
    The video.
policy text
    The sampling policy.
digest text
    BLAKE3 of the object's bytes, which is its name. Videos with the same bytes share one.
size_bytes bigint
    Of the object.
recipe text
    How pixels were made of the frames, as encoders.preprocessing says it.
etag text
    The version of the video that the frames are of.
kept boolean
    The frames stay when nothing is owed any more (enqueue --keep-frames).
recorded_at timestamptz
    When this row was written.
written_at timestamptz
    When the object was in the store; NULL: it is not, or nobody knows.

TABLE tombstones
    Objects of the frame store whose row in packs is gone: a worker deletes them within minutes,
    unless another row names the same object.
tombstone_id bigint
    In the order in which they came.
digest text
    The object.
is_written boolean
    False: the object was not in the store yet, so it is looked for twice.
buried_at timestamptz
    When the row went.
due_at timestamptz
    When a worker looks at it next.

TABLE maps
    The maps of two dimensions that reelvec map makes of an encoder's vectors, one an encoder. While
    one is made anew there are two.
map_id integer
    Its number.
encoder_id smallint
    Whose vectors.
method text
    pca or pacmap.
vectors bigint
    Of how many vectors it was made; what came later was placed on its axes.
mean real[]
    Of pca: the mean of the vectors, each brought to length 1.
axes real[]
    Of pca: the two principal axes, [axis][number].
variance_share real
    Of pca: the share of the variance that the two axes hold, from 0 to 1.
is_whole boolean
    false: it is being made, or a run of reelvec map was broken off; the next one removes it.
made_by text
    Who ran the command.
made_at timestamptz
    When it was begun.

TABLE map_points
    A place for each vector on the map of its encoder. It goes with the vector. For reading see
    coordinates.
encoder_id smallint
    Whose vector.
video_id bigint
    Of which video.
map_id integer
    On which map.
x real
    To the right.
y real
    Upwards.

VIEW coordinates
    Where each video lies on the map of each encoder, made by reelvec map.
video_id bigint
    The video.
encoder text
    The embedding space.
x real
    To the right. Places of two encoders must not be compared.
y real
    Upwards.

VIEW embeddings
    The vectors of video_embeddings as float32, for programs older than revision 0017. It goes with
    the next release: read video_embeddings.
encoder_id smallint
    What made it.
video_id bigint
    The video.
embedding vector
    The vector.
dtype text
    The precision it was computed with.
worker_id uuid
    Who made it.
created_at timestamptz
    When the transaction began that wrote it.

VIEW tags
    Every category of every tagger for every video, the 20 best of a tagger with more than 200:
    rank 1 is its best. Taggers with random weights are left out. For one row a video see
    best_tags.
video_id bigint
    The video.
tagger text
    Who says it.
rank bigint
    1 is the best tag of this tagger for this video.
tag text
    The category.
probability real
    From 0 to 1; those of one video and tagger add up to 1.
unsure boolean
    The tagger is a head whose best probability for this video is below its unsure_below.

VIEW best_tags
    One row per video that has scores: the best tag, by a trained head where one has tagged the
    video, the latest first; else by your own labels (--labels), the latest first; else by the
    first tagger that comes with reelvec. A model's own classes (imagenet) speak only where there
    is nothing else, random weights never.
video_id bigint
    The video.
tag text
    The category with the highest probability; NULL where the head is unsure: what it would have
    said is rank 1 in tags.
probability real
    Of the best category, also where the head is unsure.
tagger text
    Who was asked.
unsure boolean
    The head that speaks for the video gave its best category less than its unsure_below.

VIEW coverage
    How many videos of each category have a vector of each encoder, those that were never queued
    among them. Reads every row.
encoder text
    The embedding space.
category text
    What the source said; NULL: nothing.
videos bigint
    How many were recorded.
embedded bigint
    How many of them have a vector.
"""
