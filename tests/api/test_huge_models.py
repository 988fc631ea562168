"""Models whose weights no protobuf message can hold (over 2 GiB), shown with a limit that is a thousand times lower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.message import EncodeError

from crisp_onnx import check, estimate
from crisp_onnx.model import save

LIMIT_BYTES = 2 << 20
NET = (
    "(float[N,16,4,4] x) => (float[N,6] y) <float[512,16,1,1] a, float[512,512,3,3] w, float[6,512] h>"
    "{ s = Conv(x, a) r = Relu(s) t = Conv<pads=[1,1,1,1]>(r, w) q = Relu(t) p = GlobalAveragePool(q)"
    " f = Flatten(p) y = Gemm<transB=1>(f, h) }"
)


def narrow_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages refuse to be measured or written beyond the limit, as they do at 2 GiB."""
    write = onnx.ModelProto.SerializeToString

    def limited(message: onnx.ModelProto, **options: Any) -> bytes:
        written = bytes(write(message, **options))
        if len(written) > LIMIT_BYTES:
            raise EncodeError("Failed to serialize proto")
        return written

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", limited)
    monkeypatch.setattr(onnx.ModelProto, "ByteSize", lambda message: len(limited(message)))


def test_a_model_larger_than_a_message_is_checked_and_estimated(
    model_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.onnx"
    model = model_of(NET)
    narrow_protobuf(monkeypatch)
    with pytest.raises(EncodeError):
        model.proto.SerializeToString()
    assert save(model, path) > 9_000_000
    assert path.stat().st_size < LIMIT_BYTES
    found = check(path)
    assert found.refusal == ""
    assert [item.prunable for item in found.layers] == [False, True, False]
    assert estimate(path, "stc_edge_int8").estimate.as_is.stored_weight_bytes > 2_000_000
