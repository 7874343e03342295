"""The one error root and every stable code.

A message gives the value, what was allowed and what to do next. Codes are an interface: they are
stored in `jobs.error_code` and `attempts.error_code`, grouped by users in SQL, and never renamed.
"""

from __future__ import annotations

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
    BAD_OUTPUT = "bad_output"  # the model's numbers are unusable: failed, never written


#: Every code a video can end or wait with, and its class.
VIDEO_ERROR_CLASSES: dict[str, ErrorClass] = {
    # source
    "not_found": ErrorClass.PERMANENT,
    "not_a_file": ErrorClass.PERMANENT,
    "outside_roots": ErrorClass.PERMANENT,
    "unsupported_scheme": ErrorClass.PERMANENT,
    "permission_denied": ErrorClass.PERMANENT,
    "io_error": ErrorClass.TRANSIENT,
    "source_changed": ErrorClass.TRANSIENT,
    "fetch_timeout": ErrorClass.TRANSIENT,
    "fetch_cut": ErrorClass.TRANSIENT,  # the connection ended early, every time
    "server_error": ErrorClass.TRANSIENT,  # 5xx, 429, 408
    "request_refused": ErrorClass.PERMANENT,  # another 4xx, or an answer that is none
    "address_refused": ErrorClass.PERMANENT,  # a private address, or a redirect that is not followed
    "access_denied": ErrorClass.INFRA,  # 401, 403
    "bad_credentials": ErrorClass.INFRA,  # the service does not know the key, or the secret is not its
    "no_bucket": ErrorClass.INFRA,
    "unreachable": ErrorClass.INFRA,  # no such host, nobody listens, no trusted certificate
    # media
    "empty_file": ErrorClass.PERMANENT,
    "not_media": ErrorClass.PERMANENT,
    "no_video": ErrorClass.PERMANENT,
    "truncated": ErrorClass.PERMANENT,
    "undecodable": ErrorClass.PERMANENT,
    "damaged": ErrorClass.PERMANENT,  # decodable, but too many of the frames are lost or broken
    "unsupported_codec": ErrorClass.PERMANENT,
    "encrypted": ErrorClass.PERMANENT,
    "over_limits": ErrorClass.PERMANENT,
    "sampler_defect": ErrorClass.PERMANENT,  # our own exception over this file: it would be the same again
    "sampler_crashed": ErrorClass.STRIKE,
    "sampler_timeout": ErrorClass.STRIKE,
    "poison": ErrorClass.PERMANENT,
    # engine
    "engine_timeout": ErrorClass.DEVICE,
    "device_error": ErrorClass.DEVICE,
    "device_out_of_memory": ErrorClass.DEVICE,
    "nonfinite": ErrorClass.BAD_OUTPUT,
    "unusable_prompt": ErrorClass.PERMANENT,
    # delivery
    "unavailable": ErrorClass.INFRA,
    "internal": ErrorClass.TRANSIENT,
}


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
