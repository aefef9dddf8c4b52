"""`edgemoe pull` with the real huggingface_hub and a real server that speaks the hub's API, and fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub_server import COMMIT, PROGRAM, REPOSITORY, TOKEN, Home, Hub

# Pulling


def test_a_repository_alone_gives_its_q4_k_m(home: Home, remote_models: dict[str, Path]) -> None:
    shown = home.json("pull", REPOSITORY)
    assert (shown["name"], shown["quant"], shown["type"]) == ("tiny-moe", "Q4_K_M", "Q4_K")
    assert (shown["experts_used"], shown["revision"]) == (4, COMMIT)
    path = Path(shown["paths"][0])
    assert path.read_bytes() == remote_models["Q4_K_M"].read_bytes()
    assert path == home.cache / "snapshots" / COMMIT / remote_models["Q4_K_M"].name
    assert (home.cache / "refs/main").read_text() == COMMIT
    assert shown["plan"]["runs"] is True
    assert shown["plan"]["best"]["decode_tps"] > 0
    # It is in the cache that all programs share.
    code = (
        f"import huggingface_hub as h; print(h.hf_hub_download('{REPOSITORY}', '{path.name}', local_files_only=True))"
    )
    found = subprocess.run([sys.executable, "-c", code], env=home.environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(path)


def test_what_is_known_before_the_download(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    shown = home.run("pull", f"{REPOSITORY}:q8_0", "--dry-run").stdout
    for expected in ("Tiny-MoE-Q8_0.gguf", "there is also  Q4_K_M (", " free in ", "runs it with", "tok/s, bound by"):
        assert expected in shown
    [part] = hub.asked("/cdn/")
    assert part["range"] == "bytes=0-1048575"
    assert home.names() == ["tinystories-moe"]
    assert not list(home.cache.rglob("*.gguf"))


def test_the_plan_of_headers_is_that_of_the_file(home: Home, remote_models: dict[str, Path]) -> None:
    for what, local in (
        (REPOSITORY, remote_models["Q4_K_M"]),
        (f"{home.hub.url}/files/p.mwq.gguf", remote_models["pack"]),
    ):
        home.hub.plain["p.mwq.gguf"] = remote_models["pack"].read_bytes()
        remote = home.json("pull", what, "--dry-run")["plan"]
        here = home.json("pull", str(local), "--dry-run")["plan"]
        assert remote["smallest_bytes"] == here["smallest_bytes"]
        assert remote["best"]["quality"] == here["best"]["quality"]
        assert remote["best"]["bytes_per_token"] == pytest.approx(here["best"]["bytes_per_token"], rel=0.01)


def test_a_file_by_its_name_and_another_revision(home: Home) -> None:
    shown = home.json("pull", f"{REPOSITORY}:Tiny-MoE-Q8_0.gguf", "--revision", "v1", "--name", "eight")
    assert (shown["name"], shown["quant"]) == ("eight", "Q8_0")
    page = f"{home.hub.url}/{REPOSITORY}/blob/main/Tiny-MoE-Q8_0.gguf"
    again = home.json("pull", page)
    assert again["paths"] == shown["paths"]
    assert again["missing_bytes"] == 0


def test_all_shards_are_fetched(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.add(REPOSITORY, remote_models["split"], remote_models["second"], folder="Q6_K/")
    shown = home.json("pull", f"{REPOSITORY}:Q6_K")
    assert [Path(path).name for path in shown["paths"]] == [remote_models["split"].name, remote_models["second"].name]
    assert shown["bytes"] == remote_models["split"].stat().st_size + remote_models["second"].stat().st_size
    assert home.json("show", f"{REPOSITORY}:Q6_K")["experts"] == 16


def test_a_url_and_its_checksum(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    data = hub.plain["My Model.gguf"] = remote_models["Q4_K_M"].read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    url = f"{hub.url}/files/My%20Model.gguf"
    wrong = home.run("pull", url, "--sha256", "0" * 64, code=2)
    assert "damaged on the way" in wrong.stderr
    shown = home.json("pull", url, "--sha256", digest)
    assert (shown["name"], Path(shown["paths"][0]).read_bytes()) == ("my-model", data)
    assert "64 hexadecimal" in home.run("pull", url, "--sha256", "abc", code=2).stderr


def test_a_server_that_knows_no_ranges_and_tells_no_size(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.plain["m.gguf"] = remote_models["Q4_K_M"].read_bytes()
    hub.ranges = hub.tell_size = False
    shown = home.json("pull", f"{hub.url}/files/m.gguf")
    assert shown["plan"] == {}
    assert Path(shown["paths"][0]).read_bytes() == hub.plain["m.gguf"]


def test_a_name_for_a_file_that_is_here(home: Home, remote_models: dict[str, Path]) -> None:
    shown = home.json("pull", str(remote_models["Q4_K_M"]), "--name", "mine")
    assert (shown["paths"], shown["ours"]) == ([str(remote_models["Q4_K_M"])], False)
    assert home.json("show", "mine")["name"]
    home.run("rm", "mine", "--yes")
    assert remote_models["Q4_K_M"].exists()


def test_packing_on_the_way(home: Home) -> None:
    shown = home.json("pull", REPOSITORY, "--pack")
    assert (shown["pack"]["name"], shown["pack"]["type"]) == ("tiny-moe-pack", "pack 2,3,4")
    assert home.run("verify", "tiny-moe-pack").returncode == 0
    assert home.names() == ["tiny-moe", "tiny-moe-pack", "tinystories-moe"]


# Going on, and damage


def test_a_cut_connection_is_taken_up_again(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.long, hub.cuts = 2 << 20, [1_000_000, 500_000]
    shown = home.json("pull", REPOSITORY)
    assert Path(shown["paths"][0]).read_bytes() == remote_models["Q4_K_M"].read_bytes()
    ranges = [part.get("range") for part in hub.asked("/cdn/")]
    size = remote_models["Q4_K_M"].stat().st_size
    assert ranges[-2:] == [f"bytes=1000000-{size - 1}", f"bytes=1500000-{size - 1}"]


def test_a_server_that_dies_leaves_what_came_for_the_next_time(
    home: Home, hub: Hub, remote_models: dict[str, Path]
) -> None:
    hub.long, hub.cuts = 2 << 20, [1_500_000, 0, 0, 0]
    died = home.run("pull", REPOSITORY, code=2)
    assert "1.43 MiB of 6.5" in died.stderr
    assert "goes on from them" in died.stderr
    digest = hashlib.sha256(remote_models["Q4_K_M"].read_bytes()).hexdigest()
    blobs = home.cache / "blobs"
    assert (blobs / f"{digest}.partial").stat().st_size == 1_500_000
    assert not (blobs / digest).exists()
    assert not list(home.cache.rglob("*.gguf"))
    assert home.names() == ["tinystories-moe"]
    before = len(hub.seen)
    home.run("pull", REPOSITORY)
    parts = [headers.get("range") for _, path, headers in hub.seen[before:] if path.startswith("/cdn/")]
    assert parts[-1] == f"bytes=1500000-{remote_models['Q4_K_M'].stat().st_size - 1}"
    assert sorted(path.name for path in blobs.iterdir()) == [digest]


def test_a_killed_download_goes_on(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.long, hub.cuts = 2 << 20, [1_500_000, *([0] * 50)]
    with subprocess.Popen([*PROGRAM, "pull", REPOSITORY], env=home.environment, stdin=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in home.cache.rglob("*.partial")) and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
    hub.cuts.clear()
    shown = home.json("pull", REPOSITORY)
    assert Path(shown["paths"][0]).read_bytes() == remote_models["Q4_K_M"].read_bytes()
    assert not any(part.get("range") is None for part in hub.asked("/cdn/")[2:])


def test_ctrl_c_leaves_what_list_shows_and_rm_takes_away(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    import pexpect

    source = f"{REPOSITORY}:{remote_models['Q4_K_M'].name}"
    hub.long, hub.cuts = 2 << 20, [1_500_000, *([0] * 50)]
    child = pexpect.spawn(PROGRAM[0], [*PROGRAM[1:], "pull", REPOSITORY, "--yes"], env=home.environment, timeout=60)
    child.expect("MiB ")
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in home.cache.rglob("*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "in use by process" in home.run("rm", REPOSITORY, "--yes", code=2).stderr
    child.sendintr()
    child.expect(f"stopped: the same command goes on from what is here, edgemoe rm {source} takes it away")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    [begun] = [model for model in home.json("list") if "unfinished" in model]
    size = remote_models["Q4_K_M"].stat().st_size
    assert (begun["source"], begun["unfinished"], begun["bytes"]) == (source, 1_500_000, size)
    assert f"{source}  1.43 MiB" in home.run("list").stdout
    assert "edgemoe pull" in home.run("show", REPOSITORY, code=2).stderr
    assert "frees 1.43 MiB" in home.run("rm", f"{REPOSITORY}:Q4_K_M", "--yes").stderr
    assert not [path for path in home.cache.rglob("*") if path.is_file()]
    assert "NOT COMPLETE" not in home.run("list").stdout
    hub.cuts.clear()
    home.run("pull", REPOSITORY)
    assert home.names() == ["tiny-moe", "tinystories-moe"]
    assert "NOT COMPLETE" not in home.run("list").stdout


def test_shards_that_came_go_with_the_one_that_did_not(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.add(REPOSITORY, remote_models["split"], remote_models["second"], folder="Q6_K/")
    first, second = (remote_models[name].stat().st_size for name in ("split", "second"))
    hub.long, hub.cuts = 2 << 20, [first, 300_000, 0, 0, 0]
    home.run("pull", f"{REPOSITORY}:Q6_K", code=2)
    [begun] = [model for model in home.json("list") if "unfinished" in model]
    assert (begun["unfinished"], begun["bytes"]) == (first + 300_000, first + second)
    hub.cuts = [100_000, 0, 0, 0]
    home.run("pull", f"{REPOSITORY}:Q6_K", code=2)  # the first shard was there already, but is of this download
    home.run("rm", f"{REPOSITORY}:Q6_K", "--yes")
    assert not [path for path in home.cache.rglob("*") if path.is_file() and path.parent.name != "refs"]


def test_a_download_from_a_url_that_did_not_end(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.plain["Model.gguf"] = remote_models["Q4_K_M"].read_bytes()
    hub.long, hub.cuts = 2 << 20, [1_500_000, 0, 0, 0]
    url = f"{hub.url}/files/Model.gguf"
    home.run("pull", url, code=2)
    assert f"{url}  1.43 MiB" in home.run("list").stdout
    home.run("rm", url, "--yes")
    assert not list((home.folder / "XDG_DATA_HOME/edgemoe/models").iterdir())


def test_a_damaged_download_is_refused_and_fetched_anew(home: Home, hub: Hub) -> None:
    hub.damaged = True
    refused = home.run("pull", REPOSITORY, code=2)
    assert "damaged on the way" in refused.stderr
    assert "SHA-256" in refused.stderr
    assert not list(home.cache.rglob("*.gguf"))
    assert home.names() == ["tinystories-moe"]
    hub.damaged = False
    assert home.json("pull", REPOSITORY)["name"] == "tiny-moe"


def test_a_busy_server_is_asked_again(home: Home, hub: Hub) -> None:
    home.run("pull", REPOSITORY, "--dry-run")
    hub.broken = 1
    refused = home.run("pull", REPOSITORY, code=2)  # nothing is known of the model yet
    assert "503" in refused.stderr


def test_another_file_at_the_same_url_is_not_mixed_up(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.plain["m.gguf"] = remote_models["Q4_K_M"].read_bytes()
    hub.long, hub.cuts = 2 << 20, [1_500_000, 0, 0, 0]
    home.run("pull", f"{hub.url}/files/m.gguf", code=2)
    hub.plain["m.gguf"] = remote_models["Q8_0"].read_bytes()
    shown = home.json("pull", f"{hub.url}/files/m.gguf")
    assert Path(shown["paths"][0]).read_bytes() == remote_models["Q8_0"].read_bytes()


def test_files_of_one_name_from_two_places(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.plain["m.gguf"] = remote_models["Q4_K_M"].read_bytes()
    hub.plain["other/m.gguf"] = remote_models["Q8_0"].read_bytes()
    first = home.json("pull", f"{hub.url}/files/m.gguf")
    second = home.json("pull", f"{hub.url}/files/other/m.gguf")
    assert (first["name"], second["name"]) == ("m", "m-2")
    assert [Path(x["paths"][0]).read_bytes() for x in (first, second)] == [
        hub.plain["m.gguf"],
        hub.plain["other/m.gguf"],
    ]
    hub.plain["m.gguf"] = remote_models["pack"].read_bytes()  # the file has changed
    assert home.json("pull", f"{hub.url}/files/m.gguf")["type"].startswith("pack")


# Refusals


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("acme/Nothing-GGUF", "no repository acme/Nothing-GGUF"),
        (f"{REPOSITORY}:Q5_K_M", "there is Q4_K_M ("),
        (f"{REPOSITORY}:Q4_K", "did you mean Q4_K_M?"),
        ("acme/Gated-GGUF", "accept its terms"),
        ("acme/Private-GGUF", "or it is private"),
        ("acme/Texts", "has no GGUF model"),
        ("acme/Bad-GGUF", "does not start with the letters GGUF"),
        ("tinystoriesmoe", "you have tinystories-moe"),
        ("{hub}/files/none.gguf", "there is no such file"),
        ("{hub}/files/readme.txt", "does not end in the name of a .gguf file"),
    ],
)
def test_refusals_are_one_message(home: Home, hub: Hub, remote_models: dict[str, Path], what: str, said: str) -> None:
    for name in ("Gated", "Private"):
        hub.add(f"acme/{name}-GGUF", remote_models["Q4_K_M"])
    hub.files["acme/Texts"] = {"README.md": b"none", "Part-00002-of-00003.gguf": b"GGUF"}
    hub.files["acme/Bad-GGUF"] = {"bad-Q4_0.gguf": b"<html>" * 400}
    hub.gated, hub.private = {"acme/Gated-GGUF"}, {"acme/Private-GGUF"}
    done = home.run("pull", what.replace("{hub}", hub.url), code=2)
    assert said in done.stderr
    assert done.stderr.startswith("edgemoe: ")
    assert home.names() == ["tinystories-moe"]


def test_a_revision_that_there_is_not(home: Home) -> None:
    assert "no revision 'v9'" in home.run("pull", REPOSITORY, "--revision", "v9", code=2).stderr


def test_the_token_opens_and_stays_with_the_hub(home: Home, hub: Hub, remote_models: dict[str, Path]) -> None:
    hub.gated.add(REPOSITORY)
    assert home.json("pull", REPOSITORY, HF_TOKEN=TOKEN)["name"] == "tiny-moe"
    assert all("authorization" not in headers for headers in hub.asked("/cdn/"))  # another host
    assert any("authorization" in headers for headers in hub.asked(f"/{REPOSITORY}/resolve/"))
    assert TOKEN not in "".join(path.read_text(errors="replace") for path in home.folder.rglob("*.json"))


def test_a_hub_that_cannot_be_reached(home: Home) -> None:
    done = home.run("pull", REPOSITORY, code=2, HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in done.stderr
    assert "HF_HUB_OFFLINE" in home.run("pull", REPOSITORY, code=2, HF_HUB_OFFLINE="1").stderr


def test_too_small_a_disk_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    from edgemoe.errors import DownloadError
    from edgemoe.hub.transfer import check_room

    with pytest.raises(DownloadError, match="make room"):
        check_room(tmp_path / "not/there/yet", 1 << 60, "the model")
    assert check_room(tmp_path, 1, "the model") > 0


def test_a_name_that_is_taken(home: Home) -> None:
    home.run("pull", REPOSITORY, "--name", "mine")
    refused = home.run("pull", f"{REPOSITORY}:Q8_0", "--name", "Mine", code=2)
    assert "choose another" in refused.stderr
    assert "cannot be a name" in home.run("pull", REPOSITORY, "--name", "a b", code=2).stderr
    assert home.json("pull", f"{REPOSITORY}:Q8_0")["name"] == "tiny-moe"
