#!/usr/bin/env bash
# Builds the fuzzers of what reads model files and runs them side by side; what they keep is then opened by the readers in Python.
# A file that one of them fails on stays in BUILD_FOLDER/fuzz/found: give it to that fuzzer, in BUILD_FOLDER/fuzz/native/fuzz,
# as its only argument.
#
#   tools/ci/fuzz.sh SECONDS [BUILD_FOLDER]
#
# PYTHON               the Python that has edgemoe and llama-cpp-python (python3)
# EDGEMOE_GGML_SOURCE  ggml's source, as ggml_source.sh explains
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
seconds="${1:?"usage: tools/ci/fuzz.sh SECONDS [BUILD_FOLDER]"}"
build_dir="${2:-build/native-tests}"
export PYTHON="${PYTHON:-python3}"

fail() {
  echo "fuzz.sh: $*" >&2
  exit 1
}

install() {
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "install these first: $*"
  fi
  apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }
}

has_fuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -x c++ - -fsanitize=fuzzer,address,undefined -o /dev/null 2>/dev/null
}

install_tools() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ninja >/dev/null || missing+=(ninja-build)
  command -v clang++ >/dev/null || missing+=(clang)
  [[ ${#missing[@]} -eq 0 ]] || install "${missing[@]}"
  # Debian and Ubuntu keep clang's runtime in a package of its own.
  has_fuzzer || install "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
  has_fuzzer || fail "clang++ cannot build fuzzers: install its compiler-rt"
}

build() {
  cmake -S "$source_dir" -B "$build_dir" -G Ninja -DEDGEMOE_PYTHON=OFF -DEDGEMOE_FUZZERS=ON -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DCMAKE_CXX_FLAGS=-fno-sanitize-recover=all -DEDGEMOE_SANITIZE=address,undefined \
    -DEDGEMOE_GGML_LIBRARIES="$libraries" -DEDGEMOE_GGML_SOURCE="$ggml"
  cmake --build "$build_dir" -j "$(getconf _NPROCESSORS_ONLN)"
}

# fuzz NAME LARGEST_INPUT [FOLDER...]: leaves what it says in NAME.log.
fuzz() {
  local name="$1" largest="$2"
  mkdir -p "$build_dir/corpus/$name" "$build_dir/found"
  EDGEMOE_FUZZ_LIBRARY="$libraries/libllama.so" LSAN_OPTIONS=print_suppressions=0 \
    "$build_dir/native/fuzz/$name" -max_total_time="$seconds" -max_len="$largest" -len_control=0 -timeout=30 \
    -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$build_dir/found/$name-" \
    "$build_dir/corpus/$name" "${@:3}" >"$build_dir/$name.log" 2>&1
}

report() {
  echo "== $1"
  if [[ "$2" != 0 ]]; then
    grep -v -E 'NEW|REDUCE|RELOAD|pulse' "$build_dir/$1.log" | tail -n 60
    fail "$1 failed: see $build_dir/found"
  fi
  grep -E 'DONE|average_exec_per_sec|peak_rss_mb' "$build_dir/$1.log"
}

install_tools
mkdir -p "$build_dir"
build_dir="$(cd "$build_dir" && pwd)"
ggml="$("$source_dir/tools/ci/ggml_source.sh" "$build_dir")"
libraries="$("$PYTHON" -c 'import llama_cpp, pathlib; print(pathlib.Path(llama_cpp.__file__).parent / "lib")')"
build_dir="$build_dir/fuzz"
build
rm -rf "$build_dir/seeds"
"$PYTHON" "$source_dir/tools/ci/fuzz_seeds.py" "$build_dir/seeds"

fuzz model_fuzzer 262144 "$build_dir/seeds" &
models=$!
trap 'kill "$models" 2>/dev/null || true' EXIT
planes_status=0
fuzz planes_fuzzer 4096 || planes_status=$?
models_status=0
wait "$models" || models_status=$?
report planes_fuzzer "$planes_status"
report model_fuzzer "$models_status"
"$PYTHON" "$source_dir/tools/ci/fuzz_replay.py" "$build_dir/seeds" "$build_dir/corpus/model_fuzzer"
