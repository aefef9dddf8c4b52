#!/usr/bin/env bash
# Builds and runs the native tests three ways: Release with warnings as errors, then with AddressSanitizer and
# UndefinedBehaviorSanitizer, then with ThreadSanitizer. Then the kernels' tests for 64-bit ARM (arm64.sh).
#
#   tools/ci/native.sh [build folder]
#
# PYTHON                the Python whose llama-cpp-python is compared with ggml_abi.h (python3)
# EDGEMOE_GGML_INCLUDE  its public headers (include/ beside the llama_cpp package)
# EDGEMOE_GGML_SOURCE   ggml's source (vendor/llama.cpp/ggml in llama-cpp-python's sdist, which is downloaded if unset)
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build_dir="${1:-build/native-tests}"
python="${PYTHON:-python3}"
jobs="$(getconf _NPROCESSORS_ONLN)"

fail() {
  echo "native.sh: $*" >&2
  exit 1
}

install_tools() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ninja >/dev/null || missing+=(ninja-build)
  command -v c++ >/dev/null || missing+=(g++)
  [[ "$(uname)" != Linux || -e /usr/include/gtest/gtest.h ]] || missing+=(libgtest-dev)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "install these first: ${missing[*]}"
  fi
  apt-get install -y --no-install-recommends "${missing[@]}" ||
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
}

wheel_headers() {
  "$python" - <<'PY' || fail "$python has no llama_cpp package: install llama-cpp-python or set EDGEMOE_GGML_INCLUDE"
import importlib.util
import pathlib
import sys

spec = importlib.util.find_spec("llama_cpp")
if spec is None:
    sys.exit(1)
print(pathlib.Path(spec.origin).parent.parent / "include")
PY
}

# build_and_test NAME [CMAKE ARGUMENT...]
build_and_test() {
  local name="$1"
  shift
  echo "== $name"
  cmake -S "$source_dir" -B "$build_dir/$name" -G Ninja -DEDGEMOE_PYTHON=OFF -DEDGEMOE_TESTS=ON "$@"
  cmake --build "$build_dir/$name" -j "$jobs" --target "${targets[@]}"
  ctest --test-dir "$build_dir/$name" -j "$jobs" --output-on-failure --no-tests=error
}

install_tools
mkdir -p "$build_dir"
build_dir="$(cd "$build_dir" && pwd)"
include="${EDGEMOE_GGML_INCLUDE:-$(wheel_headers)}"
ggml="$(PYTHON="$python" "$source_dir/tools/ci/ggml_source.sh" "$build_dir")"
[[ -e "$include/ggml.h" ]] || fail "$include has no ggml.h"

targets=(all)
build_and_test release -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-Werror \
  -DEDGEMOE_GGML_INCLUDE="$include" -DEDGEMOE_GGML_SOURCE="$ggml"

# -O1 compiles several times faster under the sanitizers and finds the same.
targets=(platform_test store_test schedule_test cache_test kernels_test codec_test routing_test)
build_and_test address -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
  -DCMAKE_CXX_FLAGS="-Werror -fno-sanitize-recover=all" -DEDGEMOE_SANITIZE=address,undefined
build_and_test thread -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
  -DCMAKE_CXX_FLAGS=-Werror -DEDGEMOE_SANITIZE=thread

"$source_dir/tools/ci/arm64.sh" "$build_dir"
