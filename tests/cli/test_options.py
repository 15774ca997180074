"""Where commands take their settings from, and what shells complete."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from portway.cli import main


def completed(*words: str) -> list[tuple[str, str]]:
    """Type and value of what a shell is told for the last word."""
    shell = ShellComplete(main, {}, "portway", "_PORTWAY_COMPLETE")
    return [(item.type, str(item.value)) for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("option", ["-f", "--state-dir", "--access-log", "--envoy-binary"])
def test_paths_are_completed_by_the_shell(option: str) -> None:
    assert completed("run", option, "") == [("file", "")]


def test_a_few_words_are_completed() -> None:
    assert completed("run", "--escaped-slashes", "re") == [("plain", "reject"), ("plain", "redirect")]


@pytest.mark.parametrize("command", ["status", "explain"])
def test_the_settings_file_says_whom_to_ask(command: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("admin-address: 127.0.0.1:1\n")
    request = ["GET", "http://a.test/"] if command == "explain" else []
    result = CliRunner().invoke(main, [command, *request, "--settings", str(file)])
    assert "no Portway answers at 127.0.0.1:1: Connection refused" in result.stderr


def test_a_settings_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("http-port: 80\nzone: [a\n")
    result = CliRunner().invoke(main, ["status", "--settings", str(file)])
    assert result.exit_code == 2
    assert f"Error: {file}:3: is no YAML: expected ',' or ']', but got '<stream end>'" in result.stderr.splitlines()


def test_each_command_has_a_line_in_the_list() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[2].splitlines()
    assert not [line for line in lines if line.endswith("...")]
