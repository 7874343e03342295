"""Workers, places, and what holds them up."""

PAGE = """
TABLE workers
    One row per worker process, renewed every few seconds while it lives.
worker_id uuid
    Made anew by every process.
host text
    The node.
pid integer
    The process on it.
device text
    cpu, or the GPU with its model.
version text
    Of reelvec.
in_flight integer
    How many videos it takes at once.
draining boolean
    It is ending and takes nothing new.
started_at timestamptz
    When it was ready first.
beating_since timestamptz
    Since when it has beaten without a gap.
beat_at timestamptz
    Its last sign of life.
samplers integer
    How many processes of it decode.
cores real
    How many cores it may use.
videos_per_batch integer
    Most videos of a batch on its device.
queued_windows integer
    Windows that wait for its device.
running_windows integer
    Windows on its device.
name text
    How people know it, such as gpu0@node-3.
claimed_at timestamptz
    When it last took a video.
videos_done bigint
    Since it started.
videos_failed bigint
    Since it started.
videos_per_second real
    Over the last 10 minutes.
last_error text
    What it met last.
last_error_at timestamptz
    When that was.
models text[]
    What it can load: backbones, with the kind of weights unless they are pretrained.
refused_encoders smallint[]
    Ids of encoders that were made with other weights than it has.
stage text
    video, or sample for one that samples alone and leaves the rest to others.
pack_slots integer
    How many packs of frames it takes at once besides.

TABLE canaries
    What workers made of the canary, 96 known frames, where it is the reference of an encoder or
    differs from it. Workers that agree have no row.
encoder_id smallint
    The embedding space.
worker_id uuid
    Who made it.
worker text
    How people know it, such as gpu0@node-3.
machine text
    What it computes on: a card's id, or the host's name. Workers of one machine do not confirm
    each other.
device text
    cpu, or the GPU with its model.
software text
    The version of torch.
dtype text
    The precision it computes with.
distance double precision
    How far its own dtype is from its own float32, as a part of the vector's length.
vector real[]
    The pooled vector of the frames, computed in float32.
standing text
    proposed: nobody else has made it yet; reference: it counts; other: another one counts, or its
    maker has drifted.
refusal text
    Why this worker makes nothing of the encoder; NULL: it may.
agreed_by text
    The worker or the operator by whom it counts.
made_at timestamptz
    When it was computed.
judged_at timestamptz
    When its maker or its standing was last judged anew.

TABLE places
    Buckets and hosts, and which of them are closed because no worker can read there.
place_id integer
    The number by which jobs know it.
place text
    s3://bucket, https://host or file://.
closed_at timestamptz
    Since when nothing is taken from there; NULL: it is open.
error_code text
    Why it was closed.
error text
    The same in words.
probe_video_id bigint
    The video that was last tried to see whether the place is well again.
probe_at timestamptz
    When that was.

TABLE place_workers
    What each worker meets at a place: one that alone fails there leaves it to the others.
place_id integer
    The place.
worker_id uuid
    The worker.
failing_since timestamptz
    Since when it takes nothing from there; NULL: it reads there.
error_code text
    What it met there.
error text
    The same in words.
at timestamptz
    When it said so.

TABLE paused_backbones
    Models that rest while the others go on, and why.
backbone text
    The model.
paused boolean
    False: it goes on again.
reason text
    Why it rests.
at timestamptz
    Since when.

TABLE control
    Whether everything is paused, and why.
name text
    By whom: operator, or samplers where those crash too often.
paused boolean
    While any row is, nothing is taken.
reason text
    Why.
at timestamptz
    Since when.
"""
