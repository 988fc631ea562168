"""A layer stays in float32 where that saves time that is felt."""

from crisp_onnx.quantize.precision import worth_float32
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.profit import Verdict


def _taking(**times_ms: float) -> dict[str, Verdict]:
    return {name: Verdict(True, LayerTimes(10 * ms, ms, 0.0, noisy=False), ms, "") for name, ms in times_ms.items()}


def test_a_layer_that_takes_int8_twice_as_long_stays_in_float32_with_both_times() -> None:
    found = worth_float32(_taking(conv=1.0, first=2.0), _taking(conv=0.4, first=4.0))
    assert found == {"first": "timed alone: 2.000 ms in float32, 4.000 ms in int8"}


def test_a_layer_that_is_little_faster_in_float32_is_not_worth_its_seams() -> None:
    assert worth_float32(_taking(conv=1.0), _taking(conv=1.24)) == {}


def test_a_layer_that_saves_less_than_a_hundredth_of_the_time_is_not_worth_four_times_its_bytes() -> None:
    in_float32 = _taking(conv=9.0, classifier=0.020)
    assert worth_float32(in_float32, _taking(conv=4.0, classifier=0.028)) == {}
    assert "classifier" in worth_float32(in_float32, _taking(conv=0.7, classifier=0.028))


def test_only_layers_timed_in_both_precisions_are_compared() -> None:
    assert worth_float32(_taking(conv=1.0), _taking(other=5.0)) == {}
