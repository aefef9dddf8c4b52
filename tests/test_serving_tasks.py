"""`--ray`: packs of the same bytes, and measurements of all settings in their order, as tasks of a real Ray."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgemoe.packs import layout
from edgemoe.packs.layout import ExpertTensor, Format, Group
from edgemoe.serving.tasks import OneExpert

pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
# Of the package that is imported here: the sources in place, or what was installed.
PACKAGES = Path(layout.__file__).resolve().parents[2]


def edgemoe(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    variables = {
        "PYTHONPATH": os.pathsep.join([str(PACKAGES), os.environ.get("PYTHONPATH", "")]),
        "RAY_AUTH_TOKEN_PATH": str(token),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "edgemoe", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_pack_has_the_same_bytes(model_factory, tmp_path: Path) -> None:
    [source] = model_factory("qwen3moe", expert_type="F16")
    text = tmp_path / "text.txt"
    text.write_text("The ferry left the harbour at noon, and the children waved until it was gone. " * 60)
    made = []
    for name, ray in (("here", []), ("there", ["--ray"])):
        output = tmp_path / f"{name}.mwq.gguf"
        done = edgemoe(tmp_path, "pack", str(source), "-o", str(output), "--calibrate", str(text), "--no-heads", *ray)
        assert done.returncode == 0, done.stderr
        made.append(output.read_bytes())
    assert made[0] == made[1]


def test_settings_are_measured_in_their_order(model_factory, tmp_path: Path) -> None:
    [source] = model_factory("qwen3moe", expert_type="Q8_0")
    small = ["--prompt-tokens", "16", "--tokens", "4", "--repeat", "1", "--threads", "1", "-o", "json"]
    done = edgemoe(tmp_path, "bench", str(source), "--memory", "600MiB,1KiB,700MiB", "--ray", *small)
    assert done.returncode == 0, done.stderr
    first, wrong, last = json.loads(done.stdout)
    assert [one["label"] for one in (first, wrong, last)] == ["600MiB", "1KiB", "700MiB"]
    assert first["decode_tps"] > 0
    assert last["budget_bytes"] > first["budget_bytes"]
    assert "1" in wrong["error"]
    assert done.stderr.count("measuring") == 3


def test_a_cluster_that_is_not_there_is_named(model_factory, tmp_path: Path) -> None:
    [source] = model_factory("qwen3moe", expert_type="Q8_0")
    done = edgemoe(tmp_path, "bench", str(source), "--ray", "nonsense-address")
    assert done.returncode == 2
    assert "nonsense-address" in done.stderr
    assert "Traceback" not in done.stderr


class Known:
    """A calibration in which gate and up share their input."""

    fingerprint = "known"

    def input_of(self, tensor: str) -> str:
        return "down" if "down" in tensor else "gate"

    def importance(self, tensor: str, expert: int) -> np.ndarray | None:
        return np.full(4, expert, np.single)

    def mean_input(self, tensor: str, expert: int) -> np.ndarray | None:
        return None

    def hessian(self, tensor: str, expert: int) -> np.ndarray | None:
        return np.full((4, 4), expert + ("down" in tensor), np.single)


@pytest.mark.parametrize("hessians", [True, False])
def test_what_is_sent_of_a_calibration_is_that_of_one_expert(hessians: bool) -> None:
    names = [f"blk.0.ffn_{kind}_exps.weight" for kind in ("gate", "up", "down")]
    group = Group("blk.0.exps", tuple(ExpertTensor(name, Format.T16, 1, 4, 4, 8) for name in names))
    sent = OneExpert(Known(), group, 3, hessians=hessians)
    for name in names:
        assert sent.input_of(name) == Known().input_of(name)
        assert np.array_equal(sent.importance(name, 3), np.full(4, 3, np.single))
        assert sent.mean_input(name, 3) is None
        found = sent.hessian(name, 3)
        assert (found is not None) == hessians
        assert found is None or np.array_equal(found, Known().hessian(name, 3))
