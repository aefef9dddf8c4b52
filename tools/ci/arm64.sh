#!/usr/bin/env bash
# Builds native tests for 64-bit ARM with a cross compiler and runs them under qemu: files, memory and the cache once, kernels_test
# and routing_test on a processor with all extensions, on one without matrix products of bytes, and on one with neither these nor
# dot products. On a machine that is ARM itself there is nothing to do: native.sh has run the tests.
#
#   tools/ci/arm64.sh [build folder]
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build_dir="${1:-build/native-tests}/arm64"
once=(platform_test store_test schedule_test codec_test)
everywhere=(kernels_test routing_test)
jobs="$(getconf _NPROCESSORS_ONLN)"

fail() {
  echo "arm64.sh: $*" >&2
  exit 1
}

install_tools() {
  local missing=()
  command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
  command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
  [[ -e /usr/src/googletest/CMakeLists.txt ]] || missing+=(libgtest-dev)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "install these first: ${missing[*]}"
  fi
  apt-get install -y --no-install-recommends "${missing[@]}" ||
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
}

cross_build() {
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_BUILD_TYPE=Release "${@:3}"
}

if [[ "$(uname -s)" != Linux || "$(uname -m)" == aarch64 ]]; then
  echo "arm64.sh: nothing to do on $(uname -sm)"
  exit 0
fi
install_tools
mkdir -p "$build_dir"
build_dir="$(cd "$build_dir" && pwd)"

echo "== arm64"
cross_build /usr/src/googletest "$build_dir/googletest" -DBUILD_GMOCK=OFF -DCMAKE_INSTALL_PREFIX="$build_dir/installed"
cmake --build "$build_dir/googletest" -j "$jobs" --target install
# Tests are discovered when ctest runs, since what is built does not run here by itself.
cross_build "$source_dir" "$build_dir/edgemoe" -DEDGEMOE_PYTHON=OFF -DEDGEMOE_TESTS=ON -DCMAKE_CXX_FLAGS=-Werror \
  -DCMAKE_PREFIX_PATH="$build_dir/installed" -DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST
cmake --build "$build_dir/edgemoe" -j "$jobs" --target "${once[@]}" "${everywhere[@]}"

# emulated CPU TEST...
emulated() {
  echo "== arm64, $1"
  for name in "${@:2}"; do
    qemu-aarch64 -cpu "$1" -L /usr/aarch64-linux-gnu "$build_dir/edgemoe/native/tests/$name" --gtest_brief=1
  done
}

emulated max "${once[@]}" "${everywhere[@]}"
emulated neoverse-n1 "${everywhere[@]}"
emulated cortex-a53 "${everywhere[@]}"
