#!/usr/bin/env bash
# Compiles the native library for systems that are not here, warnings as errors, with zig as the compiler: macOS on ARM and
# Windows on x86-64. Nothing is run.
#
#   tools/ci/cross.sh [build folder]
#
# PYTHON   a Python with the packages of the "cross" extra (python3)
# TARGETS  which systems, of aarch64-macos and x86_64-windows (both)
#
# The first run compiles zig's own C++ library for each target, once for each user: a minute more for each.
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build_dir="${1:-build/native-tests}/cross"
python="$(command -v "${PYTHON:-python3}")"
jobs="$(getconf _NPROCESSORS_ONLN)"

fail() {
  echo "cross.sh: $*" >&2
  exit 1
}

# tool NAME COMMAND...: a script that CMake can call. zig has its own names for the instructions that -march lists.
tool() {
  cat >"$build_dir/$1" <<TOOL
#!/usr/bin/env bash
for argument; do
  shift
  case "\$argument" in
    -march=armv8.2-a+dotprod+fp16*) set -- "\$@" "-mcpu=generic+v8_2a+dotprod+fullfp16\${argument#-march=armv8.2-a+dotprod+fp16}" ;;
    *) set -- "\$@" "\$argument" ;;
  esac
done
exec "$python" -m ziglang ${*:2} "\$@"
TOOL
  chmod +x "$build_dir/$1"
}

# build TARGET SYSTEM PROCESSOR
build() {
  echo "== $1"
  tool "$1-c++" c++ -target "$1"
  # CMake would try its compiler on small programs first, and on macOS look for Xcode's tools.
  cmake -S "$source_dir" -B "$build_dir/$1" -G Ninja -DCMAKE_SYSTEM_NAME="$2" -DCMAKE_SYSTEM_PROCESSOR="$3" \
    -DCMAKE_CXX_COMPILER="$build_dir/$1-c++" -DCMAKE_AR="$build_dir/ar" -DCMAKE_RANLIB="$build_dir/ranlib" \
    -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-Werror \
    -DEDGEMOE_PYTHON=OFF >"$build_dir/$1.log" 2>&1 || { cat "$build_dir/$1.log"; fail "$1 cannot be configured"; }
  cmake --build "$build_dir/$1" -j "$jobs"
}

"$python" -c "import ziglang" 2>/dev/null || fail "$python has no zig: pip install ziglang"
mkdir -p "$build_dir"
build_dir="$(cd "$build_dir" && pwd)"
tool ar ar
tool ranlib ranlib
for target in ${TARGETS:-aarch64-macos x86_64-windows}; do
  case "$target" in
    aarch64-macos) build aarch64-macos.11.0 Darwin arm64 ;;
    x86_64-windows) build x86_64-windows-gnu Windows AMD64 ;;
    *) fail "TARGETS has $target; it may have aarch64-macos and x86_64-windows" ;;
  esac
done
