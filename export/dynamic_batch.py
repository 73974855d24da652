"""The same network for any number of inputs at once: for those who have many crops or windows at hand in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from moodring.errors import ExportError

F32 = NDArray[np.float32]
Inputs = Sequence[dict[str, F32]]

AXIS = "batch"
BATCH_SIZES = (1, 3, 8)  # tried when it is compared with the form for one
TOLERANCE = 1e-4  # largest difference of any output in float32
MIN_LABEL_AGREEMENT = 0.99  # in int8, where a last bit may decide a rounding: share of equal first labels


def dynamic_batch(exported: bytes) -> bytes:
    """Return a network for batch 1 with its batch left open."""
    model = onnx.load_from_string(exported)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = AXIS
    del model.graph.value_info[:]  # shapes for one input
    return bytes(model.SerializeToString(deterministic=True))


def verify_dynamic_batch(kind: str, single: bytes, batched: bytes, inputs: Inputs, head: str, *, exact: bool) -> None:
    """Compare both forms on real inputs in batches; raise ExportError where a network is not the same in both."""
    one, batch_session = (_session(data) for data in (single, batched))
    names = [output.name for output in one.get_outputs()]
    expected = [_run_model(kind, one, names, each) for each in inputs]
    for size in BATCH_SIZES:
        groups = [
            {name: np.concatenate([each[name] for each in group]) for name in group[0]} for group in _groups(inputs, size)
        ]
        found = [_run_model(kind, batch_session, names, group) for group in groups]
        wanted, got = (
            {name: np.concatenate([one[name] for one in outputs]) for name in names} for outputs in (expected, found)
        )
        for name in names if exact else ():
            if wanted[name].shape != got[name].shape or not np.abs(wanted[name] - got[name]).max() <= TOLERANCE:
                raise ExportError(f"{kind}: {size} inputs at once give another {name} than each by itself")
        if not (wanted[head].argmax(axis=1) == got[head].argmax(axis=1)).mean() >= MIN_LABEL_AGREEMENT:
            raise ExportError(f"{kind}: {size} inputs at once give other labels than each by itself")


def _run_model(kind: str, session: ort.InferenceSession, names: list[str], inputs: dict[str, F32]) -> dict[str, F32]:
    try:
        return dict(zip(names, session.run(names, inputs), strict=True))
    except Exception as error:  # ONNX Runtime's own share no public base class
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{kind}: cannot take several inputs at once ({reason}); leave batch out of --formats") from error


def _session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _groups(inputs: Inputs, size: int) -> Iterator[Inputs]:
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]
