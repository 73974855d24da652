"""Folders of the user: XDG variables, the home directory, and none."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from moodring.errors import UsageError
from moodring.folders import cache_dir, state_dir


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_folders_lie_in_the_home_directory(environment: pytest.MonkeyPatch, tmp_path: Path):
    assert cache_dir() == tmp_path / ".cache" / "moodring"
    assert state_dir() == tmp_path / ".local" / "state" / "moodring"


def test_xdg_variables_replace_it_if_they_are_absolute(environment: pytest.MonkeyPatch, tmp_path: Path):
    environment.setenv("XDG_CACHE_HOME", "/var/cache/user")
    environment.setenv("XDG_STATE_HOME", "relative")
    assert cache_dir() == Path("/var/cache/user/moodring")
    assert state_dir() == tmp_path / ".local" / "state" / "moodring"


def test_a_user_without_a_home_directory_is_told_what_to_set(environment: pytest.MonkeyPatch):
    def no_account(_: int) -> pwd.struct_passwd:
        raise KeyError

    environment.delenv("HOME")
    environment.setattr(pwd, "getpwuid", no_account)
    with pytest.raises(UsageError, match=f"no account has the user id {os.getuid()}; set HOME or XDG_STATE_HOME"):
        state_dir()
    environment.setenv("XDG_STATE_HOME", "/state")
    assert state_dir() == Path("/state/moodring")
