"""The layers of profile `nerf` as one operation with a backward pass of its own, which spares what autograd cannot.

- `feature` and the part of `direction` that reads it have no activation between them, so they are one layer of half
  the width; its gradient gives both of theirs.
- A sample in empty space, or where no light is left, has no gradient, so the backward pass leaves it out. Without
  occupancy, these are most samples of a scene that has taken shape.

Neither changes the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

_threshold_backward = torch.ops.aten.threshold_backward


class Perceptron(torch.autograd.Function):
    """From encodings to the raw density `[S]` and the colour `[S, 3]` (FORMAT.md, "Profile 1: nerf").

    Arguments are the encodings of position `[S, P]` and view direction `[S, V]`, then weight `[out, in]` and bias
    `[out]` of each layer in the order of `NerfProfile.layers`. Only these have gradients.
    """

    @staticmethod
    def forward(ctx: Any, encoded: torch.Tensor, view: torch.Tensor, *layers: torch.Tensor) -> Any:
        kind = encoded.device.type
        # What autocast chooses for products; sums within them are float32 either way.
        number = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else encoded.dtype
        with torch.autocast(kind, enabled=False):
            joint, joint_bias = _joint(layers)
            cast = [tensor.to(number) for tensor in layers]
            *hidden, density, density_bias, _, _, direction, _, rgb, rgb_bias = cast
            x = encoded.to(number)
            inputs = [x]
            for weight, bias in zip(hidden[::2], hidden[1::2], strict=True):
                x = linear(x, weight, bias).relu_()
                # Decoders hold one layer at a time.
                if any(ctx.needs_input_grad):
                    inputs.append(x)
            view = view.to(number)
            colour = linear(x, joint.to(number), joint_bias.to(number))
            colour = torch.addmm(colour, view, direction[:, density.shape[1] :].T).relu_()
            raw = linear(x, density, density_bias)[:, 0]
            seen = linear(colour, rgb, rgb_bias).sigmoid()
        ctx.save_for_backward(view, colour, seen, *inputs, *layers)
        ctx.depth = len(hidden) // 2
        return raw, seen

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        saved = ctx.saved_tensors
        layers = saved[4 + ctx.depth :]
        needed = ctx.needs_input_grad[2:]
        rows = ((gradients[0] != 0) | (gradients[1] != 0).any(1)).nonzero()[:, 0]
        samples = (*gradients, *saved[: 4 + ctx.depth])
        if len(rows) < len(gradients[0]):
            samples = tuple(tensor.index_select(0, rows) for tensor in samples)
        raw, seen_gradient, view, colour, seen, *inputs = samples
        out: list[torch.Tensor | None] = [None] * len(layers)
        number = view.dtype
        joint, _ = _joint(layers)
        density, feature, direction, rgb = (2 * ctx.depth + 2 * i for i in range(4))
        width = layers[density].shape[1]

        def learn(layer: int, gradient: torch.Tensor, x: torch.Tensor) -> None:
            if needed[layer]:
                out[layer] = (gradient.T @ x).to(layers[layer].dtype)
            if needed[layer + 1]:
                out[layer + 1] = gradient.sum(0).to(layers[layer].dtype)

        gradient = seen_gradient * seen * (1 - seen)
        learn(rgb, gradient, colour)
        gradient = _threshold_backward(gradient @ layers[rgb].to(number), colour, 0)
        if any(needed[feature : direction + 2]):
            total = gradient.sum(0).to(layers[direction].dtype)
            joint_gradient = (gradient.T @ inputs[-1]).to(layers[direction].dtype)
            reads = layers[direction][:, :width]
            out[feature], out[feature + 1] = reads.T @ joint_gradient, reads.T @ total
            features = joint_gradient @ layers[feature].T + torch.outer(total, layers[feature + 1])
            out[direction] = torch.cat([features, (gradient.T @ view).to(total.dtype)], 1)
            out[direction + 1] = total
        learn(density, raw[:, None], inputs[-1])
        gradient = torch.addmm(raw[:, None] * layers[density].to(number), gradient, joint.to(number))
        for i in range(ctx.depth - 1, -1, -1):
            if not any(needed[: 2 * i + 2]):
                break
            gradient = _threshold_backward(gradient, inputs[i + 1], 0)
            learn(2 * i, gradient, inputs[i])
            if i and any(needed[: 2 * i]):
                gradient = gradient @ layers[2 * i].to(number)
        return None, None, *out


def _joint(layers: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of `feature` followed by the part of `direction` that reads it."""
    feature, feature_bias, direction, direction_bias = layers[-6:-2]
    reads = direction[:, : len(feature)]
    return reads @ feature, torch.addmv(direction_bias, reads, feature_bias)
