"""`moodring config check` and `config init`, and the configuration of `moodring run`, as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moodring.config import Config, load
from tests.support.events import check_lines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def moodring(tmp_path: Path):
    """Return a function that runs the command in a folder of its own, which is the home directory as well."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOODRING_")}
        done = subprocess.run(
            [sys.executable, "-m", "moodring.cli", *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **environment}, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    return run


def test_init_writes_every_key_with_its_default_and_never_overwrites(moodring, tmp_path: Path):
    done = moodring("config", "init")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "moodring.yaml"
    assert load(path) == Config()
    assert path.read_text().count("#") > 60
    path.write_text("bundle: default\n")
    done = moodring("config", "init")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "moodring: moodring.yaml exists and stays as it is; name another file\n"
    assert path.read_text() == "bundle: default\n"


@pytest.mark.parametrize("target", ["link.yaml", "folder", "no/such/folder/my.yaml"])
def test_init_refuses_a_link_a_folder_and_a_missing_folder(moodring, tmp_path: Path, target: str):
    (tmp_path / "link.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    (tmp_path / "folder").mkdir()
    done = moodring("config", "init", target)
    assert done.returncode == 2
    assert done.stderr.startswith(f"moodring: {target} ")
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_check_prints_every_error_with_its_line(moodring, tmp_path: Path):
    (tmp_path / "my.yaml").write_text("fusion: {rate_hz: fast}\nfusio: {}\n")
    done = moodring("config", "check", "my.yaml", "--set", "face.rate_hz=0", MOODRING_PAGE__PORT="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "moodring: the configuration has 4 errors:",
        "  environment variable MOODRING_PAGE__PORT: page.port must be a whole number, got 'x'",
        "  --set face.rate_hz: face.rate_hz must lie in 0.5..60.0, got '0'",
        "  my.yaml:1: fusion.rate_hz must be a number, got 'fast'",
        "  my.yaml:2: unknown key fusio; did you mean fusion?",
    ]


def test_check_also_tries_what_the_run_needs(moodring, tmp_path: Path):
    (tmp_path / "my.yaml").write_text("bundle: nowhere\nmqtt:\n  url: mqtt://broker\n  password_file: ~/none\n")
    done = moodring("config", "check", "my.yaml")
    assert done.returncode == 2
    bundle, password = done.stderr.splitlines()
    assert bundle.startswith("moodring: my.yaml:1: nowhere is not a model bundle")
    assert password.startswith(f"moodring: my.yaml:4: mqtt.password_file {tmp_path}/none cannot be read")
    (tmp_path / "both.yaml").write_text("bundle: nowhere\nmqtt: {url: ftp://broker}\nfusion: {rate_hz: 99, speed: 1}\n")
    done = moodring("config", "check", "both.yaml")
    assert re.findall(r"both\.yaml:\d", done.stderr) == ["both.yaml:3", "both.yaml:3", "both.yaml:1", "both.yaml:2"]
    done = moodring("config", "check", "my.yaml", "--set", "bundle=default", "--set", "mqtt.url=none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "my.yaml is valid\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mqtt:\n  url: mqtt://broker\n  topic: a/#\n", "my.yaml:3: mqtt.topic must not be empty, contain #"),
        ("mqtt:\n\n  url: http://broker\n", "my.yaml:3: mqtt.url must be mqtts://HOST"),
        ("mqtt:\n  url: mqtt://[::1\n", "my.yaml:2: mqtt.url: Invalid IPv6 URL"),
        ("bundle: /nowhere\n", "my.yaml:1: /nowhere is not a model bundle"),
        ("fusion: {rate_hz: 2}\n\nfusion: {method: voting}\n", "my.yaml:3: the key fusion is given twice, first in line 1"),
    ],
)
def test_a_run_names_the_line_of_a_key_that_a_part_refuses(
    moodring, tmp_path: Path, talking_face: Path, text: str, message: str
):
    (tmp_path / "my.yaml").write_text(text)
    done = moodring("run", talking_face, "--pace", "max", "--config", "my.yaml")
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"moodring: {message}")


def test_a_run_names_the_line_of_a_stream_that_is_a_recording(moodring, tmp_path: Path, talking_face: Path):
    (tmp_path / "my.yaml").write_text(
        f"streams:\n  hall: {{video: {{source: 0}}}}\n  b.c: {{audio: {{source: {talking_face}}}}}\n"
    )
    done = moodring("run", "--config", "my.yaml")
    assert done.returncode == 2
    assert f"moodring: my.yaml:3: streams.b.c: {talking_face} is a recording" in done.stderr


def test_a_run_takes_settings_variables_and_options_in_this_order(
    moodring, tmp_path: Path, tiny_bundle: Path, talking_face: Path
):
    (tmp_path / "my.yaml").write_text("fusion: {rate_hz: 1}\nevents: {path: ~/file.jsonl}\nvideo: {source: 0}\n")
    base = ["run", talking_face, "--pace", "max", "--config", "my.yaml"]
    variables = {
        "MOODRING_FUSION__RATE_HZ": "2",
        "MOODRING_BUNDLE": str(tiny_bundle),
        "MOODRING_EVENTS__PATH": "~/variable.jsonl",
    }
    assert moodring(*base, **variables).returncode == 0
    assert len(check_lines((tmp_path / "variable.jsonl").read_text())) == 6
    assert moodring(*base, "--set", "fusion.rate_hz=4", "--set", "events.path=~/set.jsonl", **variables).returncode == 0
    assert len(check_lines((tmp_path / "set.jsonl").read_text())) == 12
    assert moodring(*base, "--set", "events.path=~/no.jsonl", "--events=~/option.jsonl", **variables).returncode == 0
    assert len(check_lines((tmp_path / "option.jsonl").read_text())) == 6
    assert moodring(*base, "--set", f"bundle={tiny_bundle}").returncode == 0
    assert len(check_lines((tmp_path / "file.jsonl").read_text())) == 3
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "file.jsonl", "option.jsonl", "set.jsonl", "variable.jsonl",
    ]  # fmt: skip


def test_a_misspelt_variable_is_noted(moodring, tmp_path: Path):
    (tmp_path / "my.yaml").write_text("")
    done = moodring("config", "check", "my.yaml", MOODRING_FUSION_RATE_HZ="2")
    assert done.returncode == 0
    assert done.stderr == (
        "moodring: environment variable MOODRING_FUSION_RATE_HZ is not read: the one of this key is MOODRING_FUSION__RATE_HZ\n"
    )


def test_an_event_file_in_an_unknown_home_directory(moodring, talking_face: Path):
    done = moodring("run", talking_face, "--pace", "max", "--events=~nobody-here/e.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("moodring: --events names the home directory ~nobody-here, which is not known here")


def test_a_configuration_can_come_through_a_pipe(moodring):
    done = moodring("config", "check", "/dev/null")
    assert (done.returncode, done.stdout) == (0, "/dev/null is valid\n")
    done = moodring("config", "check", "/dev/zero")
    assert done.returncode == 2
    assert "larger than 256 kB" in done.stderr
