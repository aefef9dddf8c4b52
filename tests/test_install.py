"""What an installation promises: the tested llama-cpp-python, the command, and a light start."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgemoe
from edgemoe import ModelError, VersionError
from edgemoe.calibrate import default_text
from edgemoe.default_model import calibration_text_path, default_model_path
from edgemoe.experts import library

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


# llama-cpp-python


def test_the_tested_version_is_installed() -> None:
    assert library.installed_version() in library.SUPPORTED_VERSIONS


@pytest.mark.parametrize("version", ["0.3.35", "0.3.37", "0.4.0", "0.3.36.post1", "1.0"])
def test_another_version_is_refused_and_the_range_is_named(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(VersionError) as caught:
        library.installed_version()
    message = str(caught.value)
    assert f"llama-cpp-python {version}" in message
    assert all(supported in message for supported in library.SUPPORTED_VERSIONS)
    assert f"pip install llama-cpp-python=={library.SUPPORTED_VERSIONS[-1]}" in message


def test_a_missing_library_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(VersionError, match="not installed: pip install llama-cpp-python=="):
        library.installed_version()


def test_loading_checks_the_version_before_anything_else() -> None:
    code = """
import importlib.metadata, sys
importlib.metadata.version = lambda name: "0.2.0"
import edgemoe
try:
    edgemoe.Llama
except edgemoe.VersionError as error:
    print("0.3.36" in str(error), "edgemoe._native" in sys.modules)
"""
    done = python("-c", code)
    assert done.stdout.split() == ["True", "False"], done.stderr[-2000:]


def test_the_command_line_reports_another_version_in_one_line() -> None:
    code = """
import importlib.metadata
importlib.metadata.version = lambda name: "0.2.0"
from edgemoe.cli import main
main(["chat", "-p", "hello"])
"""
    done = python("-c", code)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("edgemoe: llama-cpp-python 0.2.0 is installed")


def test_the_pin_of_the_package_is_what_the_code_supports() -> None:
    pins = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "llama-cpp-python" in line]
    version = library.SUPPORTED_VERSIONS[-1]
    names = ("llama-cpp-python", "llama-cpp-python[server]")  # the package's, and of the tests
    assert [pin.strip() for pin in pins] == [f'"{name}=={version}",' for name in names]


def test_one_version_number() -> None:
    assert f'version = "{edgemoe.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_the_readme_installs_this_version_s_wheels() -> None:
    commands = {
        line
        for page in ("README.md", "docs/platforms.md")
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("pip install edgemoe")
    }
    (command,) = commands  # the same in both
    assert command.endswith(
        f"--find-links https://github.com/edgemoe/edgemoe/releases/expanded_assets/v{edgemoe.__version__}"
    )


def test_systems_with_wheels_are_classified() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '"Operating System :: POSIX :: Linux"' in text
    assert '"Operating System :: MacOS"' in text


# The command


def test_python_dash_m() -> None:
    done = python("-m", "edgemoe", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"edgemoe {edgemoe.__version__}")
    assert python("-m", "edgemoe", "no-such-verb").returncode == 2


def test_help_does_not_import_llama_cpp() -> None:
    code = """
import sys
from edgemoe.cli import main
try:
    main(["--help"])
finally:
    print("llama_cpp" in sys.modules, file=sys.stderr)
"""
    done = python("-c", code)
    assert done.returncode == 0
    assert "Usage: edgemoe" in done.stdout
    assert done.stderr.strip() == "False"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = """
import sys
import edgemoe
print(sorted({"llama_cpp", "numpy", "onnxruntime", "rich", "edgemoe._native"} & set(sys.modules)))
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


def test_the_entry_point_is_the_command_line() -> None:
    from edgemoe.cli import main

    try:
        distribution = importlib.metadata.distribution("edgemoe")
    except importlib.metadata.PackageNotFoundError:
        assert 'edgemoe = "edgemoe.cli:main"' in (ROOT / "pyproject.toml").read_text()
        return
    [script] = [e for e in distribution.entry_points if e.group == "console_scripts" and e.name == "edgemoe"]
    assert script.load() is main


def test_the_default_model_is_a_whole_pack() -> None:
    from edgemoe.packs.reader import Pack
    from edgemoe.packs.verify import verify

    path = default_model_path()
    assert path.read_bytes()[:4] == b"GGUF"
    assert verify(path).damages == []
    with Pack(path) as opened:
        assert opened.levels[:3] == (2, 3, 4)


def test_the_calibration_text_is_fables_and_code() -> None:
    fables, text = calibration_text_path().read_text(encoding="utf-8"), default_text()
    assert text.startswith(fables)
    assert "from edgemoe.packs" in text.removeprefix(fables)
    assert len(text) <= len(fables) + 50_001


def test_everything_beside_the_default_model_is_installed() -> None:
    [rule] = re.findall(r"install\(DIRECTORY models/ .*\)", (ROOT / "CMakeLists.txt").read_text())
    patterns = re.findall(r'PATTERN "([^"]+)"', rule)
    names = [path.name for path in default_model_path().parent.iterdir()]
    assert "calibration.txt" in names
    assert not [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def test_what_an_installation_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path / package)
    with pytest.raises(ModelError, match="edgemoe/models.*no default model: name a GGUF file"):
        default_model_path()
    with pytest.raises(ModelError, match="edgemoe/models.*no text to calibrate with: name one"):
        calibration_text_path()


def test_public_names_resolve() -> None:
    for name in edgemoe.__all__:
        assert getattr(edgemoe, name).__doc__
    unknown = "Lama"
    with pytest.raises(AttributeError, match="no attribute 'Lama'"):
        getattr(edgemoe, unknown)
