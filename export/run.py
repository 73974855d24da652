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
from moodring.export.custom import read_custom_models
from moodring.export.dynamic_batch import dynamic_batch, verify_dynamic_batch
from moodring.export.held_out import HeldOut, Pairs, held_out, validation
from moodring.export.networks import Network, load_networks
from moodring.export.quantization.data import Inputs, QuantizationData, check_quantization_data
from moodring.export.quantization.gather import gather
from moodring.export.quantization.qat import quantization_aware_training, supports_qat
from moodring.export.quantization.quantize import METHODS, MIN_AGREEMENT, Limits, Method, QuantizedModel, quantize_network
from moodring.export.table import make_table
from moodring.export.table_text import markdown, print_table
from moodring.export.to_onnx import to_onnx
from moodring.export.to_openvino import Ir, IrComparison, compare_ir, to_int8_ir, to_ir
from moodring.export.verify import TOLERANCE, VerifiedExport, random_inputs, real_inputs, verify, verify_ir
from moodring.export.write import ModelVariants, describe, write_bundle
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import load
from moodring.labels import LABELS

FORMATS = ("onnx", "openvino", "batch")
PRECISIONS = ("fp32", "int8")
CALIBRATION_SAMPLES = 256
MAX_DROP_PP = 0.5
PACED_CALLS = 100  # calls of each form in the table
DYNAMIC_BATCH_INPUTS = 96


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
    samples: int = CALIBRATION_SAMPLES
    methods: Sequence[Method] = tuple(METHODS)
    table: Path | None = None
    full: bool = False
    min_agreement: float = MIN_AGREEMENT


@dataclass(slots=True)
class ExportState:
    """What an export has so far: networks, and by network their verified ONNX, what int8 needs, and every file."""

    name: str
    labels: tuple[str, ...]
    spec: PreprocessSpec
    networks: dict[str, Network]
    verified: dict[str, VerifiedExport]
    quantization_data: dict[str, QuantizationData]
    thresholds: dict[str, float] = field(default_factory=dict)
    int8: dict[str, QuantizedModel] = field(default_factory=dict)
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
    options = options or Options()
    _check_options(options)
    torch.set_num_threads(1)
    out, source = Path(out), Path(source)
    if source.is_file():
        state = _load_custom_models(source)
    elif data_dir is None:
        raise UsageError(
            f"{source}: say --data DIR, where the data sets lie: an export is compared and quantised on real inputs"
        )
    else:
        state = _load_checkpoints(source, out.name, Path(data_dir), options.samples)
    int8_error = _make_variants(state, options)
    variants = ModelVariants(state.files(), state.irs, state.batched)
    document = describe(state.networks, variants, state.spec, state.name, state.thresholds, labels=state.labels)
    write_bundle(out, document, variants)
    print(f"bundle {document['id']} -> {out}", flush=True)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(_measurements(state, document, options), indent=1) + "\n", encoding="utf-8")
    if options.table is not None:
        held_out_sets, pairs = _held_out_data(state, data_dir)
        _write_table(out, held_out_sets, pairs, options, state.openvino_int8)
    if int8_error is not None:
        print(f"moodring: {int8_error}; the bundle holds fp32 alone", file=sys.stderr)
        return 1
    return 0


def _check_options(options: Options) -> None:
    for given, known, what in (
        (options.formats, FORMATS, "formats"),
        (options.precisions, PRECISIONS, "precision"),
        (options.methods, tuple(METHODS), "calibration"),
    ):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise UsageError(f"--{what} must be of {', '.join(known)}, got {', '.join(unknown) or 'nothing'}")
    if "fp32" not in options.precisions:
        raise UsageError("--precision must hold fp32: int8 is made from it and judged by it")
    if "onnx" not in options.formats:
        raise UsageError("--formats must hold onnx: every other form is made from it and compared with it")


def _load_checkpoints(checkpoints: Path, name: str, data_dir: Path, samples: int) -> ExportState:
    """Load face, speech and fusion, and read what they are compared, quantised and judged by."""
    spec = PreprocessSpec()
    networks = load_networks(checkpoints, spec)
    inputs = real_inputs(networks, data_dir, spec)
    verified = {kind: _verify_export(network, to_onnx(network), inputs[kind]) for kind, network in networks.items()}
    quantization_data = gather(networks, data_dir, spec, samples)
    return ExportState(name, LABELS, spec, networks, verified, quantization_data)


def _load_custom_models(path: Path) -> ExportState:
    """Load what a description names; a network without inputs of its own is compared on random ones."""
    own = read_custom_models(path)
    verified = {}
    for kind, network in own.networks.items():
        inputs = own.quantization_data[kind].validation if kind in own.quantization_data else random_inputs(network)
        what = "given" if kind in own.quantization_data else "random"
        verified[kind] = _verify_export(network, own.source.get(kind) or to_onnx(network), inputs, what)
    return ExportState(own.name, own.labels, own.spec, own.networks, verified, own.quantization_data, own.thresholds)


def _verify_export(network: Network, exported: bytes, inputs: Inputs, what: str = "real") -> VerifiedExport:
    check_onnx(network.kind, exported)
    done = verify(network, exported, inputs)
    print(f"{network.kind}: {len(done.onnx) / 1e6:.2f} MB, at most {done.max_abs_difference:.1e} from the original over "
          f"{done.compared} {what} inputs", flush=True)  # fmt: skip
    return done


def _make_variants(state: ExportState, options: Options) -> ExportError | None:
    """Make int8 and IR files; where int8 of one network costs too much, none is kept, and why is returned."""
    if "openvino" in options.formats:
        for kind, done in state.verified.items():
            state.irs[kind] = {"fp32": to_ir(done.onnx), "fp16": to_ir(done.onnx, half=True)}
            difference = verify_ir(
                state.networks[kind], done.onnx, state.irs[kind]["fp32"], random_inputs(state.networks[kind])
            )
            print(f"{kind} IR: at most {difference:.1e} from the ONNX file", flush=True)
    if "int8" in options.precisions:
        for kind in state.networks:
            if kind not in state.quantization_data:
                print(f"{kind}: fp32 alone, since int8 needs `training` and `judged` inputs", flush=True)
        try:
            for kind, quantization_data in state.quantization_data.items():
                check_quantization_data(kind, quantization_data, state.networks[kind].inputs)
                _quantize(state, kind, quantization_data, options)
        except ExportError as error:
            state.int8.clear()
            for by_precision in state.irs.values():
                by_precision.pop("int8", None)
            _add_dynamic_batch(state, options)
            return error
    _add_dynamic_batch(state, options)
    return None


def _quantize(state: ExportState, kind: str, quantization_data: QuantizationData, options: Options) -> None:
    """Make int8 of one network, as ONNX and where asked for OpenVINO; ExportError where it costs too much."""
    exported, network = state.verified[kind].onnx, state.networks[kind]
    limits = Limits(options.max_drop_pp, options.min_agreement)

    def train_qat() -> bytes:
        print(f"{kind} int8: costs too much in every other way; training on", flush=True)
        return to_onnx(quantization_aware_training(network, quantization_data.calibration))

    last = train_qat if supports_qat(network) else None
    small = quantize_network(kind, exported, quantization_data, limits, options.methods, train_qat=last)
    state.int8[kind] = small
    agreed = f"{100 * small.same_label:.1f} % of {len(quantization_data.validation)} validation labels as in fp32"
    print(
        f"{kind} int8: {len(small.onnx) / 1e6:.2f} MB, {small.drop_pp:+.2f} points lost, {agreed} ({small.config})", flush=True
    )
    if "openvino" in options.formats:
        state.irs[kind]["int8"] = _int8_ir(state, kind, quantization_data, limits)


def _int8_ir(state: ExportState, kind: str, quantization_data: QuantizationData, limits: Limits) -> Ir:
    """Return int8 for OpenVINO: of the same file as ONNX Runtime's, so that both name the same labels, or NNCF's own.

    NNCF's is taken where the other costs too much and it does not. What both cost is said and kept.
    """
    exported = state.verified[kind].onnx
    shared = to_ir(state.int8[kind].onnx)
    found: dict[str, tuple[Ir, IrComparison]] = {"qdq": (shared, compare_ir(exported, shared, quantization_data))}
    try:
        own = to_int8_ir(kind, exported, quantization_data, limits.max_drop_pp)
        found["nncf"] = own, compare_ir(exported, own, quantization_data)
    except ExportError as error:
        print(str(error), flush=True)
    fits = {name: one.drop_pp <= limits.max_drop_pp and one.same_label >= limits.min_agreement
            for name, (_, one) in found.items()}  # fmt: skip
    chosen = "nncf" if fits.get("nncf") and not fits["qdq"] else "qdq"
    state.openvino_int8[kind] = {"taken": chosen, **{name: dataclasses.asdict(one) for name, (_, one) in found.items()}}
    summary = "; ".join(f"{name} {one.drop_pp:+.2f} points lost, {100 * one.same_label:.1f} % of the labels"
                     for name, (_, one) in found.items())  # fmt: skip
    print(f"{kind} int8 IR: {summary}; {chosen} is taken", flush=True)
    return found[chosen][0]


def _add_dynamic_batch(state: ExportState, options: Options) -> None:
    """Add each ONNX file with its batch left open, compared with the file for one input."""
    if "batch" not in options.formats:
        return
    for kind, files in state.files().items():
        quantization_data = state.quantization_data.get(kind)
        inputs = (
            quantization_data.validation[:DYNAMIC_BATCH_INPUTS] if quantization_data else random_inputs(state.networks[kind])
        )
        head = quantization_data.head if quantization_data else "logits"
        state.batched[kind] = {}
        for precision, data in files.items():
            batched_model = state.batched[kind][precision] = dynamic_batch(data)
            verify_dynamic_batch(kind, data, batched_model, inputs, head, exact=precision == "fp32")
        print(f"{kind} for any batch: as one by one, over {len(inputs)} inputs", flush=True)


def _measurements(state: ExportState, document: dict[str, Any], options: Options) -> dict[str, Any]:
    models: dict[str, Any] = {
        kind: {
            "bytes": len(done.onnx),
            "sha256": document["models"][kind]["files"]["fp32"]["sha256"],
            "max_abs_difference": done.max_abs_difference,
            "compared": done.compared,
            **({"int8": state.int8[kind].metrics()} if kind in state.int8 else {}),
        }
        for kind, done in state.verified.items()
    }
    limits = {"max_drop_pp": options.max_drop_pp, "least_same_label": options.min_agreement}
    return {"bundle": document["id"], "tolerance": TOLERANCE, **limits, "models": models, "openvino_int8": state.openvino_int8}


def _held_out_data(state: ExportState, data_dir: Path | None) -> tuple[dict[str, HeldOut], Pairs | None]:
    """Return what the table compares forms on: held-out data, or what one's own networks bring along."""
    if "fusion" in state.networks and data_dir is not None:
        return held_out(state.networks, data_dir, state.spec)
    missing = [kind for kind in state.networks if kind not in state.quantization_data]
    if missing:
        raise UsageError(f"--table needs inputs to compare forms on: give {' and '.join(missing)} `training` and `judged`")
    return {kind: validation(kind, quantization_data) for kind, quantization_data in state.quantization_data.items()}, None


def _write_table(
    out: Path,
    held_out_sets: dict[str, HeldOut],
    pairs: Pairs | None,
    options: Options,
    openvino_int8: dict[str, dict[str, Any]],
) -> None:
    """Measure the bundle as it was written, print the table, and write it as forms.json and forms.md."""
    assert options.table is not None  # noqa: S101  for the type checker
    counts = sorted({1, 2, os.cpu_count() or 1}) if options.full else [1]
    document = {**make_table(load(out, required=()), held_out_sets, pairs, counts, PACED_CALLS), "openvino_int8": openvino_int8}
    print_table(document)
    options.table.mkdir(parents=True, exist_ok=True)
    (options.table / "forms.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (options.table / "forms.md").write_text(markdown(document), encoding="utf-8")
