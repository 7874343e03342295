"""The ledger, and the views of it."""

PAGE = """
TABLE jobs
    The ledger: one row per video, with what is wanted of it and how far that is.
video_id bigint
    The video.
encoders smallint[]
    Ids of the encoders whose vectors are wanted.
taggers smallint[]
    Ids of the taggers whose scores are wanted.
state text
    pending (to be handed out), queued (a message is out), running, done, failed or cancelled.
force boolean
    Make again what exists.
token bigint
    Counts the claims: a worker that lost its claim cannot write any more.
worker_id uuid
    Who has it, or had it last.
attempts smallint
    How often it was tried and failed, since it was enqueued or retried.
strikes smallint
    How often the sampler died on it; three are poison.
lost_count smallint
    How often a worker died with it in hand.
not_before timestamptz
    It is not tried again before this time.
deadline_at timestamptz
    Who holds it loses it at this time.
error_code text
    Why the last attempt failed, as the guide lists it.
error text
    The same in words.
enqueued_at timestamptz
    When it was asked for last.
queued_at timestamptz
    When its message was sent last.
started_at timestamptz
    When a worker took it last.
finished_at timestamptz
    When it was done, failed or cancelled.
bytes_read bigint
    What was read of the file.
fetch_seconds real
    Time spent waiting for bytes.
decode_seconds real
    CPU time of sampling.
wait_seconds real
    From the handing in of the frames to the answer, the time on the device included.
device_seconds real
    The video's share of the device's time.
infra_since timestamptz
    Since when it waits for a service or a key, which is no fault of its own.
place_id integer
    The bucket or host it lies in.
recheck boolean
    Look at it again although its vectors are there.
owes smallint[]
    Ids of the encoders that are left to be made; NULL stands for all that are wanted.
queue smallint
    The encoder by whose own queue it was sent; NULL is the queue of all workers.
wants_strip boolean
    Whether a picture is kept with the vectors; NULL: yes.
keep_context boolean
    Keep what other labels need later (contexts), too.
stage text
    What its next worker needs: video, or frames, which are sampled and lie in the frame store.
keep_frames boolean
    Its frames stay in the frame store, for models that are added later.
frames_lost smallint
    How often its frames were not to be read again whole; three times and it has failed.
bytes_written bigint
    Of packs of frames that were written when it was sampled.
frames_bytes bigint
    Of packs of frames that were read to embed it.
frames_seconds real
    How long reading and unpacking those took.

TABLE attempts
    One row per attempt that failed.
video_id bigint
    The video.
attempt smallint
    Which try it was, from 1.
stage text
    Where it failed: fetch, sample, store, encode, or run for what belongs to none of them.
error_code text
    Why, as the guide lists it.
error text
    The same in words.
encoder text
    The one that failed, where it was one.
worker_id uuid
    Who tried.
at timestamptz
    When it failed.
sampler_version smallint
    Which version of the sampler looked; NULL is the first.

VIEW progress
    Videos of each category by state, and all of them together. On a million videos this takes a
    second.
category text
    What the source said; (none): nothing; (all): the sum.
videos bigint
    How many have a job.
done bigint
    With everything that was wanted.
failed bigint
    For good; failures says why.
running bigint
    In a worker's hands.
waiting bigint
    Pending or queued.
cancelled bigint
    Taken off by an operator.
videos_per_second numeric
    How many videos became done in the last 600 seconds, divided by 600: a mean over this time, in
    which workers may have been idle. reelvec status counts from the start of the work, so after a
    short job it says more.

VIEW failures
    Every video that failed, and why.
video_id bigint
    The video.
uri text
    Its address.
external_id text
    Your own id of it.
category text
    What the source said it is.
error_code text
    Why, as the guide lists it.
error text
    The same in words.
attempts smallint
    How often it was tried.
finished_at timestamptz
    When it was given up.

VIEW model_progress
    For each encoder: videos that want it, have it, failed, wait, and wait for its weights.
encoder text
    The embedding space.
wanted bigint
    Videos whose jobs ask for it.
embedded bigint
    Those that do not owe it any more.
failed bigint
    Those that failed and owe it.
waiting bigint
    Those that are still to be made.
waiting_for_weights bigint
    Those of the waiting that no live worker could make.

TABLE actions
    Who has retried, cancelled, paused and resumed what, and how many videos that was.
action_id bigint
    In the order of time.
at timestamptz
    When.
action text
    The command.
who text
    user@host of the desk.
what text
    The selectors, as they could be typed again.
videos bigint
    How many it changed; NULL where none are counted.

TABLE census
    Counts of the ledger that all who ask share, in one row.
census_id boolean
    Always true: there is one row.
taken_at timestamptz
    When the counts were taken.
looked_at timestamptz
    When somebody asked for them last; workers keep them fresh for 10 minutes after that.
groups jsonb
    Videos counted by state, error code, what they want and owe, and more.
categories jsonb
    Videos counted by category and state.
sets jsonb
    Used by versions before 0022 alone.
sets_of text
    Used by versions before 0022 alone.

TABLE schema_revisions
    Every revision of this schema.
revision text
    Its number.
compatible_from text
    The revision of the oldest program that may still write.

TABLE alembic_version
    The revision of this schema.
version_num character varying
    Its number.
"""
