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


def test_a_key_that_stands_twice_in_the_settings_file_is_named_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("zone: a\nhttp-port: 80\nzone: b\n")
    result = CliRunner().invoke(main, ["status", "--settings", str(file)])
    assert result.exit_code == 2
    said = f"Error: {file}:3: zone is set already in line 1; remove one of the two"
    assert said in result.stderr.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("zone: 2026-13-45", id="a date that is none"),
        pytest.param("http-port: 0x_", id="a number that is none"),
        pytest.param("max-headers: " + "9" * 5_000, id="a number without end"),
        pytest.param("zone: " + "[" * 3_000, id="nested without end"),
    ],
)
def test_a_value_that_yaml_itself_stumbles_over_is_a_mistake_like_others(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text + "\n")
    result = CliRunner().invoke(main, ["status", "--settings", str(file)])
    assert result.exit_code == 2, result.exception
    assert str(file) in result.stderr


UNKNOWN_ANNOTATIONS = {
    "auth-urll": "did you mean auth-url?",
    "nginx.ingress.kubernetes.io/auth-url": "write its name without the prefix, like auth-url",
}


@pytest.mark.parametrize("name", UNKNOWN_ANNOTATIONS)
def test_an_annotation_that_cannot_be_allowed_because_there_is_none_is_refused(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-f", str(tmp_path), "--allow-unsupported", name])
    assert result.exit_code == 2
    said = f'Error: allow-unsupported: "{name}" is no annotation of ingress-nginx; {UNKNOWN_ANNOTATIONS[name]}'
    assert said in result.stderr.splitlines()


@pytest.mark.parametrize("name", ["auth-url", "whitelist-source-range"])  # the second: supported by now
def test_an_annotation_of_ingress_nginx_may_be_allowed(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-f", str(tmp_path), "--allow-unsupported", name])
    assert "is no annotation" not in result.output


def test_each_command_has_a_line_in_the_list() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[2].splitlines()
    assert not [line for line in lines if line.endswith("...")]
