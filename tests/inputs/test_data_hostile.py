"""Data as they come: `olivepress data head` and prepare say what is wrong with a file, with its name and row.

No traceback, nothing that hangs, nothing that is dropped in silence.
"""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from in_process import run_stage

from olivepress.tools import data_head

TINY = "data/tiny-phi3"
LINES = Path(__file__).parents[2].joinpath("data/travel.jsonl").read_text().splitlines()[:12]
GOOD = [json.loads(line) for line in LINES]
ASKED = {"role": "user", "content": "hi there"}
SAID = {"role": "assistant", "content": "hello you"}
TALKS = [
    {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]}
    for row in GOOD
]
PAIRS = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": "No idea."} for row in GOOD]
TURNS = [
    {"conversations": [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["response"]}]}
    for row in GOOD
]


def lines(*rows: dict | str) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def talk(*messages: dict | str, **fields: object) -> str:
    """Good talks, and one more row in line 13."""
    return lines(*TALKS, {"messages": list(messages), **fields})


def call(name: object = "f", arguments: object = "{}") -> dict:
    """An answer that calls a tool."""
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def turns(*rows: dict) -> str:
    return lines(*TURNS, *rows)


def pair(**row: object) -> str:
    return lines(*PAIRS, row)


def one(**row: object) -> str:
    return lines(*GOOD, row)


def csv(*rows: str, header: str = "prompt,response") -> str:
    return "\n".join([header, *(f"why {number},so {number}" for number in range(12)), *rows]) + "\n"


REFUSED = {
    # bytes
    "nul.jsonl": (one(prompt="a\0b", response="x"), ":13: field 'prompt': character 2 is NUL"),
    "nul-in-a-call.jsonl": (
        talk(ASKED, call(arguments='{"a": "\\u0000"}')),
        ":13: messages[1] (assistant): character 1",
    ),
    "raw-nul.jsonl": (lines(*GOOD, '{"prompt": "a\0b"}'), ":13: column 14: broken JSON (Invalid control character"),
    "carriage-returns.jsonl": ("\r".join(LINES), ":1: column 2"),
    "carriage-returns.csv": ("prompt,response\ra,b\rc,d\r", ":1: broken CSV"),
    "second-mark.jsonl": (f"\ufeff{lines(*GOOD)}\ufeff{{}}", ":13: column 1: broken JSON"),
    "latin-1.jsonl": (lines(*GOOD).encode() + b'{"prompt": "caf\xe9"}', ":13: byte 16 of the line is 0xe9"),
    "latin-1.csv": ("prompt,r\xe9ponse\na,b\n".encode("latin-1"), ":1: byte 9 of the line is 0xe9"),
    "utf-16.tsv": ("prompt\tresponse\na\tb\n".encode("utf-16"), ":1: UTF-16"),
    "utf-16-without-a-mark.jsonl": (lines(*GOOD).encode("utf-16-le"), ":1: UTF-16"),
    "half-a-character.jsonl": (
        lines(*GOOD, '{"prompt": "a", "response": "\\ud800"}'),
        ":13: field 'response': character 1",
    ),
    "gzip.csv": (gzip.compress(csv().encode()), ": packed (gzip)"),
    "zstd.csv": (b"(\xb5/\xfd" + bytes(range(250)), ": packed (zstd)"),
    "lz4.jsonl": (b'\4"M\x18' + bytes(range(250)), ": packed (lz4)"),
    "sheet.xlsx": (b"PK\3\4" + bytes(range(250)), ": packed (zip)"),
    "pickle.jsonl": (b"\x80\x04\x95" + bytes(range(250)), ":1: byte 1 of the line is 0x80"),
    "page.jsonl": ("<html>404</html>\n", ":1: column 1: broken JSON"),
    "pointer.jsonl": ("version https://git-lfs\noid sha256:0\nsize 9\n", ": a pointer of Git LFS"),
    "mark-alone.csv": (b"\xef\xbb\xbf", ": the data set is empty"),
    "header-alone.csv": ("prompt,response\n", ": the data set is empty"),
    # JSON
    "twice-in-a-message.jsonl": (
        lines(*TALKS, '{"messages": [{"role": "user", "role": "user", "content": "x"}]}'),
        ":13: field 'role' is there twice",
    ),
    "twice-in-tools.jsonl": (talk(ASKED, SAID, tools='[{"a": 1, "a": 2}]'), ":13: field 'tools' is no JSON"),
    "twice-in-arguments.jsonl": (talk(ASKED, call(arguments='{"a": 1, "a": 2}')), "field 'a' is there twice"),
    "nan-in-arguments.jsonl": (talk(ASKED, call(arguments='{"a": NaN}')), "NaN is no JSON"),
    "digits-in-tools.jsonl": (talk(ASKED, SAID, tools=f"[{'9' * 5000}]"), ":13: field 'tools' is no JSON"),
    "twice-in-a-text.csv": (
        'messages\n"[{""role"": ""user"", ""role"": ""system"", ""content"": ""x""}]"\n',
        ":2: field 'messages' is",
    ),
    "infinity.jsonl": (lines(*GOOD, '{"prompt": "a", "response": "b", "n": -Infinity}'), ":13: -Infinity is no JSON"),
    "numbers.json": ("[1, null, [2]]", ":1: found int, expected a JSON object"),
    "lists.jsonl": ('["a", "b"]\n["c", "d"]\n', ":1: found list, expected a JSON object"),
    "columns.json": (json.dumps({"prompt": ["a"], "response": ["b"]}), ":1: field 'prompt' is a list"),
    "below-a-name.json": (json.dumps({"data": GOOD}), ":1: field 'prompt' is missing (found 'data')"),
    "one-behind-another.jsonl": ("".join(LINES), ":1: column"),
    "comments.jsonl": ("// rows\n" + lines(*GOOD), ":1: column 1: broken JSON"),
    # messages
    "role-as-a-list.jsonl": (talk({"role": ["user"], "content": "x"}, SAID), ':13: messages[0]: role ["user"]'),
    "role-as-a-list-first.jsonl": (lines({"messages": [{"role": ["user"]}]}), ':1: messages[0]: role ["user"]'),
    "role-in-capitals.jsonl": (talk({"role": "User", "content": "x"}, SAID), ':13: messages[0]: role "User"'),
    "no-role.jsonl": (talk({"content": "x"}, SAID), ":13: messages[0]: role null"),
    "empty-turn.jsonl": (talk(ASKED, {"role": "assistant", "content": ""}), ":13: messages[1].content is empty"),
    "invisible-turn.jsonl": (talk({"role": "user", "content": "\u200b\u2060"}, SAID), "messages[0].content is empty"),
    "system-later.jsonl": (talk(ASKED, {"role": "system", "content": "x"}, SAID), ":13: messages[1]: a system message"),
    "system-twice.jsonl": (talk({"role": "system", "content": "x"}, ASKED, SAID, system="y"), "a system message after"),
    "two-answers.jsonl": (talk(ASKED, SAID, SAID), ":13: messages[2]: an answer, and it follows another"),
    "answer-first.jsonl": (talk(SAID, ASKED, SAID), ":13: messages[0]: an answer, and nobody has asked"),
    "tool-first.jsonl": (talk({"role": "tool", "content": "3"}, SAID), ":13: messages[0]: what a tool said, and the"),
    "tool-uncalled.jsonl": (talk(ASKED, {"role": "tool", "content": "3"}, SAID), ":13: messages[1]: what a tool said"),
    "name-as-a-number.jsonl": (talk({**ASKED, "name": 5}, SAID), ":13: messages[0]: name 5: expected a text"),
    "call-id-as-a-list.jsonl": (talk({**ASKED, "tool_call_id": ["x"]}, SAID), 'messages[0]: tool_call_id ["x"]'),
    "tool-as-a-number.jsonl": (
        talk(ASKED, SAID, tools=[{"type": "function", "function": 5}]),
        ":13: tools[0]: found {",
    ),
    "tool-without-a-name.jsonl": (talk(ASKED, SAID, tools=[{"name": 5}]), ":13: tools[0]: found"),
    "no-answer.jsonl": (talk(ASKED), ":13: messages: the last one is the user's"),
    "half-a-weight.jsonl": (talk(ASKED, {**SAID, "weight": 0.5}), ":13: messages[1]: weight 0.5"),
    "train-false.jsonl": (talk(ASKED, {**SAID, "train": False}), "field 'train' has no place"),
    "image.jsonl": (
        talk({"role": "user", "content": [{"type": "image_url"}]}, SAID),
        ":13: messages[0].content: a part",
    ),
    "part-as-a-text.jsonl": (talk({"role": "user", "content": ["x"]}, SAID), 'messages[0].content: a part "x"'),
    "function-call.jsonl": (talk(ASKED, {"role": "assistant", "function_call": {}, "function": 1}), "field 'function'"),
    "calls-of-the-user.jsonl": (talk({**ASKED, **call(), "role": "user"}, SAID), "tool_calls of the user's"),
    "call-of-nothing.jsonl": (talk(ASKED, call("")), ":13: messages[1].tool_calls[0]: found"),
    "call-as-a-text.jsonl": (
        talk(ASKED, {"role": "assistant", "tool_calls": "f(1)"}),
        "messages[1].tool_calls[0]: found",
    ),
    "call-that-is-left-out.jsonl": (talk(ASKED, call(), SAID), "messages[2]: an answer, and it follows"),
    "call-no-template-takes.jsonl": (
        talk(ASKED, call(), {"role": "tool", "content": "3"}, SAID),
        ":13: the call of 'f' is not in what the model's chat template makes of the row",
    ),
    # ShareGPT, Alpaca, preferences
    "nobody-speaks.jsonl": (
        turns({"conversations": [{"from": None, "value": "x"}]}),
        ":13: conversations[0]: from null",
    ),
    "strangers-speak.jsonl": (
        turns({"conversations": [{"from": ["gpt"], "value": "x"}]}),
        'conversations[0]: from ["gpt"]',
    ),
    "turn-with-more.jsonl": (
        turns({"conversations": [{"from": "human", "value": "x", "content": "y"}, {"from": "gpt", "value": "z"}]}),
        ":13: conversations[0]: field 'content' has no place",
    ),
    "turn-of-number.jsonl": (
        turns({"conversations": [{"from": "human", "value": 3}]}),
        ":13: conversations[0].value is a int",
    ),
    "no-instruction.jsonl": (
        lines({"instruction": "", "input": "x", "output": "y"}),
        ":1: field 'instruction' is empty",
    ),
    "input-as-a-list.jsonl": (
        lines({"instruction": "a", "input": ["x"], "output": "y"}),
        ":1: field 'input' is a list",
    ),
    "alike.jsonl": (pair(prompt="p", chosen="a", rejected=" a "), ":13: 'chosen' and 'rejected' are the same"),
    "not-chosen.jsonl": (pair(prompt="p", rejected="a"), ":13: field 'chosen' is missing"),
    "other-prompt.jsonl": (
        pair(prompt="p", chosen=[ASKED, SAID], rejected=[ASKED, {**SAID, "content": "z"}]),
        ":13: field 'prompt' says other than what 'chosen' and 'rejected' begin with",
    ),
    "prompt-as-a-number.jsonl": (
        pair(prompt=3, chosen=[ASKED, SAID], rejected=[ASKED, {**SAID, "content": "z"}]),
        ":13: field 'prompt' is a int",
    ),
    "preference-of-weight-0.jsonl": (
        pair(chosen=[ASKED, SAID], rejected=[ASKED, {"role": "assistant", "content": "z", "weight": 0}]),
        ":13: 'rejected' has weight 0",
    ),
    "control-token-in-rejected.jsonl": (
        pair(prompt="p", chosen="a", rejected="b<|end|>"),
        ":13: rejected: messages[1]",
    ),
    "preference-among-answers.jsonl": (one(prompt="p", chosen="a", rejected="b"), ":13: field 'response' is missing"),
    # control tokens
    "control-token-in-a-name.jsonl": (
        talk({**ASKED, "name": "<|end|>"}, SAID),
        ":13: messages[0] (user) has '<|end|>'",
    ),
    "control-token-in-a-key.jsonl": (
        talk(ASKED, SAID, tools=[{"type": "function", "function": {"name": "f", "parameters": {"<|end|>": {}}}}]),
        ":13: tools: has '<|end|>'",
    ),
    # CSV
    "blanks-behind-commas.csv": (csv('"x", "y, z"'), ":14: 3 fields, the first line names 2 columns"),
    "quotes-in.csv": (csv('"say "x"",y'), ":14: broken CSV"),
    "no-end-of-quotes.tsv": ('prompt\tresponse\na\tb\n"c\td\n', ":3: broken CSV"),
    "bars.csv": ("prompt|response\na|b\n", ":2: field 'prompt' is missing (found 'prompt|response')"),
}


def head(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(data_head.main, [*map(str, arguments), "--rows", "100", "--model", TINY])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def prepare(tmp_path):
    def prepare(*data: object) -> tuple[int, str]:
        named = [word for path in data for word in ("--data", path)]
        done = run_stage(
            *("prepare", "--model", TINY, "--held-out", 0.3, "--sequence-length", 256),
            *("--out", tmp_path / "made/out", "--quality", tmp_path / "made/quality.json", *named),
        )
        return done.exit_code, done.stderr

    return prepare


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_with_its_place(name, tmp_path, prepare):
    content, expected = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for exit_code, said in (prepare(path), head(path)):
        assert exit_code == 1
        assert expected in said and str(path) in said
    assert not (tmp_path / "made/out").exists()


TAKEN = {
    "mark-and-returns.jsonl": (f"\ufeff{lines(*GOOD)}".replace("\n", "\r\n"), ""),
    "mark.csv": (f"\ufeff{csv()}".replace("\n", "\r\n"), ""),
    "breaks-and-quotes.csv": (csv('"a ""b"", c\nd",e'), ""),
    "tabs.tsv": (csv(header="prompt\tresponse").replace(",", "\t"), ""),
    "marks-of-direction.jsonl": (one(prompt="a\u202eb\u200f", response="x"), ""),
    "tools.jsonl": (
        talk(ASKED, SAID, tools=[{"type": "function", "function": {"name": "f"}}]),
        "1 rows have tools that the template does not write",
    ),
    "weight-of-a-turn.jsonl": (
        turns(
            {
                "conversations": [
                    {"from": "human", "value": "x"},
                    {"from": "gpt", "value": "y", "weight": 0},
                    {"from": "human", "value": "z"},
                    {"from": "gpt", "value": "w"},
                ]
            }
        ),
        "",
    ),
    "long.jsonl": (one(prompt="w", response="x " * 4000), "1 of 13 rows are longer than finetune.sequence_length 256"),
    "rendered.jsonl": (one(prompt="[INST] hi [/INST]", response="y"), "1 rows look rendered by a template already"),
    "fields.jsonl": (one(prompt="a", response="b", **{f"k{n}": n for n in range(2000)}), "nor are 980 others."),
    "empty-fields.jsonl": (one(prompt="a", response="b", system="", notes=None, tags=[]), ""),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_can_be_read_is_and_what_was_done_is_said(name, tmp_path, prepare):
    content, expected = TAKEN[name]
    path = tmp_path / name
    path.write_bytes(content.encode())
    exit_code, said = prepare(path)
    assert exit_code == 0, said
    assert expected in said
    if not expected:
        assert said.count("\n") == 1, said
    assert head(path)[0] == 0


def test_an_answer_of_weight_0_in_sharegpt_is_not_trained_on(tmp_path, prepare):
    path = tmp_path / "rows.jsonl"
    path.write_text(TAKEN["weight-of-a-turn.jsonl"][0])
    said = head(path)[1]
    assert "⟦y<|end|>⟧" not in said and "⟦w<|end|>⟧" in said


def parquet(path: Path, table: pa.Table) -> Path:
    pyarrow.parquet.write_table(table, path)
    return path


NOT_TEXT = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"], pa.binary()).buffers())
TABLES = {
    "bytes": (pa.table({"prompt": [b"a"], "response": ["b"]}), ": row 1: field 'prompt' is a bytes"),
    "not text": (pa.table({"prompt": NOT_TEXT, "response": ["b"]}), ": row 1: a value that cannot be read"),
    "numbers": (pa.table({"prompt": [3], "response": ["b"]}), ": row 1: field 'prompt' is a int"),
    "nulls": (pa.table({"prompt": ["a", None], "response": ["b", "c"]}), ": row 2: field 'prompt' is a NoneType"),
    "dates": (
        pa.table({"prompt": pa.array([0], pa.timestamp("ms")), "response": ["b"]}),
        "field 'prompt' is a datetime",
    ),
    "inside": (
        pa.table({"data": [{"prompt": "a", "response": "b"}]}),
        ": row 1: field 'prompt' is missing (found 'data')",
    ),
    "twice": (
        pa.Table.from_arrays(
            [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["prompt", "response", "response"]
        ),
        ": expected columns with a name each",
    ),
    "no rows": (pa.table({"prompt": pa.array([], pa.string())}), ": the data set is empty"),
    "no columns": (pa.table({}), ": the data set is empty"),
}


@pytest.mark.parametrize("name", TABLES)
def test_parquet_that_cannot_be_used_is_named(name, tmp_path, prepare):
    table, expected = TABLES[name]
    path = parquet(tmp_path / "rows.parquet", table)
    for exit_code, said in (prepare(path), head(path)):
        assert exit_code == 1
        assert f"{path}{expected}" in said or (expected in said and f"{path}: row 1" in said)


def test_what_parquet_holds_beside_texts_is_no_matter(tmp_path, prepare):
    columns = {name: [row[name] for row in GOOD] for name in ("prompt", "response")}
    extra = {
        "at": pa.array([2**62 + 1] * 12, pa.timestamp("ns")),
        "of": pa.array([[("a", 1)]] * 12, pa.map_(pa.string(), pa.int64())),
        "score": [float("nan")] * 12,
        "raw": [b"\xff"] * 12,
    }
    path = parquet(tmp_path / "rows.parquet", pa.table({**columns, **extra}))
    exit_code, said = prepare(path)
    assert exit_code == 0, said
    assert said.count("of 12 rows is not used") == 4
    talks = parquet(tmp_path / "talks.parquet", pa.table({"messages": [row["messages"] for row in TALKS]}))
    assert prepare(talks)[0] == 0
    assert prepare(path.rename(tmp_path / "rows.jsonl"))[0] == 0, "known by its first bytes"


# --- folders


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a good file of rows, one that is hidden, and one that is none."""
    folder = tmp_path / "my 'own' \"rows\" ü"
    folder.mkdir()
    (folder / "a b.jsonl").write_text(lines(*GOOD))
    (folder / ".hidden.jsonl").write_text("no row")
    (folder / "._a b.jsonl").write_bytes(b"\0\5\26")
    (folder / "README.md").write_text("# Rows")
    return folder


def test_a_folder_of_odd_names_with_hidden_files(folder, prepare, tmp_path):
    exit_code, said = prepare(folder)
    assert exit_code == 0, said
    assert said == f"{folder}/a b.jsonl: json lines, prompt-response (found by its fields).\n"
    (tmp_path / "link.jsonl").symlink_to(folder / "a b.jsonl")
    assert prepare(tmp_path / "link.jsonl")[0] == 0


def packed(folder: Path) -> None:
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b"{}"))


def deeper(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more/c.jsonl").write_text(lines(*GOOD))


def listed_twice(folder: Path) -> None:
    (folder / "dataset.yaml").write_text("files: [a b.jsonl, a b.jsonl]\n")


def other_kind(folder: Path) -> None:
    (folder / "c.jsonl").write_text(lines(*PAIRS))


SPOILED = {
    "packed": (packed, "c.jsonl.gz is not read: it is packed"),
    "deeper": (deeper, "more/c.jsonl is not read: it lies in a folder of its own"),
    "twice": (listed_twice, "a b.jsonl is there twice"),
    "other kind": (other_kind, "answers and preferences in one data set (others in "),
    "fifo": (lambda folder: os.mkfifo(folder / "c.jsonl"), "c.jsonl: not a file"),
    "folder": (lambda folder: (folder / "c.jsonl").mkdir(), "c.jsonl: not a file"),
    "dead link": (lambda folder: (folder / "c.jsonl").symlink_to("nowhere"), "c.jsonl: not there"),
    "link to itself": (lambda folder: (folder / "c.jsonl").symlink_to("c.jsonl"), "c.jsonl: not there"),
    "empty file": (lambda folder: (folder / "c.jsonl").touch(), "c.jsonl: the data set is empty"),
    "fifo that says how": (lambda folder: os.mkfifo(folder / "dataset.yaml"), "dataset.yaml: not a file"),
    "folder that says how": (lambda folder: (folder / "dataset.yaml").mkdir(), "dataset.yaml: not a file"),
    "dead link that says how": (
        lambda folder: (folder / "dataset.yaml").symlink_to("nowhere"),
        "dataset.yaml: not there",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_folder_is_read_whole_or_refused(name, folder, prepare):
    spoil, expected = SPOILED[name]
    spoil(folder)
    for exit_code, said in (prepare(folder), head(folder)):
        assert exit_code == 1
        assert expected in said
    if name == "other kind":
        assert "others in " + str(folder / "a b.jsonl") in prepare(folder)[1]


def test_a_data_set_file_may_name_files_in_folders(folder, prepare):
    deeper(folder)
    (folder / "dataset.yaml").write_text("files: [more/c.jsonl]\n")
    assert prepare(folder)[0] == 0


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_file_of_rows(path, prepare):
    for exit_code, said in (prepare(path), head(path)):
        assert exit_code == 1 and f"{path}: not a file" in said
