"""Pairs of recordings and scores: where they come from, how they are cut into segments, and the store of their features."""

from softscribe.corpora.demo import write_demo_corpus
from softscribe.corpora.folder import read_folder_corpus
from softscribe.corpora.preparation import PreparationPlan, PreparationReport, plan, prepare
from softscribe.corpora.recordings import Recording, Segment, corpus_fingerprint
from softscribe.corpora.registry import CORPORA, PrepareSettings, prepare_corpus
from softscribe.corpora.store import FeatureStore, PreparedRecording

__all__ = [
    "CORPORA",
    "FeatureStore",
    "PreparationPlan",
    "PreparationReport",
    "PrepareSettings",
    "PreparedRecording",
    "Recording",
    "Segment",
    "corpus_fingerprint",
    "plan",
    "prepare",
    "prepare_corpus",
    "read_folder_corpus",
    "write_demo_corpus",
]
