"""`moodring export`: from checkpoints, or networks of one's own, to a verified model bundle and the table of its forms."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from moodring.errors import ExportError, UsageError
from moodring.export.checks import check_onnx
from moodring.export.custom import read_own
from moodring.export.dynamic_batch import any_batch, verify_any_batch
from moodring.export.held_out import HeldOut, Pairs, held_out, judged
from moodring.export.networks import Network, load_networks
from moodring.export.quantization.data import Inputs, Material, check
from moodring.export.quantization.gather import gather
from moodring.export.quantization.qat import can_be_trained, trained_on
from moodring.export.quantization.quantize import LEAST_SAME_LABEL, METHODS, Limits, Method, Quantised, quantise
from moodring.export.table import make_table
from moodring.export.table_text import markdown, print_table
from moodring.export.to_onnx import to_onnx
from moodring.export.to_openvino import Ir, Judged, judged_ir, to_int8_ir, to_ir
from moodring.export.verify import TOLERANCE, Verified, random_inputs, real_inputs, verify, verify_ir
from moodring.export.write import Forms, describe, write_bundle
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import load
from moodring.labels import LABELS

FORMATS = ("onnx", "openvino", "batch")
PRECISIONS = ("fp32", "int8")
SAMPLES = 256
MAX_DROP_PP = 0.5
PACED = 100  # calls of each form in the table
BATCHED_INPUTS = 96


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for; `max_drop_pp` are the points of accuracy that int8 may cost, judged on validation inputs.

    `least_same_label` is the share of inputs on which it must name float32's label. `methods` are the ways to set int8's
    ranges that may be tried; `table` is the folder for the table, which with `full` has other numbers of threads than one as
    well.
    """

    formats: Sequence[str] = ("onnx",)
    precisions: Sequence[str] = PRECISIONS
    max_drop_pp: float = MAX_DROP_PP
    samples: int = SAMPLES
    methods: Sequence[Method] = tuple(METHODS)
    table: Path | None = None
    full: bool = False
    least_same_label: float = LEAST_SAME_LABEL


@dataclass(slots=True)
class Work:
    """What an export has so far: networks, and by network their verified ONNX, what int8 needs, and every file."""

    name: str
    labels: tuple[str, ...]
    spec: PreprocessSpec
    networks: dict[str, Network]
    verified: dict[str, Verified]
    material: dict[str, Material]
    thresholds: dict[str, float] = field(default_factory=dict)
    int8: dict[str, Quantised] = field(default_factory=dict)
    irs: dict[str, dict[str, Ir]] = field(default_factory=dict)
    batched: dict[str, dict[str, bytes]] = field(default_factory=dict)
    openvino_int8: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each of two ways costs

    def files(self) -> dict[str, dict[str, bytes]]:
        """Return the ONNX files by network and precision."""
        small = {kind: {"int8": done.onnx} for kind, done in self.int8.items()}
        return {kind: {"fp32": done.onnx, **small.get(kind, {})} for kind, done in self.verified.items()}


def export(
    source: Path, out: Path, data_dir: Path | None, options: Options | None = None, json_path: Path | None = None
) -> int:
    """Export networks, compare each with its original, quantise, and only then write the bundle, and after it the table.

    `source` is a folder of checkpoints, which `data_dir` holds the data for, or the description of networks of one's own.
    Returns the exit code: 0, or 1 where a network is worse in int8 than allowed (the bundle then holds fp32 alone). Raises
    UsageError, DataError or ExportError.
    """
    asked = options or Options()
    _check(asked)
    torch.set_num_threads(1)
    out, source = Path(out), Path(source)
    if source.is_file():
        work = _own(source)
    elif data_dir is None:
        raise UsageError(
            f"{source}: say --data DIR, where the data sets lie: an export is compared and quantised on real inputs"
        )
    else:
        work = _ours(source, out.name, Path(data_dir), asked.samples)
    trouble = _make_forms(work, asked)
    forms = Forms(work.files(), work.irs, work.batched)
    document = describe(work.networks, forms, work.spec, work.name, work.thresholds, labels=work.labels)
    write_bundle(out, document, forms)
    print(f"bundle {document['id']} -> {out}", flush=True)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(_measured(work, document, asked), indent=1) + "\n", encoding="utf-8")
    if asked.table is not None:
        held, pairs = _held(work, data_dir)
        _write_table(out, held, pairs, asked, work.openvino_int8)
    if trouble is not None:
        print(f"moodring: {trouble}; the bundle holds fp32 alone", file=sys.stderr)
        return 1
    return 0


def _check(asked: Options) -> None:
    for given, known, what in (
        (asked.formats, FORMATS, "formats"),
        (asked.precisions, PRECISIONS, "precision"),
        (asked.methods, tuple(METHODS), "calibration"),
    ):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise UsageError(f"--{what} must be of {', '.join(known)}, got {', '.join(unknown) or 'nothing'}")
    if "fp32" not in asked.precisions:
        raise UsageError("--precision must hold fp32: int8 is made from it and judged by it")
    if "onnx" not in asked.formats:
        raise UsageError("--formats must hold onnx: every other form is made from it and compared with it")


def _ours(checkpoints: Path, name: str, data_dir: Path, samples: int) -> Work:
    """Load face, speech and fusion, and read what they are compared, quantised and judged by."""
    spec = PreprocessSpec()
    networks = load_networks(checkpoints, spec)
    inputs = real_inputs(networks, data_dir, spec)
    verified = {kind: _verified(network, to_onnx(network), inputs[kind]) for kind, network in networks.items()}
    material = gather(networks, data_dir, spec, samples)
    return Work(name, LABELS, spec, networks, verified, material)


def _own(path: Path) -> Work:
    """Load what a description names; a network without inputs of its own is compared on random ones."""
    own = read_own(path)
    verified = {}
    for kind, network in own.networks.items():
        inputs = own.material[kind].judged if kind in own.material else random_inputs(network)
        what = "given" if kind in own.material else "random"
        verified[kind] = _verified(network, own.source.get(kind) or to_onnx(network), inputs, what)
    return Work(own.name, own.labels, own.spec, own.networks, verified, own.material, own.thresholds)


def _verified(network: Network, exported: bytes, inputs: Inputs, what: str = "real") -> Verified:
    check_onnx(network.kind, exported)
    done = verify(network, exported, inputs)
    print(f"{network.kind}: {len(done.onnx) / 1e6:.2f} MB, at most {done.max_abs_difference:.1e} from the original over "
          f"{done.compared} {what} inputs", flush=True)  # fmt: skip
    return done


def _make_forms(work: Work, asked: Options) -> ExportError | None:
    """Make int8 and IR files; where int8 of one network costs too much, none is kept, and why is returned."""
    if "openvino" in asked.formats:
        for kind, done in work.verified.items():
            work.irs[kind] = {"fp32": to_ir(done.onnx), "fp16": to_ir(done.onnx, half=True)}
            difference = verify_ir(work.networks[kind], done.onnx, work.irs[kind]["fp32"], random_inputs(work.networks[kind]))
            print(f"{kind} IR: at most {difference:.1e} from the ONNX file", flush=True)
    if "int8" in asked.precisions:
        for kind in work.networks:
            if kind not in work.material:
                print(f"{kind}: fp32 alone, since int8 needs `training` and `judged` inputs", flush=True)
        try:
            for kind, material in work.material.items():
                check(kind, material, work.networks[kind].inputs)
                _quantise(work, kind, material, asked)
        except ExportError as error:
            work.int8.clear()
            for by_precision in work.irs.values():
                by_precision.pop("int8", None)
            _open_batches(work, asked)
            return error
    _open_batches(work, asked)
    return None


def _quantise(work: Work, kind: str, material: Material, asked: Options) -> None:
    """Make int8 of one network, as ONNX and where asked for OpenVINO; ExportError where it costs too much."""
    exported, network = work.verified[kind].onnx, work.networks[kind]
    limits = Limits(asked.max_drop_pp, asked.least_same_label)

    def train_on() -> bytes:
        print(f"{kind} int8: costs too much in every other way; training on", flush=True)
        return to_onnx(trained_on(network, material.training))

    last = train_on if can_be_trained(network) else None
    small = quantise(kind, exported, material, limits, asked.methods, train_on=last)
    work.int8[kind] = small
    agreed = f"{100 * small.same_label:.1f} % of {len(material.judged)} validation labels as in fp32"
    print(f"{kind} int8: {len(small.onnx) / 1e6:.2f} MB, {small.drop_pp:+.2f} points lost, {agreed} ({small.way})", flush=True)
    if "openvino" in asked.formats:
        work.irs[kind]["int8"] = _int8_ir(work, kind, material, limits)


def _int8_ir(work: Work, kind: str, material: Material, limits: Limits) -> Ir:
    """Return int8 for OpenVINO: of the same file as ONNX Runtime's, so that both name the same labels, or NNCF's own.

    NNCF's is taken where the other costs too much and it does not. What both cost is said and kept.
    """
    exported = work.verified[kind].onnx
    shared = to_ir(work.int8[kind].onnx)
    found: dict[str, tuple[Ir, Judged]] = {"qdq": (shared, judged_ir(exported, shared, material))}
    try:
        own = to_int8_ir(kind, exported, material, limits.max_drop_pp)
        found["nncf"] = own, judged_ir(exported, own, material)
    except ExportError as error:
        print(str(error), flush=True)
    fits = {name: one.drop_pp <= limits.max_drop_pp and one.same_label >= limits.least_same_label
            for name, (_, one) in found.items()}  # fmt: skip
    chosen = "nncf" if fits.get("nncf") and not fits["qdq"] else "qdq"
    work.openvino_int8[kind] = {"taken": chosen, **{name: dataclasses.asdict(one) for name, (_, one) in found.items()}}
    said = "; ".join(f"{name} {one.drop_pp:+.2f} points lost, {100 * one.same_label:.1f} % of the labels"
                     for name, (_, one) in found.items())  # fmt: skip
    print(f"{kind} int8 IR: {said}; {chosen} is taken", flush=True)
    return found[chosen][0]


def _open_batches(work: Work, asked: Options) -> None:
    """Add each ONNX file with its batch left open, compared with the file for one input."""
    if "batch" not in asked.formats:
        return
    for kind, files in work.files().items():
        material = work.material.get(kind)
        inputs = material.judged[:BATCHED_INPUTS] if material else random_inputs(work.networks[kind])
        head = material.head if material else "logits"
        work.batched[kind] = {}
        for precision, data in files.items():
            opened = work.batched[kind][precision] = any_batch(data)
            verify_any_batch(kind, data, opened, inputs, head, exact=precision == "fp32")
        print(f"{kind} for any batch: as one by one, over {len(inputs)} inputs", flush=True)


def _measured(work: Work, document: dict[str, Any], asked: Options) -> dict[str, Any]:
    models: dict[str, Any] = {
        kind: {
            "bytes": len(done.onnx),
            "sha256": document["models"][kind]["files"]["fp32"]["sha256"],
            "max_abs_difference": done.max_abs_difference,
            "compared": done.compared,
            **({"int8": work.int8[kind].figures()} if kind in work.int8 else {}),
        }
        for kind, done in work.verified.items()
    }
    limits = {"max_drop_pp": asked.max_drop_pp, "least_same_label": asked.least_same_label}
    return {"bundle": document["id"], "tolerance": TOLERANCE, **limits, "models": models, "openvino_int8": work.openvino_int8}


def _held(work: Work, data_dir: Path | None) -> tuple[dict[str, HeldOut], Pairs | None]:
    """Return what the table compares forms on: held-out data, or what one's own networks bring along."""
    if "fusion" in work.networks and data_dir is not None:
        return held_out(work.networks, data_dir, work.spec)
    without = [kind for kind in work.networks if kind not in work.material]
    if without:
        raise UsageError(f"--table needs inputs to compare forms on: give {' and '.join(without)} `training` and `judged`")
    return {kind: judged(kind, material) for kind, material in work.material.items()}, None


def _write_table(
    out: Path, held: dict[str, HeldOut], pairs: Pairs | None, asked: Options, openvino_int8: dict[str, dict[str, Any]]
) -> None:
    """Measure the bundle as it was written, print the table, and write it as forms.json and forms.md."""
    assert asked.table is not None  # noqa: S101  for the type checker
    counts = sorted({1, 2, os.cpu_count() or 1}) if asked.full else [1]
    document = {**make_table(load(out, needed=()), held, pairs, counts, PACED), "openvino_int8": openvino_int8}
    print_table(document)
    asked.table.mkdir(parents=True, exist_ok=True)
    (asked.table / "forms.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (asked.table / "forms.md").write_text(markdown(document), encoding="utf-8")
