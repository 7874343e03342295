"""The one error root and every stable code.

A message gives the value, what was allowed and what to do next. Codes are an interface: they are
stored in `jobs.error_code` and `attempts.error_code`, grouped by users in SQL, and never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from db.exit_codes import ExitCode
from db.masking import mask


class ReelvecError(Exception):
    """Root of all errors this project raises on purpose. `exit_code` is what a command returns for
    it.
    """

    code: str = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __str__(self) -> str:
        """The message as it is shown, logged and stored: what it quotes of a library may hold a
        secret.
        """
        return mask(super().__str__())


class UsageError(ReelvecError):
    """The command line, a setting or an input file is wrong: nothing was done."""

    code = "usage"
    exit_code = ExitCode.USAGE


class NoStackError(ReelvecError):
    """No database and broker are configured, and no local stack was ever made."""

    code = "no_stack"
    exit_code = ExitCode.NO_STACK


class UnavailableError(ReelvecError):
    """Postgres, the broker or a storage service does not answer, or the GPU is in other hands: it
    may be well later.
    """

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE


class BusyError(UnavailableError):
    """Postgres broke a transaction off for another's sake (deadlock, lock not free in time): again
    it may go through.
    """


class RefusedConfigurationError(ReelvecError):
    """Everything answers, but working like this would write wrong rows: other weights, another
    schema, other hardware.
    """

    code = "refused"
    exit_code = ExitCode.REFUSED


class ErrorClass(StrEnum):
    """What happens to a video after an error (see `db.jobs.retries`)."""

    PERMANENT = "permanent"  # failed at once: trying again gives the same
    TRANSIENT = "transient"  # tried again with growing delays
    INFRA = "infra"  # not this video's fault: waits, burns no attempt
    STRIKE = "strike"  # its sampler died: three and the video is `poison`
    DEVICE = "device"  # the GPU's fault: tried again
    FRAMES = "frames"  # what was sampled is lost: sampled again, three times
    BAD_OUTPUT = "bad_output"  # the model's numbers are unusable: failed, never written


@dataclass(frozen=True)
class ErrorCode:
    """What a code says of a video, and what to do about it; both are shown in the guide."""

    error_class: ErrorClass
    meaning: str
    cure: str


#: Every code a video can end or wait with.
VIDEO_ERRORS: dict[str, ErrorCode] = {
    # source
    "not_found": ErrorCode(
        ErrorClass.PERMANENT,
        "no such file or object (any more)",
        "remove it from your source, or put it back and `retry`",
    ),
    "not_a_file": ErrorCode(
        ErrorClass.PERMANENT,
        "a folder or a device",
        "name the video itself",
    ),
    "outside_roots": ErrorCode(
        ErrorClass.PERMANENT,
        "the file is not in a folder that `REELVEC_FILE_ROOTS` names",
        "add the folder on every worker, then `retry`",
    ),
    "unsupported_scheme": ErrorCode(
        ErrorClass.PERMANENT,
        "the address is not file, s3, http or https",
        "write the address in one of these forms",
    ),
    "permission_denied": ErrorCode(
        ErrorClass.PERMANENT,
        "the worker's user may not read the file",
        "change the file's rights, then `retry`",
    ),
    "io_error": ErrorCode(
        ErrorClass.TRANSIENT,
        "the disk or its network failed",
        "check the node's mounts",
    ),
    "source_changed": ErrorCode(
        ErrorClass.TRANSIENT,
        "the video was replaced while it was read",
        "nothing",
    ),
    "fetch_timeout": ErrorCode(
        ErrorClass.TRANSIENT,
        "the server did not answer or was too slow",
        "check the network, or raise `REELVEC_FETCH_SECONDS`",
    ),
    "fetch_cut": ErrorCode(
        ErrorClass.TRANSIENT,
        "the connection ended early, every time",
        "check proxies and the server",
    ),
    "server_error": ErrorCode(
        ErrorClass.TRANSIENT,
        "the server answered HTTP 5xx, 429 or 408",
        "run fewer workers at once, then `retry`",
    ),
    "request_refused": ErrorCode(
        ErrorClass.PERMANENT,
        "the server refused for another reason, or the object is archived",
        "restore the object, then `retry`",
    ),
    "address_refused": ErrorCode(
        ErrorClass.PERMANENT,
        "the address is private, or the server redirects to where reelvec does not follow",
        "set `REELVEC_HTTP_ALLOW_PRIVATE` if the server is yours",
    ),
    "access_denied": ErrorCode(
        ErrorClass.INFRA,
        "the server answered 401 or 403",
        "give this key the right to read this bucket",
    ),
    "bad_credentials": ErrorCode(
        ErrorClass.INFRA,
        "the key is unknown, the secret is wrong, or they have expired",
        "set new keys on every worker and restart them",
    ),
    "no_bucket": ErrorCode(
        ErrorClass.INFRA,
        "the service has no bucket of this name, or it is in another region",
        "check `AWS_ENDPOINT_URL_S3`, `AWS_REGION` and the name",
    ),
    "unreachable": ErrorCode(
        ErrorClass.INFRA,
        "the host does not exist or does not listen, a proxy does not connect to it, https was "
        "used on a port without TLS (or the reverse), or the certificate is not trusted",
        "check DNS, the firewall, `HTTPS_PROXY` and `NO_PROXY`; for a certificate authority of "
        "your own set `SSL_CERT_FILE`, or `AWS_CA_BUNDLE` for S3 alone",
    ),
    # media
    "empty_file": ErrorCode(
        ErrorClass.PERMANENT,
        "the file has 0 bytes",
        "upload it again; the next `enqueue` of the bucket notices",
    ),
    "not_media": ErrorCode(
        ErrorClass.PERMANENT,
        "the file is a web page, an archive or a text",
        "check it: often an error page was saved as a video",
    ),
    "no_video": ErrorCode(
        ErrorClass.PERMANENT,
        "the file holds sound only",
        "nothing",
    ),
    "truncated": ErrorCode(
        ErrorClass.PERMANENT,
        "the file ends long before the length that its header states",
        "upload it again; the next `enqueue` of the bucket notices",
    ),
    "undecodable": ErrorCode(
        ErrorClass.PERMANENT,
        "more than half of the frames cannot be decoded",
        "transcode it, then `retry`",
    ),
    "damaged": ErrorCode(
        ErrorClass.PERMANENT,
        "more than a tenth of the 96 frames are lost, or the decoder reports them as broken",
        "fetch it again from where it came, then `retry`",
    ),
    "unsupported_codec": ErrorCode(
        ErrorClass.PERMANENT,
        "the codec is not one of those that are read; the text says which are",
        "transcode it, then `retry`",
    ),
    "encrypted": ErrorCode(
        ErrorClass.PERMANENT,
        "the video is protected by DRM",
        "enqueue a decrypted copy",
    ),
    "over_limits": ErrorCode(
        ErrorClass.PERMANENT,
        "the picture has more than 36 megapixels, or there are too many streams, or decoding needs "
        "too much memory",
        "use a smaller rendition",
    ),
    "sampler_defect": ErrorCode(
        ErrorClass.PERMANENT,
        "the file holds something that reelvec does not expect; the text names it",
        "report it, and `retry` with a newer version",
    ),
    "sampler_crashed": ErrorCode(
        ErrorClass.STRIKE,
        "the decoder crashed on the file",
        "nothing; after three strikes the code is `poison`",
    ),
    "sampler_timeout": ErrorCode(
        ErrorClass.STRIKE,
        "decoding took too long",
        "nothing; on slow nodes raise `REELVEC_SAMPLING_WALL_SECONDS`",
    ),
    "poison": ErrorCode(
        ErrorClass.PERMANENT,
        "the file had three strikes",
        "do not open it with other decoders; report it",
    ),
    # frames of an earlier stage
    "frames_lost": ErrorCode(
        ErrorClass.FRAMES,
        "three times the frames that a sampler node had written could not be read again whole",
        "see what `reelvec frames verify` says of the store, then `retry`",
    ),
    # engine
    "engine_timeout": ErrorCode(
        ErrorClass.DEVICE,
        "the device gave no answer in time",
        "look at `nvidia-smi`; a CPU may have too much to do",
    ),
    "device_error": ErrorCode(
        ErrorClass.DEVICE,
        "the GPU or its driver failed",
        "look at the worker's log and at the node",
    ),
    "device_out_of_memory": ErrorCode(
        ErrorClass.DEVICE,
        "even one video does not fit into the GPU's memory",
        "stop other programs on the GPU",
    ),
    "nonfinite": ErrorCode(
        ErrorClass.BAD_OUTPUT,
        "the model's result contains NaN or infinity",
        "see which videos fail, and check the weights: `reelvec models list --verify`",
    ),
    "unusable_prompt": ErrorCode(
        ErrorClass.PERMANENT,
        "a prompt has more than 77 tokens (`siglip2`: 64); the text names it. `enqueue` says so at "
        "once if the weights are on its machine",
        "shorten it, enqueue with the new file, delete the old tagger with `reelvec db sql --write "
        "\"DELETE FROM taggers WHERE tagger = 'x-clip/tags'\"`, then `retry`",
    ),
    "store_unavailable": ErrorCode(
        ErrorClass.INFRA,
        "the frame store does not answer, refuses, or is full",
        "check what `REELVEC_FRAMES` names, and the keys of its service; for a folder, its mount "
        "and its free space",
    ),
    # delivery
    "unavailable": ErrorCode(
        ErrorClass.INFRA,
        "Postgres or the broker did not answer",
        "check the servers",
    ),
    "internal": ErrorCode(
        ErrorClass.TRANSIENT,
        "a defect of reelvec itself",
        "look at the worker's log and report it",
    ),
}

#: The class of each.
VIDEO_ERROR_CLASSES = {code: facts.error_class for code, facts in VIDEO_ERRORS.items()}

#: What these say of a video holds for every vector that was ever made of it: it is noise.
NOISE_CODES = ("encrypted", "damaged")

#: Permanent codes that are about where a file lies or what was asked of it, not about what is in
#: it.
_NOT_OF_THE_FILE = frozenset(
    {"not_found", "not_a_file", "outside_roots", "unsupported_scheme", "permission_denied", "request_refused",
     "address_refused", "unusable_prompt"}
)  # fmt: skip
#: Codes that the same version of a file ends with again, whatever model asks for it.
FILE_CODES = frozenset(
    code
    for code, kind in VIDEO_ERROR_CLASSES.items()
    if kind is ErrorClass.PERMANENT and code not in _NOT_OF_THE_FILE
)


class VideoError(ReelvecError):
    """One video went wrong. `code` is a key of `VIDEO_ERROR_CLASSES`; `stage` says where (fetch,
    sample, encode).
    """

    def __init__(self, code: str, message: str, *, stage: str) -> None:
        super().__init__(message)
        self.error_class = VIDEO_ERROR_CLASSES[code]
        self.code = code
        self.stage = stage


#: Why frames that were sampled already cannot be used; the video is sampled again.
PACK_ERRORS: dict[str, str] = {
    "pack_missing": "the frame store has no object of this name",
    "pack_damaged": "its bytes are not those that were written",
    "pack_foreign": "it is of another format or pixel recipe, or of another version of the video",
}


class PackError(ReelvecError):
    """A frame pack is of no use. `code` is a key of `PACK_ERRORS`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        assert code in PACK_ERRORS
        self.code = code
