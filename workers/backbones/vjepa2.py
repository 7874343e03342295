"""V-JEPA 2 ViT-L (Assran et al. 2025): 32 frames to the mean of all tokens.

The checkpoint was trained on 64 frames of 256 px; its positions are rotations, so any number of
frames and any grid runs. It gets the 224 px frames that every backbone gets, a grid of 14 x 14
patches: what that costs in accuracy has not been measured against labels. The predictor of masked
parts is loaded, as the file holds it, and dropped.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.backbones.base import SMALL, Loaded, Published, Spec, Weights
from workers.backbones.window_model import WindowModel
from workers.sampling.plan import SIDE_PX
from workers.weights.loading import obtain

if TYPE_CHECKING:
    import torch

TINY = {
    **{name: size for name, size in SMALL.items() if name != "intermediate_size"},
    "mlp_ratio": 2,
    "pred_hidden_size": 32,
    "pred_num_hidden_layers": 1,
    "pred_num_attention_heads": 2,
    "pred_mlp_ratio": 2,
}

SPEC = Spec(
    name="vjepa2",
    checkpoint="facebook/vjepa2-vitl-fpc64-256",
    ref="main",
    license="MIT",
    commercial=True,
    frames_per_window=32,
    dim=1024,
    pooling="mean",
    vector="mean of all tokens",
    scale=1 / 255,
    offset=0.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    model_type="vjepa2",
    allowed_unexpected=(),
    has_text=False,
    batch_windows=12,
    published=Published(
        model="VJEPA2Model",
        config="VJEPA2Config",
        tiny=TINY,
    ),
    needs={"crop_size": 256, "frames_per_clip": 64, "in_chans": 3},
    even_heads=True,
)


def load(weights: Weights, device: str) -> Loaded:
    from workers.backbones.tower import Tower

    model, digest = obtain(SPEC, weights)
    tower = Tower(model.encoder, SPEC, device)
    tables = tuple(table.to(device) for table in rotary_tables(model.config))
    for layer in model.encoder.layer:
        layer.attention.tables = tables
        layer.attention.forward = MethodType(rotary_attention, layer.attention)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = model.encoder(pixel_values_videos=pixels).last_hidden_state
        return tokens.float().mean(dim=1)

    return WindowModel(SPEC, digest, model.config.hidden_size, "mean", tower, forward)


def rotary_tables(config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """`cos` and signed `sin`, float32 [tokens, 1, head width]: `x * cos + swapped(x) * sin` rotates
    a window's tokens.

    A third of a head's numbers each is turned by the token's frame, row and column; what is left
    over stays. Of each pair the two numbers turn by angles of their own, as in the published model:
    angle i stands at i and at i + width/2.
    """
    import torch

    grid, frames = SIDE_PX // config.patch_size, SPEC.frames_per_window // config.tubelet_size
    ids = torch.arange(frames * grid * grid)
    head = config.hidden_size // config.num_attention_heads
    width = 2 * (head // 3 // 2)
    omega = 1 / 10000 ** (torch.arange(width // 2, dtype=torch.float32) / (width / 2))
    angles = torch.zeros(len(ids), head)
    for part, position in enumerate((ids // grid**2, ids // grid % grid, ids % grid)):
        angles[:, part * width : (part + 1) * width] = (position[:, None] * omega).repeat(1, 2)
    sign = torch.tensor([-1.0, 1.0]).repeat(head // 2)
    return angles.cos()[:, None], (angles.sin() * sign)[:, None]


def rotary_attention(
    self: Any, hidden_states: torch.Tensor, position_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, None]:
    """`VJEPA2RopeAttention.forward` with the rotations made once (1.4e-6 off in float32).

    transformers 5.23 makes them anew in every layer, in the dtype it computes in: in bfloat16
    angles are off by 0.03.
    """
    del position_mask  # for the predictor, which sees some of the tokens
    from torch.nn.functional import scaled_dot_product_attention

    cos, sin = (table.to(hidden_states.dtype) for table in self.tables)
    heads = (*hidden_states.shape[:-1], -1, self.attention_head_size)

    def rotated(x: torch.Tensor) -> torch.Tensor:
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        turned: torch.Tensor = (x * cos).addcmul_(swapped, sin)
        return turned.transpose(1, 2)

    query, key = (rotated(project(hidden_states).view(heads)) for project in (self.query, self.key))
    value = self.value(hidden_states).view(heads).transpose(1, 2)
    context = scaled_dot_product_attention(query, key, value, scale=self.scaling)
    mixed: torch.Tensor = self.proj(context.transpose(1, 2).flatten(2))
    return mixed, None
