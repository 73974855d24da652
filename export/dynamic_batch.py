"""Networks with a dynamic batch size, for programs that process many crops or windows at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort

from moodring.errors import ExportError
from moodring.export.onnx_model import open_session, serialize
from moodring.export.quantization.data import Feed, Inputs, same_label_share
from moodring.export.verify import TOLERANCE
from moodring.types import F32

AXIS = "batch"
BATCH_SIZES = (1, 3, 8)  # compared with the single-input model
MIN_LABEL_AGREEMENT = 0.99  # for int8, where a difference in the last bit can change a rounding


def dynamic_batch(exported: bytes) -> bytes:
    """Return an ONNX model for batch 1 with a dynamic batch dimension."""
    model = onnx.load_from_string(exported)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = AXIS
    del model.graph.value_info[:]  # inferred shapes for batch 1
    return serialize(model)


def verify_dynamic_batch(kind: str, single: bytes, batched: bytes, inputs: Inputs, head: str, *, exact: bool) -> None:
    """Compare a dynamic-batch model with the batch-1 model over inputs in batches of several sizes.

    With `exact` every output must agree within TOLERANCE. In any case `head` must give the same label for at least
    MIN_LABEL_AGREEMENT of the inputs. Raises ExportError otherwise.
    """
    single_session, batched_session = open_session(single), open_session(batched)
    names = [output.name for output in single_session.get_outputs()]
    expected = _stack([_run_model(kind, single_session, names, feed) for feed in inputs])
    for size in BATCH_SIZES:
        found = _stack([_run_model(kind, batched_session, names, _stack(group)) for group in _groups(inputs, size)])
        for name in names if exact else ():
            same_shape = expected[name].shape == found[name].shape
            if not same_shape or not np.abs(expected[name] - found[name]).max() <= TOLERANCE:
                raise ExportError(f"{kind}: a batch of {size} gives another {name} than single inputs")
        if not same_label_share(expected[head], found[head]) >= MIN_LABEL_AGREEMENT:
            raise ExportError(f"{kind}: a batch of {size} gives other labels than single inputs")


def _run_model(kind: str, session: ort.InferenceSession, names: list[str], inputs: Feed) -> dict[str, F32]:
    try:
        return dict(zip(names, session.run(names, inputs), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions have no public base class
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{kind}: cannot run a batch of inputs ({reason}); leave batch out of --formats") from error


def _stack(feeds: Inputs) -> Feed:
    """Concatenate tensors of the same name along the batch axis."""
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _groups(inputs: Inputs, size: int) -> Iterator[Inputs]:
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]
