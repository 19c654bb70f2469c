"""What is wrong is said in one line that names the cure, with exit code 2 and without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import free_port
from tiered_cache.cli import main
from tiered_cache.cli._screen import duration, quantile

SECRET = "s3cr3t"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    (line,) = err.splitlines()
    assert line.startswith("tiered-cache: ")
    return line


@pytest.mark.parametrize("url", ["nonsense", "http://localhost", f"redis://u:{SECRET}@h:notaport/0", ""])
def test_a_front_that_is_no_url_of_a_front(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert "redis://" in refusal(capsys, "demo", "--front", url)


@pytest.mark.parametrize("command", ["demo", "ddl"])
@pytest.mark.parametrize("url", ["nonsense", f"oracle://u:{SECRET}@h/db", f"redis://:{SECRET}@localhost"])
def test_a_store_that_is_no_url_of_a_store(capsys: pytest.CaptureFixture[str], url: str, command: str) -> None:
    assert "postgresql+asyncpg://" in refusal(capsys, command, "--store", url)


def test_a_front_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "demo", "--front", f"redis://u:{SECRET}@127.0.0.1:{free_port()}/0")
    assert "docker compose up" in line
    assert "without --front" in line


def test_a_store_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "demo", "--store", f"postgresql+asyncpg://u:{SECRET}@127.0.0.1:{free_port()}/db")
    assert "docker compose up" in line
    assert "without --store" in line


def test_a_file_of_a_store_that_cannot_be_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "directory" in refusal(capsys, "demo", "--store", f"sqlite:///{tmp_path}/absent/store.db")


def test_prompts_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--prompts" in refusal(capsys, "demo", "--prompts", str(tmp_path / "absent.txt"))
    assert "--prompts" in refusal(capsys, "demo", "--prompts", str(tmp_path))
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\0")
    assert "UTF-8" in refusal(capsys, "demo", "--prompts", str(binary))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    assert "one question a line" in refusal(capsys, "demo", "--prompts", str(empty))


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["demo", "--speed", "0"], ["demo", "--speed", "x"], ["ddl"]])
def test_arguments_that_make_no_command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: tiered-cache" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["rich", "langchain_core", "langgraph"])
def test_without_an_extra_the_demo_names_it(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from tiered_cache.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'tiered-cache[cli]'" in line


def test_version_and_ddl(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("tiered-cache ")
    for url, word in (("postgresql+asyncpg://localhost/x", "BYTEA"), ("sqlite:///nowhere.db", "BLOB")):
        assert main(["ddl", "--store", url]) == 0
        assert word in capsys.readouterr().out
    assert not Path("nowhere.db").exists()


def test_the_ddl_is_that_of_the_tables_that_the_service_uses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+asyncpg://localhost/x"
    assert main(["ddl", "--store", url, "--table-prefix", "llm_", "--schema", "caches"]) == 0
    given = capsys.readouterr().out
    assert "caches.llm_entry" in given
    assert "tiered_cache_" not in given
    monkeypatch.setenv("TIERED_CACHE_STORE", url)
    monkeypatch.setenv("TIERED_CACHE_TABLE_PREFIX", "llm_")
    monkeypatch.setenv("TIERED_CACHE_SCHEMA", "caches")
    assert main(["ddl"]) == 0
    assert capsys.readouterr().out == given


def test_durations_and_quantiles_read_as_people_expect() -> None:
    assert [duration(x) for x in (0.0123, 5.04, 61.0, 245.4)] == ["12 ms", "5.0 s", "61.0 s", "4 min 5 s"]
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.5, 0.99)] == [2.0, 3.0]
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
