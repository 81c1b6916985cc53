"""The other side of adversarial training: discriminators, their optimiser, and what they say of the decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqaudio.models.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_loss
from vqaudio.training.checkpoint import optimizer_tensors, restore_optimizer, with_prefix, without_prefix
from vqaudio.training.distributed import average_gradients
from vqaudio.training.optimizer import adamw, update
from vqaudio.training.recipe import OptimizerConfig


class Adversary:
    """Discriminators and their optimiser."""

    def __init__(self, config: OptimizerConfig, device: torch.device) -> None:
        self.networks = Discriminators().to(device)
        self.config = config
        self.optimizer = adamw(self.networks.parameters(), config)

    def judge(self, decoded: Tensor, waveform: Tensor) -> dict[str, Tensor]:
        """The decoder's losses `adversarial` and `feature` for waveforms (B, 1, T)."""
        self.networks.requires_grad_(False)
        with torch.no_grad():
            real = self.networks(waveform)
        fake = self.networks(decoded)
        self.networks.requires_grad_(True)
        return {"adversarial": adversarial_loss(fake), "feature": feature_loss(real, fake)}

    def learn(self, decoded: Tensor, waveform: Tensor) -> Tensor:
        """Add the gradients of one micro-batch of waveforms (B, 1, T) without gradient; the discriminators' loss."""
        loss = discriminator_loss(self.networks(waveform), self.networks(decoded))
        with torch.autocast(loss.device.type, enabled=False):  # which is for the pass forward alone
            (loss / self.config.accumulate).backward()
        return loss.detach()

    def clip(self) -> list[Tensor]:
        """Make the gradients the same in all processes and bound them; their norm, if there are any."""
        if all(parameter.grad is None for parameter in self.networks.parameters()):
            return []
        average_gradients(self.networks)
        return [nn.utils.clip_grad_norm_(self.networks.parameters(), self.config.clip_norm)]

    def step(self, learning_rate: float, skipped: Tensor) -> None:
        """Move the discriminators, unless `skipped` is 1.0, and forget the gradients."""
        update([self.optimizer], learning_rate, skipped)
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""
        return with_prefix("networks", self.networks.state_dict()) | with_prefix(
            "optimizer", optimizer_tensors(self.optimizer, self.networks)
        )

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` gave."""
        self.networks.load_state_dict(without_prefix("networks", tensors))
        restore_optimizer(self.optimizer, self.networks, without_prefix("optimizer", tensors))
