"""Pictures of the first validation pieces while training goes on."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from softscribe.alignment import bce_cost
from softscribe.plots import plot_segment, save
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.losses import aligning
from softscribe.training.module import TranscriptionModule
from softscribe.training.segments import collate


class SegmentPictures(Callback):
    """Draws features, activations, targets and alignment of one segment of each of the first validation pieces.

    Args:
        folder: pictures go to `folder`/step-000100/NAME.png, and to TensorBoard.
        every_validations: how often.
        pieces: how many at most.
    """

    def __init__(self, folder: Path, every_validations: int, pieces: int) -> None:
        self.folder = folder
        self.every_validations = every_validations
        self.pieces = pieces

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        validation = trainer.global_step // pl_module.validation_interval
        last = trainer.global_step >= pl_module.total_steps
        if trainer.is_global_zero and (last or validation % self.every_validations == 0):
            self.draw(trainer, pl_module)

    def draw(self, trainer: pl.Trainer, module: TranscriptionModule) -> None:
        """Draw the pictures of the present step."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentDataModule)
        dataset = data.validation_set
        loss = aligning(module.loss)
        seen: set[str] = set()
        for index, segment in enumerate(dataset.segments):
            if segment.prepared.recording.name in seen or len(seen) == self.pieces:
                continue
            seen.add(segment.prepared.recording.name)
            item = dataset[index, index]
            batch = collate([item])
            with torch.inference_mode():
                logits = module.model(batch.features.to(module.device)).float()
                cost = bce_cost(logits, batch.targets.to(module.device)).cpu()
                expected_alignment = loss.final_alignment(cost, batch.frame_counts, batch.target_counts)
            figure = plot_segment(
                features=item.features,
                activations=torch.sigmoid(logits)[0].cpu().numpy(),
                truth=item.truth,
                weak_targets=item.targets,
                cost=cost[0].numpy(),
                expected_alignment=expected_alignment[0].numpy(),
                frames_per_second=segment.prepared.frames_per_second,
                settings=dataset.features,
                title=f"{segment.name}, step {trainer.global_step}",
            )
            save(figure, self.folder / f"step-{trainer.global_step:06d}" / f"{segment.prepared.recording.name}.png")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"segments/{segment.prepared.recording.name}", figure, trainer.global_step)
