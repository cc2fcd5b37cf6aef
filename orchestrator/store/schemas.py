"""Schemas of the tables: name, type and meaning of every column, and whether it is a result.

A result is a column that the same sweep gives again, bit for bit, on the same machine type and
thread count, however often it was interrupted. Columns may be added; their meaning never changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trainers.canonical import to_json
from trainers.recipe import Recipe

SCHEMA_VERSION = "3"

TEXT, INT, REAL, YES = pa.string(), pa.int64(), pa.float64(), pa.bool_()
UTC = pa.timestamp("us", tz="UTC")

Column = tuple[str, pa.DataType, str]

IDENTITY: list[Column] = [
    ("id", TEXT, "hash of everything that defines the training; names its checkpoint and its rows"),
    ("name", TEXT, "readable name, such as A3B+ s2: layers 1..3 from A, fine-tuned on B, split s2"),
    ("sweep", TEXT, "name of the sweep"),
    ("split", TEXT, "name of the split in that sweep"),
    ("split_hash", TEXT, "hash of the split's halves"),
    (
        "division",
        TEXT,
        "splits that may be pooled: random, random-999, drawn, or one by its name",
    ),
    ("condition", TEXT, "settings that distinguish it from other grids, as JSON; null if none do"),
    ("images_per_class", INT, "training images per class of the target; null for all"),
    ("source", TEXT, "half, task or file of weights that layers are copied from; null if none are"),
    ("target", TEXT, "half or task that the network is trained and tested on"),
    (
        "treatment",
        TEXT,
        "base, base_long, selffer, transfer, random, pixels, stitched or stitched_self",
    ),
    ("n", INT, "number of first layers that are copied or random; 0 for bases and pixels"),
    ("frozen", YES, "the first n layers are held fixed"),
    ("seed", INT, "seed of the training"),
    ("parent", TEXT, "id of the base, or of the file of weights, whose layers were copied"),
    ("upper", TEXT, "id of the base whose layers from n+1 on a stitched network has; else null"),
    ("tuning_unequal", YES, "the schedules of this treatment and of base_long differ in tuning"),
]

RESULTS: list[Column] = [
    ("outcome", TEXT, "complete, failed, lost or skipped"),
    ("parent_checkpoint", TEXT, "SHA-256 of the parent's checkpoint that was loaded"),
    ("upper_checkpoint", TEXT, "SHA-256 of the upper base's checkpoint that was loaded"),
    ("dataset", TEXT, "name of the dataset"),
    ("dataset_fingerprint", TEXT, "hash of the data"),
    ("network", TEXT, "name of the network"),
    ("classes", INT, "classes of the target; two for one class against the rest"),
    ("optimiser", TEXT, "recipe: optimiser"),
    ("rate", REAL, "recipe: learning rate, before the schedule"),
    ("schedule", TEXT, "recipe: family of the learning-rate schedule"),
    ("momentum", REAL, "recipe: momentum"),
    ("weight_decay", REAL, "recipe: weight decay"),
    ("batch", INT, "recipe: images per step"),
    ("steps", INT, "recipe: steps"),
    ("dropout", REAL, "recipe: dropout; null for the network's own"),
    ("precision", TEXT, "recipe: number format"),
    ("normalise", TEXT, "recipe: images whose mean and deviation normalise the input"),
    (
        "classifier",
        TEXT,
        "recipe: classifier on the outputs of layer n or on pixels; null for networks",
    ),
    ("recipe", TEXT, "recipe as JSON, fields at their default left out"),
    ("training", TEXT, "everything that the id hashes, as JSON"),
    ("study", TEXT, "id of the study that the schedule comes from"),
    ("study_trial", INT, "number of the trial of that study"),
    ("detector", TEXT, "recipe: detector of a task of objects; null for other tasks"),
    ("correct", INT, "test images classified correctly after the last step; null for a detector"),
    ("total", INT, "test images"),
    ("top1", REAL, "test top-1 accuracy after the last step: the primary metric"),
    ("top5", REAL, "test top-5 accuracy; null with five classes or fewer"),
    ("balanced_accuracy", REAL, "mean over classes of the share of correct test images"),
    ("auroc", REAL, "area under the test ROC curve; null unless there are two classes"),
    ("map", REAL, "test mAP of a detector by COCO, mean over overlaps of 0.5 to 0.95"),
    ("map50", REAL, "test mAP of a detector by COCO at an overlap of 0.5: its primary metric"),
    ("map50_voc07", REAL, "the same by the rule of PASCAL VOC 2007: precision at eleven recalls"),
    ("map50_voc10", REAL, "the same by the rule of PASCAL VOC 2010: area below the curve"),
    (
        "loss",
        REAL,
        "test loss after the last step: cross-entropy in nats, squared error, or of a detector",
    ),
    ("top1_at_best", REAL, "test top-1 at the step with the best validation top-1"),
    ("val_top1", REAL, "validation top-1 after the last step; null for a detector"),
    ("val_map50", REAL, "validation mAP of a detector at an overlap of 0.5; null for others"),
    ("val_loss", REAL, "validation loss after the last step"),
    ("val_best", REAL, "best validation top-1 of all evaluations"),
    ("val_best_step", INT, "step of that evaluation, the first if several"),
    ("val_mean10", REAL, "mean of the ten best validation top-1 (the paper's metric)"),
    (
        "kept_step",
        INT,
        "step whose weights early stopping kept: all scores are theirs; null without it",
    ),
    (
        "classifier_choice",
        REAL,
        "C or k of a classifier on features, chosen by validation top-1; null for networks",
    ),
    ("feature_values", INT, "numbers per image that it sees; null for networks"),
    (
        "features_in",
        TEXT,
        "memory, or disk above 1 GiB: linear classifiers are then fitted by minibatches",
    ),
    ("train_loss", REAL, "mean training loss between the last two evaluations"),
    ("train_top1", REAL, "top-1 on training images after the last step, without augmentation"),
    ("train_map50", REAL, "mAP of a detector at an overlap of 0.5 on training images"),
    ("train_total", INT, "training images so scored: all, or a fixed sample as large as the test"),
    (
        "at_chance",
        YES,
        "loss never below 0.98 of ln(classes), that of equal scores, and test top-1 at chance",
    ),
    ("images", INT, "training images seen, repeats counted"),
    ("frozen_hash_start", TEXT, "SHA-256 of the frozen layers before the first step"),
    ("frozen_hash_end", TEXT, "SHA-256 of the frozen layers after the last step"),
    (
        "frozen_proven",
        YES,
        "hashes before and after are equal, in every stage; null if nothing is frozen",
    ),
    ("checkpoint", TEXT, "SHA-256 of the final weights"),
    ("error_type", TEXT, "type of the error"),
    ("error_message", TEXT, "message of the error; the reason for lost and skipped"),
    ("error_step", INT, "step at which a training failed"),
]

RUN: list[Column] = [
    ("attempt", TEXT, "names the attempt; curves and classes carry it too"),
    ("retries", INT, "attempts before this one"),
    ("lanes", INT, "trials that were trained together in its pack; 1 for a trial by itself"),
    (
        "cached_layers",
        INT,
        "frozen layers that were computed once per image, before all steps",
    ),
    ("shared_forward", YES, "true if lanes of its pack shared the pass through its frozen layers"),
    ("memory_raises", INT, "earlier attempts that ran out of memory; each raised the request"),
    ("resumes", INT, "times that the training continued from a snapshot"),
    ("exact", YES, "every resume was under equal settings, so the numbers are exact"),
    ("seconds_total", REAL, "wall time of the last attempt, from reading to the row"),
    ("seconds_data", REAL, "wall time of loading data, over all attempts"),
    ("seconds_wait", REAL, "wall time that training steps waited for images, over all attempts"),
    ("seconds_train", REAL, "wall time of training steps without it, over all attempts"),
    ("seconds_evaluate", REAL, "wall time of evaluations, over all attempts"),
    ("images_per_second", REAL, "training images per second of seconds_train and seconds_wait"),
    ("peak_memory_bytes", INT, "peak of the GPU's memory, or of the process on a CPU"),
    ("cpu", REAL, "requested CPUs"),
    ("gpu", REAL, "requested GPUs"),
    ("memory_bytes", INT, "requested memory"),
    ("resources", TEXT, "requested custom resources, as JSON"),
    ("threads", INT, "threads of the training"),
    ("device", TEXT, "device of the training"),
    ("host", TEXT, "name of the machine"),
    ("pid", INT, "id of the process on that machine"),
    ("versions", TEXT, "versions of Python and libraries, and layerwise's commit, as JSON"),
    ("git_commit", TEXT, "commit of the working folder, with + if it has changes"),
    ("started", UTC, "start of the attempt"),
    ("ended", UTC, "when the row was written"),
    (
        "error_traceback",
        TEXT,
        "traceback of an exception in a training, shortened if it is long",
    ),
]

CURVE: list[Column] = [
    ("step", INT, "steps done"),
    ("images", INT, "training images seen, repeats counted"),
    ("rate", REAL, "learning rate of the last step"),
    ("train_loss", REAL, "mean training loss since the row before"),
    ("val_loss", REAL, "validation loss"),
    ("val_top1", REAL, "validation top-1; null for a detector"),
    ("val_top5", REAL, "validation top-5; null with five classes or fewer"),
    ("val_map50", REAL, "validation mAP of a detector at an overlap of 0.5; null for others"),
]

CLASSES: list[Column] = [
    ("subset", TEXT, "validation or test"),
    ("class_index", INT, "index of the class in the dataset; null for the rest"),
    ("correct", INT, "images classified correctly after the last step; null for a detector"),
    ("total", INT, "images; null for a detector"),
    (
        "average_precision",
        REAL,
        "of a detector by the rule of PASCAL VOC 2010; null without objects",
    ),
]


def _schema(results: Iterable[Column], others: Iterable[Column]) -> pa.Schema:
    fields = [
        pa.field(name, kind, metadata={"description": text, "result": str(is_result).lower()})
        for is_result, columns in ((True, results), (False, others))
        for name, kind, text in columns
    ]
    return pa.schema(fields, metadata={"layerwise_schema": SCHEMA_VERSION})


STUDY: list[Column] = [
    ("series", TEXT, "hash of the search but its number of trials; a larger search continues it"),
    ("number", INT, "number of the study trial; 0 is the sweep's own schedule"),
    ("role", TEXT, "schedule that is searched: fine_tune (BnB+ and AnB+ together) or base_long"),
    ("state", TEXT, "complete, pruned or failed"),
    ("value", REAL, "mean validation top-1 of the trained cells; null if failed"),
    ("values", pa.list_(REAL), "validation top-1 of each cell, in the order of training"),
    ("pruned_at", INT, "number of trained cells when the trial was pruned"),
    ("planned", INT, "number of cells of a trial that is not pruned"),
    ("cells", pa.list_(TEXT), "ids of the trained networks"),
    ("parameters", TEXT, "parameters tried, as JSON; {} for a schedule outside of the space"),
    ("distributions", TEXT, "distribution of each parameter, as JSON of Optuna's JSON"),
    ("pruner_state", TEXT, "state of Optuna's pruner for the trial, as JSON"),
    ("recipe", TEXT, "recipe of the first cell as JSON, fields at their default left out"),
    ("search", TEXT, "settings that the suggestions depend on beside earlier rows, as JSON"),
    ("error_message", TEXT, "message of the error"),
]

STUDY_RUN: list[Column] = [
    ("sweep", TEXT, "the sweep that ran it first"),
    ("seconds", REAL, "wall time of the cells"),
    ("host", TEXT, "name of the machine of the driver"),
    ("versions", TEXT, "versions of Python and the libraries, as JSON"),
    ("ended", UTC, "when the row was written"),
]

MEASUREMENT: list[Column] = [
    ("id", TEXT, "hash of the measure and of all that it compares; names its rows"),
    ("measure", TEXT, "weights, interpolation, similarity or predictors"),
    ("outcome", TEXT, "complete or failed; the latter has one row without a value"),
    ("trial", TEXT, "id of the network; of the source or file of weights in predictors"),
    ("other", TEXT, "id of the network, or file of weights, that it is compared with"),
    ("task", TEXT, "hash of the task whose images the networks see; null for weights"),
    ("quantity", TEXT, "name of the value, such as cosine, loss, cka or logme"),
    ("layer", INT, "number of the layer; null for a value of the whole network"),
    ("position", REAL, "place on the line: 0 is the base of the target, 1 the network"),
    ("value", REAL, "the value"),
    ("images", INT, "images that it is computed from"),
    ("checkpoint", TEXT, "SHA-256 of the weights of the network"),
    ("other_checkpoint", TEXT, "SHA-256 of the weights that it is compared with"),
    ("error_message", TEXT, "message of the error"),
]

DERIVED_RUN: list[Column] = [
    ("seconds", REAL, "wall time of the whole, with reading"),
    ("device", TEXT, "device of the forward passes"),
    ("host", TEXT, "name of the machine"),
    ("versions", TEXT, "versions of Python and libraries, and layerwise's commit, as JSON"),
    ("git_commit", TEXT, "commit of the working folder, with + if it has changes"),
    ("ended", UTC, "when the rows were written"),
]

EXTRACTION: list[Column] = [
    ("id", TEXT, "hash of the network, the images, the layers and the pooling; names its row"),
    ("outcome", TEXT, "complete or failed; the latter has no files"),
    ("trial", TEXT, "id of the network, or of the file of weights"),
    ("name", TEXT, "name of the network in the sweep that ran it first"),
    ("target", TEXT, "name of the task of the images in that sweep"),
    ("task", TEXT, "hash of this task"),
    ("layers", pa.list_(INT), "numbers of the layers"),
    ("pool", TEXT, "rule that makes a vector: average, maximum or none"),
    ("most", INT, "most values of a vector without pooling; null without a limit"),
    ("values", INT, "values per image, of all layers"),
    ("images", INT, "number of images"),
    ("folder", TEXT, "folder of the Parquet files, below the root of the store"),
    ("parts", INT, "number of files"),
    ("bytes", INT, "size of the files"),
    ("sha256", TEXT, "SHA-256 of the files' SHA-256, in the order of their names"),
    ("checkpoint", TEXT, "SHA-256 of the weights of the network"),
    ("error_message", TEXT, "message of the error"),
]

OF_TRIAL: list[Column] = [IDENTITY[0], ("attempt", TEXT, "attempt that wrote the row")]

FIRST: Column = ("first_sweep", TEXT, "the sweep that ran it first; its labels are those here")
OF_FIRST = {"sweep": FIRST[0]}  # labels of members by their name in trials
_TRIAL = [FIRST if column[0] in OF_FIRST else column for column in IDENTITY]

TRIALS = _schema(_TRIAL + RESULTS, RUN)
CURVES = _schema([OF_TRIAL[0], *CURVE], [OF_TRIAL[1], ("seconds", REAL, "training time so far")])
PER_CLASS = _schema([OF_TRIAL[0], *CLASSES], [OF_TRIAL[1]])
MEMBERS = _schema(IDENTITY, [])
STUDIES = _schema(STUDY, STUDY_RUN)
MEASUREMENTS = _schema(MEASUREMENT, DERIVED_RUN)
EXTRACTIONS = _schema(EXTRACTION, DERIVED_RUN)

SCHEMAS = {
    "trials": TRIALS,
    "curves": CURVES,
    "classes": PER_CLASS,
    "sweeps": MEMBERS,
    "studies": STUDIES,
    "measurements": MEASUREMENTS,
    "extractions": EXTRACTIONS,
}


COLUMNS = {t: dict(zip(schema.names, schema.types, strict=True)) for t, schema in SCHEMAS.items()}
OF_MEMBERS = _schema([*IDENTITY, FIRST, *RESULTS], RUN)  # the view `results`


def first_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity columns of `trials` for the labels of a member."""
    return {OF_FIRST.get(name, name): value for name, value in labels.items()}


def with_results(members: pa.Table, trials: pa.Table) -> pa.Table:
    """Return the members that have a row in `trials`, with its other columns."""
    rows = pc.index_in(members["id"], trials["id"].combine_chunks()).combine_chunks()
    has_row = pc.is_valid(rows)
    members, trials = members.filter(has_row), trials.take(rows.filter(has_row))
    columns = [
        members[name] if name in members.column_names else trials[name] for name in OF_MEMBERS.names
    ]
    return pa.table(columns, schema=OF_MEMBERS)


def result_columns(table: str) -> list[str]:
    """Return the names of the columns that are results."""
    return [f.name for f in SCHEMAS[table] if (f.metadata or {}).get(b"result") == b"true"]


def recipe_columns(recipe: Recipe) -> dict[str, Any]:
    """Return the columns of `trials` that describe a recipe."""
    names = ("optimiser", "rate", "momentum", "weight_decay", "batch", "steps", "dropout")
    columns: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    columns["schedule"] = recipe.schedule.family
    if recipe.classifier:  # it is fitted, not trained in steps
        columns = dict.fromkeys(columns)
    return columns | {
        "precision": recipe.precision,
        "normalise": recipe.normalise,
        "classifier": recipe.classifier and recipe.classifier.kind,
        "detector": recipe.detector and recipe.detector.kind,
        "recipe": json.dumps(to_json(recipe), sort_keys=True),
    }


def to_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as an Arrow table. Raises `TypeError` for an unknown or a missing column."""
    require_columns(table, rows)
    return table_of(SCHEMAS[table], rows)


def require_columns(table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `TypeError` if a row has an unknown column or lacks one."""
    for row in rows:
        if wrong := COLUMNS[table].keys() ^ row.keys():
            raise TypeError(f"rows of {table} do not match the schema: {sorted(wrong)}")


def table_of(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table, as `pa.Table.from_pylist` does, in a quarter of its time.

    Raises `pa.ArrowInvalid` or `pa.ArrowTypeError` for a value of another type.
    """
    if not rows:
        return schema.empty_table()
    structs = pa.array(rows, pa.struct(list(schema)))
    return pa.Table.from_struct_array(structs).replace_schema_metadata(schema.metadata)
