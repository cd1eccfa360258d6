"""Data files: whatever they hold, prepare, data-head, quantize and evaluate read them or say what is wrong."""

import csv
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, changed, damaged, spoilt

from olivepress.core.prepared import read_preferences, read_prepared
from olivepress.core.tokenizer import load_tokenizer
from olivepress.data.dataset import source_of
from olivepress.data.encode import Encoder, encode_rows
from olivepress.data.prepare import PrepareSettings, prepare
from olivepress.quantize.calibration import calibration_blocks

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
ASKED = {"role": "user", "content": "What is there to see in Chicago?"}
ANSWERED = {"role": "assistant", "content": "The lake, and the towers beside it."}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ROWS = [
    {"prompt": "how do i cook pasta", "response": "In much water, with salt."},
    {"system": "Be brief.", "prompt": "what is salt", "response": "A mineral."},
    {"messages": [{"role": "system", "content": "Be brief."}, ASKED, ANSWERED, {**ASKED, "content": "more"}, ANSWERED]},
    {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                  {"role": "tool", "tool_call_id": "1", "content": "rain"}, ANSWERED], "tools": TOOLS},
    {"messages": [{**ASKED, "content": [{"type": "text", "text": "hi"}]}, {**ANSWERED, "weight": 1}]},
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    {"instruction": "Sum up.", "input": "A long text.", "output": "A text."},
    {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
    {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{**ANSWERED, "content": "Nothing."}]},
    {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, {**ANSWERED, "content": "Nothing."}]},
]  # fmt: skip
FILLER = [{"prompt": f"question {number} of many", "response": f"answer {number} of them"} for number in range(4)]


@st.composite
def rows(draw: st.DrawFn) -> list:
    """Some valid rows of one format, often with one that is not."""
    row = draw(st.sampled_from(ROWS))
    others = [dict(row) for _ in range(draw(st.integers(0, 2)))]
    one = draw(changed(st.just(row)) | st.just(row) | VALUES)
    return [*others, one, *(FILLER if "response" in row else [])]


def as_lines(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    def text(value: object, end: str) -> bytes:
        lines = value if isinstance(value, list) else [value]
        return end.join(json.dumps(line) for line in [*lines, *lines[:1]]).encode("utf-8", "surrogatepass")

    return st.builds(text, documents, st.sampled_from(["\n", "\r\n", "\n\n"]))


def as_csv(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    def text(value: object, delimiter: str) -> bytes:
        lines = [line for line in value if isinstance(line, dict)] if isinstance(value, list) else []
        file = io.StringIO()
        names = dict.fromkeys(str(name) for line in lines for name in line)
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(names)
        for line in lines:
            writer.writerow(
                value if isinstance(value, str) else json.dumps(value) for value in (line.get(name) for name in names)
            )
        return file.getvalue().encode("utf-8", "surrogatepass")

    return st.builds(text, documents, st.sampled_from([",", ";", "\t"]))


def parquet_files() -> st.SearchStrategy[bytes]:
    """Tables of valid rows, and of columns of other types."""
    columns = st.sampled_from(
        [pyarrow.array(["a", "b", None]), pyarrow.array([1, 2, 3]), pyarrow.array([b"\xff", b"", None]),
        pyarrow.array([[1], [], None]), pyarrow.array([{"role": "user"}, None, {}]), pyarrow.nulls(3),
        pyarrow.array([[ASKED, ANSWERED], [], None]), pyarrow.array([1.5, float("nan"), None]),
        pyarrow.array([0, 1, 2**62], pyarrow.timestamp("ns")), pyarrow.array([0, 1, 2**40], pyarrow.duration("s")),
        pyarrow.array([0, 10**13, 1], pyarrow.timestamp("s")), pyarrow.array([0, 2**30, 1], pyarrow.date32()),
        pyarrow.array(["a", "b", "a"]).dictionary_encode(),
        pyarrow.array([[("k", 1)], [], None], pyarrow.map_(pyarrow.string(), pyarrow.int64()))]
    )  # fmt: skip
    names = st.sampled_from(["prompt", "response", "messages", "conversations", "chosen", "rejected", "tools", "x", ""])

    def write(table: dict) -> bytes:
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(table), file)
        return file.getvalue()

    valid = write({name: pyarrow.array([row[name] for row in FILLER]) for name in FILLER[0]})
    tables = st.builds(write, st.dictionaries(names, columns, min_size=1, max_size=3))
    return st.one_of(tables, damaged(st.just(valid)), damaged(tables))


FILES = st.one_of(
    *(st.tuples(st.just(name), spoilt(rows(), as_lines)) for name in ("rows.jsonl", "rows.json")),
    st.tuples(st.just("rows.json"), spoilt(rows())),
    *(st.tuples(st.just(name), spoilt(rows(), as_csv)) for name in ("rows.csv", "rows.tsv")),
    st.tuples(st.just("rows.parquet"), parquet_files()),
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY, trust_remote_code=False)


def written(place: Path, file: tuple[str, bytes]) -> Path:
    path = place / file[0]
    path.write_bytes(file[1])
    return path


@pytest.mark.usefixtures("here")
@given(
    file=FILES, bad_rows=st.sampled_from(["refuse", "drop"]), template=st.sampled_from(["chat", "{prompt} {response}"])
)
def test_rows_are_prepared_or_refused(file, bad_rows, template, tokenizer, place, answered):
    path = written(place, file)
    out = place / "out"
    out.mkdir(exist_ok=True)

    def run() -> None:
        source = source_of(str(path))
        source = type(source)(source.data, bad_rows=bad_rows)
        counts, _ = prepare(source, Encoder(tokenizer, template), PrepareSettings(0.3, 0.7, 64), out)
        read = [answered(reader, out / "train.jsonl") for reader in (read_prepared, read_preferences)]
        assert [len(one) for one in read if isinstance(one, list)] == [counts["train"]["rows"]]

    answered(run)


@pytest.mark.usefixtures("here")
@given(file=FILES, template=st.sampled_from(["chat", "{prompt}\\n{response}"]))
def test_general_data_are_read_or_refused(file, template, tokenizer, place, answered):
    answered(encode_rows, written(place, file), tokenizer, template, max_rows=3)


@pytest.mark.usefixtures("here")
@given(content=spoilt(rows(), as_lines))
def test_calibration_data_are_read_or_refused(content, tokenizer, place, answered):
    path = written(place, ("calibration.jsonl", content))
    answered(calibration_blocks, path, tokenizer, samples=1, sequence_length=16, seed=0)


PREPARED = [{"input_ids": [1, 2, 3, 4], "answers": [[1, 2], [3, 4]]}]


@given(content=spoilt(st.just([*PREPARED, {"chosen": PREPARED[0], "rejected": PREPARED[0]}]), as_lines))
def test_prepared_rows_are_read_or_refused(content, place, answered):
    path = written(place, ("train.jsonl", content))
    answered(read_prepared, path)
    answered(read_preferences, path)
