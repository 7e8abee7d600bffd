"""The Lightning data module: which segments train, which validate, in which order."""

import os
import signal
from collections.abc import Sequence

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from softscribe.corpora import PreparedRecording, corpus_fingerprint
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings
from softscribe.training.batch_stream import BatchStream
from softscribe.training.segments import Batch, Item, SegmentDataset, TargetSettings, annotated_segments, collate


class SegmentDataModule(pl.LightningDataModule):
    """Serves the segments of a prepared corpus.

    Args:
        recordings: the prepared corpus.
        features: settings of its HCQT.
        targets: which targets to make.
        transposition_semitones: augmentation of the training segments, see `SegmentDataset`.
        batch_size: segments per batch and process.
        worker_count: processes that load batches; 0 loads in the training process.
        seed: decides order and augmentation.

    Raises:
        InputError: the training or the validation split has no segments.
    """

    def __init__(
        self,
        recordings: Sequence[PreparedRecording],
        features: HcqtSettings,
        targets: TargetSettings,
        *,
        transposition_semitones: int,
        batch_size: int,
        worker_count: int,
        seed: int,
    ) -> None:
        super().__init__()
        train, validation = annotated_segments(recordings, "train"), annotated_segments(recordings, "validation")
        for split, segments in (("train", train), ("validation", validation)):
            if not segments:
                raise InputError(
                    f"corpus: the split {split!r} has no segments. Remedy: more recordings, or a split column in manifest.csv."
                )
        self.fingerprint = corpus_fingerprint(prepared.recording for prepared in recordings)
        self.training_set = SegmentDataset(train, features, targets, transposition_semitones, seed)
        self.validation_set = SegmentDataset(validation, features, targets)
        self.batch_size = batch_size
        self.worker_count = worker_count
        self.seed = seed

    def state_dict(self) -> dict[str, str]:
        return {"corpus_fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        if state_dict["corpus_fingerprint"] != self.fingerprint:
            raise InputError(
                "corpus: it was prepared anew, with other pieces, splits or segments. Remedy: prepare it as before, or start a new run."
            )

    def train_dataloader(self) -> DataLoader[Item]:
        trainer = self.trainer
        assert trainer is not None
        # The position in the stream follows from the number of steps done, so a resumed run needs no other state.
        stream = BatchStream(
            len(self.training_set),
            self.batch_size,
            self.seed,
            first_batch=trainer.global_step * trainer.accumulate_grad_batches,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return self._loader(self.training_set, stream)

    def val_dataloader(self) -> DataLoader[Item]:
        trainer = self.trainer
        assert trainer is not None
        if len(self.validation_set) < trainer.world_size:
            raise InputError(
                f"corpus: {len(self.validation_set)} validation segments for {trainer.world_size} processes. "
                "Remedy: trainer.devices and trainer.nodes for fewer, or more validation pieces."
            )
        mine = range(trainer.global_rank, len(self.validation_set), trainer.world_size)
        draws = [(index, index) for index in mine]
        return self._loader(
            self.validation_set, [draws[first : first + self.batch_size] for first in range(0, len(draws), self.batch_size)]
        )

    def _loader(self, dataset: SegmentDataset, batches: BatchStream | list[list[tuple[int, int]]]) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.worker_count,
            worker_init_fn=_leave_signals_to_the_trainer,
            persistent_workers=self.worker_count > 0,
            pin_memory=self.trainer is not None and self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator",
        )

    def segment_names(self, batch: Batch, split: str = "train") -> list[str]:
        """Return the names and files of the segments of a batch, for messages."""
        dataset = self.training_set if split == "train" else self.validation_set
        segments = [dataset.segments[number] for number in batch.numbers.tolist()]
        return [f"{segment.name} ({segment.prepared.features_path})" for segment in segments]


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and clusters signal a run's whole process group; a worker that died of it would take the trainer along before it has saved.

    SIGTERM itself stays, since the trainer ends its workers by it.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
