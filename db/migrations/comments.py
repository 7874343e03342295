"""What tables, views, functions and columns mean, for those who meet them in psql (`\\d+`) or a browser of databases.

Revision 0009 writes it into the database. A column whose name says it all has no line.
"""

from __future__ import annotations

COMMENTS = {
    # what was recorded
    "SCHEMA reelvec": "Videos, their vectors and tags, and the ledger of the work on them. Begin with the views progress,"
    " failures, best_tags, the view of each encoder, and the function nearest.",
    "TABLE reelvec.videos": "One row per video. Deleting one deletes its job, vectors, scores and history, too.",
    "COLUMN reelvec.videos.uri": "Where the video is read from: file:, s3:// or http(s):. In file and web addresses special"
    " characters are percent-encoded, in s3 ones they are not: compare reelvec.readable(uri) with LIKE.",
    "COLUMN reelvec.videos.external_id": "The id that your own systems know it by, from the manifest.",
    "COLUMN reelvec.videos.category": "What the source said it is; what a model says is in best_tags.",
    "COLUMN reelvec.videos.group_key": "Channel, uploader or series: videos that belong together.",
    "COLUMN reelvec.videos.attributes": "Every other column of the manifest.",
    "COLUMN reelvec.videos.etag": "Which version of the file the vectors were made from.",
    "COLUMN reelvec.videos.damaged_share": "The part of its 96 frames, from 0 to 1, that could not be decoded cleanly.",
    "COLUMN reelvec.videos.sampler_version": "Which version of the sampler looked at it last; NULL is the first.",
    "VIEW reelvec.damaged": "Videos of which a part could not be decoded cleanly.",
    "TABLE reelvec.encoders": "One row per embedding space: a model with its weights and its way of sampling. Vectors of two"
    " encoders must not be compared.",
    "COLUMN reelvec.encoders.encoder": "The name, as nearest takes it.",
    "COLUMN reelvec.encoders.ref": "Branch, tag or commit of the checkpoint.",
    "COLUMN reelvec.encoders.weights": "pretrained, or random-tiny and random-full: numbers without a meaning, for trying out.",
    "COLUMN reelvec.encoders.sampling": "Which frames are looked at: notebook, uniform or keyframes.",
    "COLUMN reelvec.encoders.weights_digest": "SHA-256 of the weights; NULL until the first worker has loaded them.",
    "COLUMN reelvec.encoders.dim": "How many numbers a vector has; NULL until the first worker has loaded the weights.",
    "COLUMN reelvec.encoders.pooling": "How one vector is made of the frames of a window.",
    "TABLE reelvec.label_sets": "Lists of categories with the prompts that are scored for each.",
    "COLUMN reelvec.label_sets.prompt_categories": "The category of each prompt, in the order of prompts.",
    "TABLE reelvec.taggers": "An encoder with a label set: what gives scores.",
    "COLUMN reelvec.taggers.categories": "The tags that it can give, in the order of scores.probabilities.",
    # the work on it
    "TABLE reelvec.jobs": "The ledger: one row per video, with what is wanted of it and how far that is.",
    "COLUMN reelvec.jobs.encoders": "Ids of the encoders whose vectors are wanted.",
    "COLUMN reelvec.jobs.taggers": "Ids of the taggers whose scores are wanted.",
    "COLUMN reelvec.jobs.owes": "Ids of the encoders that are left to be made; NULL stands for all that are wanted.",
    "COLUMN reelvec.jobs.queue": "The encoder by whose own queue it was sent; NULL is the queue of all workers.",
    "COLUMN reelvec.jobs.recheck": "Look at it again although its vectors are there.",
    "VIEW reelvec.model_progress": "For each encoder: videos that want it, have it, failed, wait, and wait for its weights.",
    "FUNCTION reelvec.refuse_wanted_encoder()": "Keeps an encoder that jobs still want from being deleted.",
    "FUNCTION reelvec.withdraw_tagger()": "Takes a tagger that was deleted out of the jobs that wanted it.",
    "COLUMN reelvec.jobs.state": "pending (to be handed out), queued (a message is out), running, done, failed or cancelled.",
    "COLUMN reelvec.jobs.force": "Make again what exists.",
    "COLUMN reelvec.jobs.token": "Counts the claims: a worker that lost its claim cannot write any more.",
    "COLUMN reelvec.jobs.attempts": "How often it was tried and failed, since it was enqueued or retried.",
    "COLUMN reelvec.jobs.strikes": "How often the sampler died on it; three are poison.",
    "COLUMN reelvec.jobs.lost_count": "How often a worker died with it in hand.",
    "COLUMN reelvec.jobs.not_before": "It is not tried again before this time.",
    "COLUMN reelvec.jobs.deadline_at": "Who holds it loses it at this time.",
    "COLUMN reelvec.jobs.error_code": "Why the last attempt failed, as the guide lists it.",
    "COLUMN reelvec.jobs.infra_since": "Since when it waits for a service or a key, which is no fault of its own.",
    "COLUMN reelvec.jobs.place_id": "The bucket or host it lies in.",
    "COLUMN reelvec.jobs.decode_seconds": "CPU time of sampling.",
    "COLUMN reelvec.jobs.wait_seconds": "From the handing in of the frames to the answer, the time on the device included.",
    "COLUMN reelvec.jobs.device_seconds": "The video's share of the device's time.",
    "TABLE reelvec.attempts": "One row per attempt that failed.",
    "COLUMN reelvec.attempts.stage": "Where it failed: fetch, sample or encode.",
    "TABLE reelvec.places": "Buckets and hosts, and which of them are closed because no worker can read there.",
    "COLUMN reelvec.places.closed_at": "Since when nothing is taken from there; NULL: it is open.",
    "COLUMN reelvec.places.probe_video_id": "The video that was last tried to see whether the place is well again.",
    "TABLE reelvec.place_workers": "What each worker meets at a place: one that alone fails there leaves it to the others.",
    "COLUMN reelvec.place_workers.failing_since": "Since when it takes nothing from there; NULL: it reads there.",
    "TABLE reelvec.paused_backbones": "Models that rest while the others go on, and why.",
    "TABLE reelvec.workers": "One row per worker process, renewed every few seconds while it lives.",
    "COLUMN reelvec.workers.models": "What it can load: backbones, with the kind of weights unless they are pretrained.",
    "COLUMN reelvec.workers.refused_encoders": "Ids of encoders that were made with other weights than it has.",
    "COLUMN reelvec.workers.in_flight": "How many videos it takes at once.",
    "COLUMN reelvec.workers.beating_since": "Since when it has beaten without a gap.",
    "COLUMN reelvec.workers.beat_at": "Its last sign of life.",
    "COLUMN reelvec.workers.claimed_at": "When it last took a video.",
    "TABLE reelvec.control": "Whether everything is paused, and why.",
    "TABLE reelvec.actions": "Who has retried, cancelled, paused and resumed what, and how many videos that was.",
    "TABLE reelvec.census": "Counts of the ledger that all who ask share, and when they were taken.",
    "TABLE reelvec.schema_revisions": "Every revision of this schema, and the oldest program that may still write to it.",
    "TABLE reelvec.alembic_version": "The revision of this schema.",
    # what came of it
    "TABLE reelvec.embeddings": "One vector per video and encoder. For searching use nearest, or the view of the encoder, which"
    " has the type that an index is for.",
    "COLUMN reelvec.embeddings.dtype": "The precision it was computed with.",
    "TABLE reelvec.window_embeddings": "The vectors of the windows of a video, of which the one in embeddings is the mean.",
    "COLUMN reelvec.window_embeddings.start_seconds": "The time of its first frame in the video.",
    "TABLE reelvec.scores": "What a tagger says of a video: a probability for each of its categories. The view tags has a row"
    " for each of them.",
    "COLUMN reelvec.scores.probabilities": "In the order of taggers.categories; they add up to 1.",
    "COLUMN reelvec.scores.window_probabilities": "The same for each window: [window][category].",
    "COLUMN reelvec.scores.tag": "The category with the highest probability.",
    # to be asked
    "VIEW reelvec.progress": "Videos of each category by state. On a million videos this takes a second.",
    "COLUMN reelvec.progress.videos_per_second": "Ended in the last 10 minutes.",
    "VIEW reelvec.failures": "Every video that failed, and why.",
    "VIEW reelvec.tags": "Every category of every tagger for every video: rank 1 is its best. For one row a video see best_tags.",
    "VIEW reelvec.best_tags": "One row per video that has scores: the best tag, by your own labels (--labels) where the video"
    " has been scored with them, the latest first; otherwise by the first tagger that comes with reelvec.",
    "VIEW reelvec.coverage": "How many videos of each category have a vector of each encoder. Reads every row.",
    "FUNCTION reelvec.nearest(bigint, text, int)": "The k videos nearest to a video, nearest first, itself left out:"
    " SELECT * FROM nearest(42, 'vivit', 10). distance is 1 - cosine, 0 to 2.",
    "FUNCTION reelvec.nearest_to(real[], text, int, bigint)": "The k videos nearest to a vector of yours, nearest first;"
    " leave_out: a video that is not to be among them. distance is 1 - cosine, 0 to 2.",
    "FUNCTION reelvec.readable(text)": "An address with its percent-encoding undone, for reading and for LIKE.",
    "FUNCTION reelvec.place_of(text)": "The bucket or host of an address: s3://bucket, https://host, file://.",
    "FUNCTION reelvec.vector_schema()": "The schema that pgvector lies in, quoted.",
    "FUNCTION reelvec.bound_encoder(text)": "The row of an encoder that has vectors, or an error that says which there are.",
    "FUNCTION reelvec.make_encoder_view(text)": "Makes the view of an encoder; a worker calls it when it is the first.",
    "FUNCTION reelvec.comment_encoder_view(text, reelvec.encoders)": "Says in the catalogue what the view of an encoder is.",
}  # fmt: skip
