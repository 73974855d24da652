"""`moodring export`: write a verified model bundle from checkpoints or custom models, and the table of its variants."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from moodring.errors import ExportError, UsageError
from moodring.export.custom import read_custom_models
from moodring.export.dynamic_batch import dynamic_batch, verify_dynamic_batch
from moodring.export.held_out import HeldOut, Pairs, held_out, validation
from moodring.export.networks import Network, load_networks
from moodring.export.onnx_model import check_onnx
from moodring.export.quantization.data import PERCENTAGE_POINTS, Inputs, QuantizationData, check_quantization_data
from moodring.export.quantization.gather import gather, real_inputs
from moodring.export.quantization.qat import quantization_aware_training, supports_qat
from moodring.export.quantization.quantize import MAX_DROP_PP, MIN_AGREEMENT, Limits, QuantizedModel, quantize_network
from moodring.export.quantization.static_qdq import METHODS, Method
from moodring.export.table import make_table
from moodring.export.table_text import markdown, print_table
from moodring.export.to_onnx import to_onnx
from moodring.export.to_openvino import Ir, choose_int8_ir, to_ir
from moodring.export.verify import TOLERANCE, VerifiedExport, random_inputs, verify, verify_ir
from moodring.export.write import ModelVariants, describe, write_bundle
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import load
from moodring.labels import LABELS

FORMATS = ("onnx", "openvino", "batch")
PRECISIONS = ("fp32", "int8")
CALIBRATION_SAMPLES = 256
PACED_CALLS = 100  # of each variant in the table
DYNAMIC_BATCH_INPUTS = 96
BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True)
class Options:
    """What to export and the limits for int8.

    `max_drop_pp` is the accepted accuracy loss in percentage points and `min_agreement` the share of validation inputs with
    float32's label. `samples` is the number of calibration samples, `methods` the calibration methods to try. `table` is the
    folder for the table of variants; `full` also measures other numbers of threads than one.
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
    """The networks of one export and everything made from them so far; the dicts are by network, then by precision."""

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
    openvino_int8: dict[str, dict[str, Any]] = field(default_factory=dict)  # cost of each int8 IR, and which one is used

    def files(self) -> dict[str, dict[str, bytes]]:
        """Return the ONNX files by network and precision."""
        int8 = {kind: {"int8": model.onnx} for kind, model in self.int8.items()}
        return {kind: {"fp32": done.onnx, **int8.get(kind, {})} for kind, done in self.verified.items()}


def export(
    source: Path, out: Path, data_dir: Path | None, options: Options | None = None, json_path: Path | None = None
) -> int:
    """Export networks, compare each with its original, quantise them, write the bundle and then the table.

    `source` is a folder of checkpoints, with `data_dir` for its data sets, or the description of custom models. Returns the
    exit code: 0, or 1 if int8 exceeds a limit (the bundle then holds fp32 alone). Raises UsageError, DataError or ExportError;
    nothing is written if a network differs from its original.
    """
    options = options or Options()
    _check_options(options)
    torch.set_num_threads(1)
    out, source = Path(out), Path(source)
    if source.is_file():
        state = _load_custom_models(source)
    elif data_dir is None:
        raise UsageError(
            f"{source}: give --data DIR, the folder of the data sets: export compares and quantises networks on real inputs"
        )
    else:
        state = _load_checkpoints(source, out.name, Path(data_dir), options.samples)
    int8_error = make_variants(state, options)
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
    for flag, given, known in (
        ("formats", options.formats, FORMATS),
        ("precision", options.precisions, PRECISIONS),
        ("calibration", options.methods, tuple(METHODS)),
    ):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise UsageError(f"--{flag} must be one or more of {', '.join(known)}; got {', '.join(unknown) or 'nothing'}")
    if "fp32" not in options.precisions:
        raise UsageError("--precision must include fp32: int8 is made from it and compared with it")
    if "onnx" not in options.formats:
        raise UsageError("--formats must include onnx: every other format is made from it and compared with it")


def _load_checkpoints(checkpoints: Path, name: str, data_dir: Path, samples: int) -> ExportState:
    """Load face, speech and fusion, verify their exports, and read their calibration and validation data."""
    spec = PreprocessSpec()
    networks = load_networks(checkpoints, spec)
    inputs = real_inputs(networks, data_dir, spec)
    verified = {kind: _verify_export(network, to_onnx(network), inputs[kind]) for kind, network in networks.items()}
    quantization_data = gather(networks, data_dir, spec, samples)
    return ExportState(name, LABELS, spec, networks, verified, quantization_data)


def _load_custom_models(path: Path) -> ExportState:
    """Load the networks of a description and verify their exports, on random inputs if they have no validation data."""
    custom = read_custom_models(path)
    verified = {}
    for kind, network in custom.networks.items():
        has_data = kind in custom.quantization_data
        inputs = custom.quantization_data[kind].validation if has_data else random_inputs(network)
        exported = custom.source.get(kind) or to_onnx(network)
        verified[kind] = _verify_export(network, exported, inputs, "validation" if has_data else "random")
    return ExportState(
        custom.name, custom.labels, custom.spec, custom.networks, verified, custom.quantization_data, custom.thresholds
    )


def _verify_export(network: Network, exported: bytes, inputs: Inputs, input_type: str = "real") -> VerifiedExport:
    check_onnx(network.kind, exported)
    done = verify(network, exported, inputs)
    print(
        f"{network.kind}: {len(done.onnx) / BYTES_PER_MB:.2f} MB, largest difference from the original "
        f"{done.max_abs_difference:.1e} over {done.compared} {input_type} inputs",
        flush=True,
    )
    return done


def make_variants(state: ExportState, options: Options) -> ExportError | None:
    """Make the int8, IR and dynamic-batch files.

    If int8 of one network exceeds a limit, drops int8 of all networks and returns the error.
    """
    if "openvino" in options.formats:
        _add_irs(state)
    int8_error = _quantize_all(state, options) if "int8" in options.precisions else None
    if int8_error is not None:
        state.int8.clear()
        for by_precision in state.irs.values():
            by_precision.pop("int8", None)
    if "batch" in options.formats:
        _add_dynamic_batch(state)
    return int8_error


def _add_irs(state: ExportState) -> None:
    """Add the fp32 and fp16 IR of each network; compare fp32 with the ONNX file."""
    for kind, done in state.verified.items():
        network = state.networks[kind]
        state.irs[kind] = {"fp32": to_ir(done.onnx), "fp16": to_ir(done.onnx, half=True)}
        difference = verify_ir(network, done.onnx, state.irs[kind]["fp32"], random_inputs(network))
        print(f"{kind} IR: largest difference from the ONNX file {difference:.1e}", flush=True)


def _quantize_all(state: ExportState, options: Options) -> ExportError | None:
    """Quantise every network with calibration data; return the first error."""
    for kind in state.networks:
        if kind not in state.quantization_data:
            print(f"{kind}: fp32 alone; int8 needs `training` and `judged` inputs", flush=True)
    try:
        for kind, quantization_data in state.quantization_data.items():
            check_quantization_data(kind, quantization_data, state.networks[kind].inputs)
            _quantize(state, kind, quantization_data, options)
    except ExportError as error:
        return error
    return None


def _quantize(state: ExportState, kind: str, quantization_data: QuantizationData, options: Options) -> None:
    """Add int8 of one network as ONNX, and as IR if requested. Raise ExportError if it exceeds a limit."""
    exported, network = state.verified[kind].onnx, state.networks[kind]
    limits = Limits(options.max_drop_pp, options.min_agreement)

    def train_qat() -> bytes:
        print(f"{kind} int8: every other method exceeds a limit; running quantisation-aware training", flush=True)
        return to_onnx(quantization_aware_training(network, quantization_data.calibration))

    last_resort = train_qat if supports_qat(network) else None
    int8 = quantize_network(kind, exported, quantization_data, limits, options.methods, train_qat=last_resort)
    state.int8[kind] = int8
    print(
        f"{kind} int8: {len(int8.onnx) / BYTES_PER_MB:.2f} MB, accuracy loss {int8.drop_pp:+.2f} pp, same label as fp32 for "
        f"{PERCENTAGE_POINTS * int8.same_label:.1f} % of {len(quantization_data.validation)} validation inputs ({int8.config})",
        flush=True,
    )
    if "openvino" in options.formats:
        chosen = choose_int8_ir(kind, exported, int8.onnx, quantization_data, limits)
        state.irs[kind]["int8"] = chosen.ir
        state.openvino_int8[kind] = chosen.metrics()


def _add_dynamic_batch(state: ExportState) -> None:
    """Add a dynamic-batch copy of each ONNX file and compare it with the original."""
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
        print(f"{kind} dynamic batch: same outputs as for single inputs, over {len(inputs)} inputs", flush=True)


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
    """Return the data that the table compares variants on: held-out data, or the validation data of custom models."""
    if "fusion" in state.networks and data_dir is not None:
        return held_out(state.networks, data_dir, state.spec)
    missing = [kind for kind in state.networks if kind not in state.quantization_data]
    if missing:
        raise UsageError(
            f"--table compares variants on validation inputs: give {' and '.join(missing)} `training` and `judged` inputs"
        )
    return {kind: validation(kind, quantization_data) for kind, quantization_data in state.quantization_data.items()}, None


def _write_table(
    out: Path,
    held_out_sets: dict[str, HeldOut],
    pairs: Pairs | None,
    options: Options,
    openvino_int8: dict[str, dict[str, Any]],
) -> None:
    """Measure the written bundle, print the table, and write it as forms.json and forms.md."""
    assert options.table is not None  # noqa: S101  for the type checker
    counts = sorted({1, 2, os.cpu_count() or 1}) if options.full else [1]
    document = {**make_table(load(out, required=()), held_out_sets, pairs, counts, PACED_CALLS), "openvino_int8": openvino_int8}
    print_table(document)
    options.table.mkdir(parents=True, exist_ok=True)
    (options.table / "forms.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (options.table / "forms.md").write_text(markdown(document), encoding="utf-8")
