"""The pure parts of the command line: JSON lines, words, exit codes, and the message without its extra."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chunkspool import cli, errors
from chunkspool.cli.exit_codes import ExitCode, code_of_ending, code_of_error
from chunkspool.cli.formatting import (
    Remark,
    describe_event,
    duration,
    is_void,
    json_line,
    one_line,
    plain,
    status_lines,
)
from chunkspool.events import (
    DataEvent,
    Entry,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
    decode,
    encode,
)
from chunkspool.results import ChatStatus, GenerationStatus

DOCS = Path(__file__).parents[3] / "docs"


def entry_of(raw: bytes, seq: int = 7) -> Entry:
    """Return the entry that holds `raw`."""
    return Entry(seq, 0, decode(raw, seq), raw)


STORED = [
    b'{"type":"text.delta","generation":"g","text":"na\xc3\xafve \\n \\u001b"}',
    b'{"type":"future.kind","generation":"g","deep":{"seq":1,"n":1.0e3}}',
    b'{"type":"text.delta","generation":"g","text":"","added":[1,2.50]}',
]


@pytest.mark.parametrize("raw", STORED)
def test_a_json_line_is_the_stored_bytes_with_the_seq(raw: bytes) -> None:
    """Nothing is encoded again: numbers, escapes and fields of newer versions stay as they were written."""
    line = json_line(entry_of(raw))
    assert line == b'{"seq":7,' + raw[1:] + b"\n"
    assert json.loads(line) == {"seq": 7, **json.loads(raw)}


def test_a_foreign_event_stays_on_one_line() -> None:
    """An event that another program wrote over several lines becomes one line."""
    raw = b' {\n  "type": "x",\r\n  "text": "a\\nb"\n}\n'
    line = json_line(entry_of(raw))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"seq": 7, "type": "x", "text": "a\nb"}


def test_the_logs_seq_wins_over_an_events_own() -> None:
    """A field `seq` of the event must not be taken for the cursor."""
    line = json_line(entry_of(b'{"type":"x","seq":1,"generation":"g"}'))
    assert json.loads(line)["seq"] == 7


def test_text_cannot_command_the_terminal() -> None:
    """ESC and all other control characters but newline and tab become visible ones; CR is dropped."""
    everything = "".join(map(chr, range(0x100)))
    shown = plain(everything)
    assert not {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"} & set(shown)
    assert plain("\x1b[31mred\x07\r\n\ttab\x9b0m\x7f") == "␛[31mred␇\n\ttab\ufffd0m␡"
    assert plain("ordinary — ünïcödé 🙂 [bold]") == "ordinary — ünïcödé 🙂 [bold]"
    assert one_line("a\nb\x1b\u2028c") == "a b␛ c"


TURNING = (*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),)
UNSEEN = ("\u200e", "\u200f", "\u061c", "\u200b", "\u2060", "\ufeff")


@pytest.mark.parametrize("shown", [plain, one_line])
def test_text_cannot_turn_its_line_round(shown: Callable[[str], str]) -> None:
    """What begins or ends a stretch of another direction becomes visible; marks and what has no width are dropped."""
    assert [shown(f"a{one}b") for one in TURNING] == ["a\ufffdb"] * 9
    assert [shown(f"a{one}b") for one in UNSEEN] == ["ab"] * len(UNSEEN)
    assert shown("report\u202egnp.exe") == "report\ufffdgnp.exe"


@pytest.mark.parametrize(
    "text",
    [
        "שלום עולם (3)",
        "مرحبا بالعالم، 3 رسائل",
        "نمی\u200cشود",  # Persian: the letters are not joined here
        "👩\u200d👩\u200d👧 🏳️\u200d🌈 ❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "क्\u200dष e\u0301",
    ],
)
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    """Hebrew, Arabic, joiners of Persian, Hindi and emoji, combining marks."""
    assert plain(text) == text
    assert one_line(text) == text


def test_separators_of_lines_and_paragraphs_are_newlines() -> None:
    """A terminal shows them in ways of its own; in one line they are spaces."""
    assert plain("a\u2028b\u2029c") == "a\nb\nc"
    assert one_line("a\u2028b\u2029c") == "a b c"


REMARKS: list[tuple[Remark, str]] = [
    (GenerationQueued(generation_id="g"), "generation g is queued"),
    (GenerationStarted(generation_id="g", attempt=1), "started"),
    (GenerationStarted(generation_id="g", attempt=1, model="m"), "started with model m"),
    (
        GenerationStarted(generation_id="g", attempt=2),
        "attempt 2 started: the earlier text is void, the answer restarts",
    ),
    (GenerationStarted(generation_id="g", attempt=3, continues=True), "attempt 3 continues from there"),
    (ToolCallEvent(generation_id="g", id="c1", name="clock", arguments="{}"), "calls the tool clock (c1): {}"),
    (ToolResultEvent(generation_id="g", id="c1", output={"h": 12}), 'tool result (c1): {"h":12}'),
    (DataEvent(generation_id="g", name="title", value="t"), 'data title: "t"'),
    (UsageEvent(generation_id="g", input_tokens=3, output_tokens=50), "3 tokens in, 50 out"),
    (GenerationCompleted(generation_id="g"), "completed"),
    (GenerationCompleted(generation_id="g", finish_reason="length"), "completed (length)"),
    (
        GenerationCompleted(generation_id="g", finish_reason="content_filter"),
        "completed (content_filter): cut off by the provider's content filter",
    ),
    (
        GenerationCompleted(generation_id="g", finish_reason="refusal"),
        "completed (refusal): the model declined to go on",
    ),
    (GenerationStopped(generation_id="g", by="user"), "stopped by user"),
    (GenerationStopped(generation_id="g", by="user", reason="enough"), "stopped by user: enough"),
    (GenerationFailed(generation_id="g", code="c", message="No."), "failed (c): No."),
    (
        GenerationFailed(generation_id="g", code="c", message="No.", retryable=True),
        "failed (c): No. Asking again may help.",
    ),
    (UnknownEvent(type="x", generation_id="g"), 'event 7 has an unknown type: {"type":"x","generation":"g"}'),
]


@pytest.mark.parametrize(("event", "words"), REMARKS)
def test_every_event_that_is_no_text_is_described(event: Remark, words: str) -> None:
    """People read in one line what happened."""
    assert describe_event(Entry(7, 0, event, encode(event)), event) == words


def test_text_is_void_after_a_restart_only() -> None:
    """Neither a first attempt nor one that continues makes earlier text void."""
    started = [(1, False), (2, False), (2, True)]
    void = [is_void(GenerationStarted(generation_id="g", attempt=n, continues=on)) for n, on in started]
    assert void == [False, True, False]


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min"),
        (7.2e6, "2 h"),
        (9e7, "1 d"),
    ],
)
def test_times_are_shown_in_their_largest_unit(ms: int, words: str) -> None:
    """From milliseconds to days; a negative time counts as 0."""
    assert duration(ms) == words


def test_a_status_tells_stopping_and_stalled_from_running() -> None:
    """Each generation has a row with its state and how long it took."""

    def generation(name: str, state: str, **fields: object) -> GenerationStatus:
        blank = {"started": None, "ended": None, "lease_until": None, "stop_asked": False, "owner": None}
        fixed = {"generation_id": name, "state": state, "attempt": 1, "after": 0, "created": 1000}
        return GenerationStatus(**{**blank, **fixed, **fields})  # type: ignore[arg-type]

    generations = (
        generation("a", "queued"),
        generation("b", "completed", started=2000, ended=2500),
        generation("c", "running", started=2000, lease_until=9000),
        generation("d", "running", started=2000, lease_until=9000, stop_asked=True),
        generation("e", "stalled", started=2000, lease_until=3000),
    )
    first, _, *rows = status_lines(ChatStatus("chat", 3, 57, ("a", "c", "d", "e"), generations, 4000))
    assert first == "chat chat: seq 3 to 57 is kept, 4 active"
    assert [row.split()[1] for row in rows] == ["queued", "completed", "running", "stopping", "stalled"]
    assert [row.rsplit("  ", 1)[1].strip() for row in rows] == ["-", "500 ms", "2.0 s", "2.0 s", "2.0 s"]
    assert "nothing up to 57 is kept" in status_lines(ChatStatus("chat", 58, 57, (), (), 4000))[0]


CODES: list[tuple[errors.ChunkspoolError, int]] = [
    (errors.CursorExpired(1, 5, 9), 5),
    (errors.CursorAhead(10, 9), 2),
    (errors.ChatNotFound("c"), 2),
    (errors.GenerationNotFound("c", "g"), 2),
    (errors.ChatBusy("c", ("g",)), 2),
    (errors.InvalidCursor("x"), 2),
    (errors.SettingsError("x"), 2),
    (errors.EnqueueFailed("c", "g", "away"), 1),
    (errors.StoreUnavailable("away"), 1),
    (errors.StoreFull("full"), 1),
    (errors.StoreRefused("no"), 1),
    (errors.CorruptLog(None, "no"), 1),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_every_error_has_its_exit_code(error: errors.ChunkspoolError, code: int) -> None:
    """A script can tell from the code what went wrong."""
    assert code_of_error(error) == code


def test_every_ending_has_its_exit_code() -> None:
    """0 for completed, 3 for stopped, 4 for failed."""
    assert code_of_ending(GenerationCompleted(generation_id="g")) == 0
    assert code_of_ending(GenerationStopped(generation_id="g", by="user")) == 3
    assert code_of_ending(GenerationFailed(generation_id="g", code="c", message="m")) == 4


def test_every_exit_code_is_documented() -> None:
    """docs/reference/cli.md has one row for each code, and no other row."""
    rows = [line for line in (DOCS / "reference" / "cli.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{code:d}` | {code.meaning} |" for code in ExitCode]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wheel without extras has the console script, too."""
    for name in ("commands", "execute", "follow", "screen", "terminal"):
        monkeypatch.delitem(sys.modules, f"chunkspool.cli.{name}", raising=False)
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "chunkspool's command line needs its extra: pip install 'chunkspool[cli]'\n"


def test_another_module_that_is_missing_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the extra's own packages lead to that advice; a broken installation shows its own error."""
    monkeypatch.delitem(sys.modules, "chunkspool.cli.commands", raising=False)
    monkeypatch.setitem(sys.modules, "chunkspool.spool", None)
    with pytest.raises(ModuleNotFoundError, match="chunkspool.spool"):
        cli.main()
