"""Uploads, against a stand-in of the hub: nothing leaves this machine. Run: pytest tests/hub/test_push.py"""

from types import SimpleNamespace

import huggingface_hub as hub
import pytest
from network_examples import exported

from span_electra.errors import InputError
from span_electra.finetuning.export import write_mean_pooling
from span_electra.hub.push import check_names, push_folders


class StandIn:
    """Remembers what it was asked to do."""

    asked: list = []
    error: Exception | None = None

    def create_repo(self, name, exist_ok):
        if self.error:
            raise self.error
        self.asked.append(("create", name, exist_ok))
        return SimpleNamespace(repo_id=name if "/" in name else f"me/{name}")  # as the hub answers

    def upload_folder(self, repo_id, folder_path):
        self.asked.append(("upload", repo_id, folder_path))


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(StandIn, "asked", [])
    monkeypatch.setattr(hub, "HfApi", StandIn)
    return StandIn


def folders_of(tmp_path):
    exported(tmp_path)
    return [tmp_path / "generator", tmp_path / "discriminator"]


def test_each_network_becomes_a_repository_of_its_own(stand_in, tmp_path):
    folders = folders_of(tmp_path)
    lines = push_folders(folders, "me/mine")
    assert stand_in.asked == [
        step
        for folder in folders
        for step in (
            ("create", f"me/mine-{folder.name}", True),
            ("upload", f"me/mine-{folder.name}", str(folder)),
        )
    ]
    assert sum("model.safetensors" in line for line in lines) == 2


def test_a_dry_run_shows_the_same_and_sends_nothing(stand_in, tmp_path):
    folders = folders_of(tmp_path)
    dry = push_folders(folders, "me/mine", dry_run=True)
    assert stand_in.asked == []
    assert "nothing is sent" in dry[0] and [line for line in dry if "README.md" in line]
    assert [line for line in dry if line.startswith(" ")] == [
        line for line in push_folders(folders, "me/mine") if line.startswith(" ")
    ]


def test_an_owner_who_is_not_named_is_the_hubs_to_tell(stand_in, tmp_path):
    (tmp_path / "mood").mkdir()
    lines = push_folders([tmp_path / "mood"], "mine")
    assert [step[:2] for step in stand_in.asked] == [("create", "mine-mood"), ("upload", "me/mine-mood")]
    assert lines == ["me/mine-mood"]


def test_files_of_folders_in_it_are_listed_as_they_go_up(tmp_path):
    write_mean_pooling(tmp_path, 8, 32)
    lines = push_folders([tmp_path], "me/mine", dry_run=True)
    assert any(line.startswith("  1_Pooling/config.json  ") for line in lines)
    assert not any("_Normalize" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "part"),
    [("me/mine/", "generator"), ("me/mine", "my mood"), ("a/b/c", "x"), ("me/" + "m" * 99, "x")],
)
def test_names_that_the_hub_would_refuse_are_told_without_it(name, part):
    check_names("me/mine", ["generator", "discriminator"])
    check_names("mine", ["mood"])
    with pytest.raises(InputError, match=f"push_to_hub: {name}-{part} is no name of a repository") as caught:
        check_names(name, ["good", part] if name == "me/mine" else [part])
    assert "\n" not in str(caught.value)


def test_refusals_are_told_in_a_line(stand_in, tmp_path, monkeypatch):
    folders = folders_of(tmp_path)
    monkeypatch.setattr(stand_in, "error", OSError("no route\nto host"))
    with pytest.raises(InputError, match="push_to_hub me/mine-generator: no route; mend that, or log in"):
        push_folders(folders, "me/mine")
    monkeypatch.undo()
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(InputError, match="push_to_hub me/mine-generator: .*refused.*; mend"):
        push_folders(folders, "me/mine")
