"""Built-in targets are sound, a user's file works, and every kind of bad descriptor is one clear error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target, target_names
from crisp_onnx.lowering.target import targets_folder

DAY_ONE = {
    "arm_cortex_a76",
    "arm_ethos_u65",
    "coral_edge_tpu",
    "dstc_edge_int8",
    "jetson_orin",
    "nvidia_a100",
    "nvidia_h100",
    "nvidia_h200",
    "portable",
    "stc_edge_int8",
    "x86_avx2",
    "x86_avx512",
}
DENSE_TOPS = {
    "nvidia_a100": 623.7,
    "nvidia_h100": 1978.9,
    "nvidia_h200": 1978.9,
    "jetson_orin": 85.2,
    "coral_edge_tpu": 4.0,
    "arm_ethos_u65": 1.024,
}


def text_of(name: str) -> str:
    return (targets_folder() / f"{name}.yaml").read_text()


def test_the_twelve_targets_of_day_one_are_there() -> None:
    assert set(target_names()) >= DAY_ONE


@pytest.mark.parametrize("name", sorted(DAY_ONE))
def test_every_built_in_target_loads_and_says_where_each_number_is_from(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert len(target.leaves()) > 5
    assert all(leaf.quantity.ref and leaf.quantity.unit and leaf.quantity.value > 0 for leaf in target.leaves())


@pytest.mark.parametrize(("name", "tops"), sorted(DENSE_TOPS.items()))
def test_peak_rates_agree_with_the_advertised_dense_rates(name: str, tops: float) -> None:
    target = load_target(name)
    assert float(2 * target.peak_macs("int8") * target.clock_hz / 10**12) == pytest.approx(tops, rel=0.01)


def test_a_user_file_works_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("stc_edge_int8").replace("name: stc_edge_int8", "name: mine"))
    assert load_target(path).name == "mine"
    assert load_target(str(path)).peak_macs("int8") == 1024


def test_numbers_may_be_written_in_any_unit_of_their_dimension(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("stc_edge_int8").replace("value: 1e9, unit: Hz", "value: 1000, unit: MHz"))
    assert load_target(path).clock_hz == 10**9


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(CrispError, match="Did you mean 'nvidia_h100'"):
        load_target("nvidia_h10")


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


CLOCK = "hz: {value: 1e9, unit: Hz"
BAD = {
    "missing unit": (replaced("value: 1e9, unit: Hz, ", "value: 1e9, "), "clock.hz.unit", "is missing. Add it"),
    "wrong unit": (replaced("value: 1e9, unit: Hz", "value: 1e9, unit: B/s"), "clock.hz", "Use 'Hz'"),
    "misspelt unit": (replaced("value: 1e9, unit: Hz", "value: 1, unit: Ghz"), "clock.hz", "Did you mean 'GHz'"),
    "missing provenance": (replaced(", prov: literature", ""), "prov", "is missing"),
    "unknown provenance": (replaced("prov: literature", "prov: rumour"), "prov", "'rumour' is not allowed"),
    "empty reference": (lambda text: text.replace(text.split('ref: "')[1].split('"')[0], "", 1), "ref", "at least 1"),
    "duplicate key": (replaced("layout:", "clock: {}\nlayout:"), "duplicate key 'clock'", "Keep one"),
    "unknown key": (replaced("dtypes:", "dtyps:"), "dtyps", "Did you mean 'dtypes'"),
    "negative bandwidth": (replaced("read_bw: {value: 32", "read_bw: {value: -32"), "memory.0.read_bw", "positive"),
    "zero instead of null": (replaced("read_bw: {value: 32", "read_bw: {value: 0"), "memory.0.read_bw", "null"),
    "half a column": (
        replaced("lrf_n: {value: 128", "lrf_n: {value: 0.5"),
        "onchip.lrf_n",
        "0.5 columns is not a whole",
    ),
    "rows and a half": (replaced("rows: {value: 64", "rows: {value: 64.5"), "array.rows", "64.5 count is not a whole"),
    "more rows than there are": (replaced("rows: {value: 64", "rows: {value: 1e30"), "array.rows", "1 to 1,048,576"),
    "less than a byte": (
        replaced("value: 262144, unit: B", "value: 0.5, unit: B"),
        "memory.1.capacity",
        "than one byte",
    ),
    "text for a number": (replaced("value: 32,", "value: much,"), "memory.0.read_bw", "no number"),
    "bare number": (replaced("rows: {value: 64", "columns: 5\n  rows: {value: 64"), "array.columns", "unknown key"),
    "unknown pattern": (replaced('pattern: "2:4"', 'pattern: "two of four"'), "sparsity.nm.0.pattern", "pattern"),
    "pattern that keeps everything": (replaced('"2:4"', '"4:4"'), "sparsity.nm.0.pattern", "keeps all"),
    "unknown effect": (replaced("compute: skip", "compute: jump"), "compute", "'jump' is not allowed"),
    "unordered energy": (replaced("low: {value: 0.1,", "low: {value: 9.9,"), "mac_pj", "must ascend"),
    "peak against the array": (replaced("int8: {value: 1024", "int8: {value: 2048"), "int8", "Twice as much"),
    "a number that is none": (
        replaced("value: 1e9, unit: Hz", "value: .nan, unit: Hz"),
        "clock.hz.value:",
        "no number",
    ),
    "a number in quotes": (replaced("value: 1e9, unit: Hz", 'value: "1e9", unit: Hz'), "clock.hz.value:", "quotes"),
    "an unknown fallback": (
        replaced("dtypes: [int8]", "dtypes: [int8]\nops: [Conv]\nfallback: portabel"),
        "key fallback",
        "Did you mean 'portable'",
    ),
    "another version": (replaced("crisp-hw/1", "crisp-hw/2"), "key schema", "this version reads 'crisp-hw/1'"),
    "no version": (replaced("schema: crisp-hw/1\n", ""), "key schema", "no `schema`"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_a_bad_descriptor_is_one_error_with_file_key_and_remedy(what: str, tmp_path: Path) -> None:
    change, key, remedy = BAD[what]
    path = tmp_path / "bad.yaml"
    path.write_text(change(text_of("stc_edge_int8")))
    with pytest.raises(CrispError) as caught:
        load_target(path)
    message = str(caught.value)
    assert str(path) in message
    assert key in message
    assert remedy in message
    assert message.count("\n") == 0


def test_a_sparse_rate_entered_as_dense_is_found_by_the_data_sheet(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    text = text_of("nvidia_h100").replace("lanes: {value: 64", "lanes: {value: 128")
    path.write_text(text.replace("int8: {value: 540672", "int8: {value: 1081344"))
    with pytest.raises(CrispError, match=r"advertised_dense_tops\.int8.*sparse"):
        load_target(path)


def test_sparse_tops_entered_as_the_dense_figure_are_found(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(text_of("jetson_orin").replace("value: 85.2, unit: TOPS", "value: 170, unit: TOPS"))
    with pytest.raises(CrispError, match="a sparse \\(2:4\\) figure was entered as dense"):
        load_target(path)


def test_a_gpu_without_its_advertised_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    content = yaml.safe_load(text_of("nvidia_a100").replace('"2:4"', '"2:4"'))
    del content["array"]["advertised_dense_tops"]
    content["clock"]["hz"]["value"] = 1410000000.0
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CrispError, match=r"array\.advertised_dense_tops: missing"):
        load_target(path)


BOMB = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
REFUSED = {
    "YAML bomb": (BOMB, "alias"),
    "huge": ("a: " + "x" * 300_000, "larger than"),
    "deep": ("[" * 40 + "]" * 40, "too deep"),
    "not YAML": ("a: [1, 2", "not valid YAML"),
    "python object": ("a: !!python/object/apply:os.system ['true']", "tag .* Write plain values"),
    "a list": ("- a\n- b\n", "no mapping"),
    "empty": ("", "no mapping"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_files_that_are_no_descriptor_are_refused_quickly(what: str, tmp_path: Path) -> None:
    content, word = REFUSED[what]
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(CrispError, match=word):
        load_target(path)


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CrispError, match=r"bad\.yaml"):
        load_target(path)
    with pytest.raises(CrispError, match="No such target file"):
        load_target(tmp_path / "none.yaml")


def test_a_pattern_without_quotes_is_no_base_sixty_number(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of("stc_edge_int8").replace('"2:4"', "2:4"))
    assert load_target(path).descriptor.sparsity.nm[0].pattern == "2:4"


def test_a_folder_a_model_and_what_is_not_there_say_what_to_give_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "./mine", "mine/", folder):
        with pytest.raises(
            CrispError, match=r"mine is a folder without a YAML file\. Give the name of a built-in target"
        ):
            load_target(name)
    shutil.copy(targets_folder() / "portable.yaml", folder / "other.yaml")
    with pytest.raises(
        CrispError, match=r"mine is a folder\. Give one of the files in it as the target: mine/other\.yaml"
    ):
        load_target("mine")
    shutil.copy(targets_folder() / "portable.yaml", tmp_path / "portable.txt")
    assert load_target("portable.txt").name == "portable"  # whatever the file is called
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(CrispError, match=r"net\.onnx is a model"):
        load_target("net.onnx")
    with pytest.raises(CrispError, match=r"cannot be read: File name too long|Unknown target"):
        load_target("./" + 300 * "x")
    with pytest.raises(CrispError, match="Unknown target"):
        load_target("")
