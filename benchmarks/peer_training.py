"""Trains another radiance field for some seconds and renders pictures with it: a process that `peers.py` starts.

    python benchmarks/peer_training.py tensorf TensoRF/ exchange/ --seconds 60 --threads 2 --rays 4096

Runs in an environment that has torch and what the peer needs, and imports nothing of invcodec. Of the exchange folder
it reads `rays.npz` and writes `pictures.npy` and `report.json`.

What a peer does is what its own training script does with its published settings: networks, losses, optimisers, and at
which steps grids grow. Learning rates fall over the given time as they do over all the published steps, which no CPU
takes in minutes: at their first values, they would cost quality.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from unittest.mock import MagicMock

import numpy as np
import torch

_CHUNK = 4096
"""Rays that are rendered at once."""


@dataclass(frozen=True)
class Batch:
    """Rays of training pixels.

    Attributes:
        origins, directions: `[R, 3]`, as `peers.py` prepared them for the peer.
        camera: `[R]` int64.
        colours: `[R, 3]` in [0, 1].
    """

    origins: torch.Tensor
    directions: torch.Tensor
    camera: torch.Tensor
    colours: torch.Tensor


class Peer(Protocol):
    @property
    def samples(self) -> str:
        """Along a ray, now."""

    def step(self, batch: Batch, share: float) -> None:
        """Take an optimiser's step.

        Args:
            share: of the time that is over.
        """

    def render(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Colours `[R, 3]` of rays `[R, 3]`."""


def leave_out(*modules: str) -> None:
    """Have placeholders imported in place of modules that training does not use."""
    for name in modules:
        sys.modules[name] = MagicMock()


class TensoRF:
    """TensoRF with vectors and matrices, as configured for forward-facing scenes (`configs/flower.txt`).

    Rays come in a unit cube, at parameters from 0 to 1: normalised device coordinates or a box, stretched here to the
    extent of the published box, about 3.
    """

    steps, rate, network_rate, decay = 25_000, 0.02, 1e-3, 0.1
    voxels, upsample_after, mask_after = (128**3, 640**3), (2000, 3000, 4000, 5500), 2500
    extent, step_ratio, smoothness = 3.0, 0.5, 1.0

    def __init__(self, folder: Path, cameras: np.ndarray) -> None:
        sys.path.insert(0, str(folder))
        leave_out("cv2", "PIL", "plyfile", "scipy", "scipy.signal", "skimage", "skimage.measure")
        leave_out("torchvision", "torchvision.transforms")
        import utils
        from models.tensoRF import TensorVMSplit

        self._utils = utils
        box = torch.tensor([[0.0] * 3, [self.extent] * 3])
        self._size = utils.N_to_reso(self.voxels[0], box)
        self._model = TensorVMSplit(
            box, self._size, torch.device("cpu"), density_n_comp=[16, 4, 4], appearance_n_comp=[48, 12, 12], app_dim=27,
            near_far=[0.0, 1.0], shadingMode="MLP_Fea", alphaMask_thres=1e-4, density_shift=-10, distance_scale=25,
            pos_pe=6, view_pe=0, fea_pe=0, featureC=128, step_ratio=self.step_ratio, fea2denseAct="relu",
        )  # fmt: skip
        growth = np.geomspace(*self.voxels, len(self.upsample_after) + 1).round()
        self._growth = dict(zip(self.upsample_after, map(int, growth[1:]), strict=True))
        self._smooth = utils.TVLoss()
        self._taken = 0
        self._begin(0.0)

    def _begin(self, share: float) -> None:
        """Start the optimiser, and its rates, afresh."""
        self._began = share
        self._optimiser = torch.optim.Adam(
            self._model.get_optparam_groups(self.rate, self.network_rate), betas=(0.9, 0.99)
        )
        self._rates = [group["lr"] for group in self._optimiser.param_groups]

    @property
    def _samples(self) -> int:
        return self._utils.cal_n_samples(self._size, self.step_ratio)

    @property
    def samples(self) -> str:
        return str(self._samples)

    def _colours(self, origins: torch.Tensor, directions: torch.Tensor, training: bool) -> torch.Tensor:
        rays = self.extent * torch.cat([origins, directions], 1)
        return self._model(rays, is_train=training, white_bg=False, ndc_ray=True, N_samples=self._samples)[0]

    def step(self, batch: Batch, share: float) -> None:
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.decay ** (share - self._began)
        loss = torch.mean((self._colours(batch.origins, batch.directions, True) - batch.colours) ** 2)
        rough = self._model.TV_loss_density(self._smooth) + self._model.TV_loss_app(self._smooth)
        self._optimiser.zero_grad()
        (loss + self.smoothness * self.decay**share * rough).backward()
        self._optimiser.step()
        if self._taken == self.mask_after:
            self._model.shrink(self._model.updateAlphaMask(tuple(self._size)))
        if voxels := self._growth.get(self._taken):
            self._size = self._utils.N_to_reso(voxels, self._model.aabb)
            self._model.upsample_volume_grid(self._size)
            self._begin(share)
        self._taken += 1

    def render(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        return self._colours(origins, directions, False)


class Nerfacto:
    """nerfacto in plain torch, as `nerfstudio.configs.method_configs` configures it.

    Without mixed precision, which is for GPUs, and without corrections of poses, since these are exact. World rays are
    turned, centred and scaled as nerfstudio does when it reads poses.
    """

    steps, rate, epsilon = 30_000, 1e-2, 1e-15
    decay = 0.01 ** (30_000 / 200_000)

    def __init__(self, folder: Path, cameras: np.ndarray) -> None:
        sys.path.insert(0, str(folder))
        # Viewers and metrics; a metric downloads weights.
        leave_out("cv2", "plotly", "plotly.express", "plotly.graph_objects", "viser", "viser.transforms")
        leave_out("torch.utils.tensorboard", "torchmetrics", "torchmetrics.functional", "torchmetrics.image")
        leave_out("torchmetrics.image.lpip")
        from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
        from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
        from nerfstudio.cameras.rays import RayBundle
        from nerfstudio.data.scene_box import SceneBox
        from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
        from nerfstudio.models.nerfacto import NerfactoModelConfig

        self._bundle = RayBundle
        poses, self._world = auto_orient_and_center_poses(torch.tensor(cameras), method="up", center_method="poses")
        self._scale = 1 / float(poses[:, :3, 3].abs().max())
        config = NerfactoModelConfig(
            implementation="torch", average_init_density=0.01, camera_optimizer=CameraOptimizerConfig(mode="off")
        )
        scene = SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]))
        self._model = config.setup(scene_box=scene, num_train_data=len(cameras))
        self.samples = " + ".join(map(str, (*config.num_proposal_samples_per_ray, config.num_nerf_samples_per_ray)))
        groups = self._model.get_param_groups()
        trained = [*groups["proposal_networks"], *groups["fields"]]
        self._optimiser = torch.optim.Adam(trained, lr=self.rate, eps=self.epsilon)
        attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)
        callbacks = self._model.get_training_callbacks(attributes)
        before, after = (
            [callback for callback in callbacks if where in callback.where_to_run]
            for where in (
                TrainingCallbackLocation.BEFORE_TRAIN_ITERATION,
                TrainingCallbackLocation.AFTER_TRAIN_ITERATION,
            )
        )
        self._before, self._after = before, after
        self._taken = 0

    def _outputs(self, origins: torch.Tensor, directions: torch.Tensor, camera: torch.Tensor) -> dict[str, Any]:
        turn, shift = self._world[:, :3], self._world[:, 3]
        directions = torch.nn.functional.normalize(directions @ turn.T, dim=1)
        return self._model(
            self._bundle(
                origins=self._scale * (origins @ turn.T + shift),
                directions=directions,
                pixel_area=torch.ones(len(origins), 1),
                camera_indices=camera[:, None],
            )
        )

    def step(self, batch: Batch, share: float) -> None:
        self._model.train()
        for callback in self._before:
            callback.run_callback(self._taken)
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate * self.decay**share
        outputs = self._outputs(batch.origins, batch.directions, batch.camera)
        truth = {"image": batch.colours}
        losses = self._model.get_loss_dict(outputs, truth, self._model.get_metrics_dict(outputs, truth))
        self._optimiser.zero_grad()
        sum(losses.values()).backward()
        self._optimiser.step()
        for callback in self._after:
            callback.run_callback(self._taken)
        self._taken += 1

    def render(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        self._model.eval()
        return self._outputs(origins, directions, torch.zeros(len(origins), dtype=torch.long))["rgb"]


PEERS: dict[str, Callable[[Path, np.ndarray], Peer]] = {"tensorf": TensoRF, "nerfacto": Nerfacto}


def train(peer: Peer, rays: dict[str, np.ndarray], count: int, seconds: float) -> tuple[int, float]:
    """Take steps on random pixels; returns how many, and the seconds that they took."""
    rng = np.random.default_rng(0)
    steps, started = 0, monotonic()
    while (passed := monotonic() - started) < seconds:
        chosen = rng.integers(len(rays["colours"]), size=count)
        origins, directions, camera, colours = (
            torch.from_numpy(rays[name][chosen]) for name in ("origins", "directions", "camera", "colours")
        )
        peer.step(Batch(origins, directions, camera.long(), colours / 255), passed / seconds)
        steps += 1
    return steps, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path, help="to import it from")
    parser.add_argument("exchange", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rays", type=int, required=True, help="per step")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rays = dict(np.load(arguments.exchange / "rays.npz"))
    peer = PEERS[arguments.peer](arguments.folder.resolve(), rays["poses"])
    steps, seconds = train(peer, rays, arguments.rays, arguments.seconds)
    with torch.no_grad():
        shown = (torch.from_numpy(rays[name]).split(_CHUNK) for name in ("shown_origins", "shown_directions"))
        parts = [peer.render(*chunk) for chunk in zip(*shown, strict=True)]
    np.save(arguments.exchange / "pictures.npy", torch.cat(parts).numpy())
    report = {
        "steps": steps,
        "training_seconds": seconds,
        "samples": peer.samples,
        "instructions": torch.backends.cpu.get_cpu_capability().lower(),
    }
    (arguments.exchange / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
