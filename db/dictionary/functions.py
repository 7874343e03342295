"""What can be called in SQL. The first few are for everybody, the others serve them."""

PAGE = """
FUNCTION nearest(bigint, text, integer, text)
    The k videos nearest to a video, nearest first, itself left out: SELECT * FROM nearest(42,
    'vivit', 10), or of one category only: nearest(42, 'vivit', category => 'films'). distance is
    1 - cosine, 0 to 2.
FUNCTION nearest_to(real[], text, integer, bigint, text)
    The k videos nearest to a vector of yours, nearest first; leave_out: a video that is not to be
    among them; category: only videos of it. distance is 1 - cosine, 0 to 2.
FUNCTION nearest_windows(bigint, integer, text, integer, text)
    The k windows nearest to a window of a video, nearest first, with the seconds where they begin
    and end; the video's own are left out: SELECT * FROM nearest_windows(42, 0, 'vivit').
FUNCTION nearest_windows_to(real[], text, integer, bigint, text)
    The k windows nearest to a vector of yours, as nearest_to does it for videos.
FUNCTION near_duplicates(text, double precision, bigint[])
    Pairs of videos that are nearly the same: the cosine of their vectors is not below above. Each
    pair once, with its distance, 1 - cosine; of videos with any others, without videos of all.
FUNCTION readable(text)
    An address with its percent-encoding undone, for reading and for LIKE.
FUNCTION place_of(text)
    The bucket or host of an address: s3://bucket, https://host, file://.
FUNCTION vector_schema()
    The schema that pgvector lies in, quoted.
FUNCTION nearest_vectors(boolean, real[], text, integer, bigint, text)
    What nearest_to (false) and nearest_windows_to (true) ask.
FUNCTION bound_encoder(text)
    The row of an encoder that has vectors, or an error that says which there are.
FUNCTION explain_no_vector(bigint, text)
    Says why a video has no vector of an encoder: an error for a video that is not there, else a
    notice.
FUNCTION make_encoder_view(text)
    Makes the view of an encoder; a worker calls it when it is the first.
FUNCTION comment_encoder_view(text, reelvec.encoders)
    Says in the catalogue what the view of an encoder is.
FUNCTION refuse_wanted_encoder()
    Keeps an encoder that jobs still want from being deleted.
FUNCTION withdraw_tagger()
    Takes a tagger that was deleted out of the jobs that wanted it.
FUNCTION bury_pack()
    Leaves a tombstone where a row of packs goes, or names another object.
FUNCTION take_float32()
    Writes what an older program writes into the view embeddings.
"""
