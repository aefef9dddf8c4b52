#!/usr/bin/env bash
# Installs edgemoe for 64-bit ARM as its users do, from wheels, in a Debian of its own, and runs the tests there under qemu. The
# wheels of edgemoe and llama-cpp-python are made by a cross compiler. Takes hours: the files of tests run one after the other,
# and those in FOLDER/passed are not run again, so that the same command goes on where it was stopped.
#
#   tools/ci/arm64_root.sh FOLDER [FILE OF TESTS...]      (FOLDER needs 4 GB; what is in it is used again)
#
# Needs root, and a kernel with binfmt_misc. QEMU_CPU chooses the processor (max; for example neoverse-n1, cortex-a76).
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(realpath -m "${1:?"usage: tools/ci/arm64_root.sh FOLDER [ARGUMENT OF PYTEST...]"}")"
shift
root="$folder/root"
wheels="$folder/wheels"
release=trixie
python="${PYTHON:-python3}" # 3.12 or later: its wheels serve what follows
cross=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)

fail() {
  echo "arm64_root.sh: $*" >&2
  exit 1
}

install_tools() {
  local missing=()
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(gcc-aarch64-linux-gnu g++-aarch64-linux-gnu)
  command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
  [[ ${#missing[@]} -eq 0 ]] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
}

# Programs for ARM start by themselves: the kernel opens the emulator once (F), so that the new root needs no copy of it.
register_emulator() {
  local table=/proc/sys/fs/binfmt_misc
  [[ -e $table/register ]] || mount -t binfmt_misc none $table || fail "the kernel has no binfmt_misc"
  [[ -e $table/qemu-aarch64 ]] && return
  local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):FP" >$table/register
}

make_root() {
  [[ -e "$root/usr/bin/pip3" ]] ||
    debootstrap --arch=arm64 --variant=minbase \
      --include=ca-certificates,git,libgomp1,procps,python3,python3-pip,python3-venv,tmux "$release" "$root"
}

# cross_wheel WHAT [MORE of CMake...]: into $wheels, with the tag of what it is for. With the programs of this machine: pip would
# install those of the other into an environment of its own.
cross_wheel() {
  PATH="$folder/tools/bin:$PATH" _PYTHON_HOST_PLATFORM=linux-aarch64 CMAKE_ARGS="${cross[*]} ${*:2}" \
    "$folder/tools/bin/pip" wheel --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python --wheel-dir "$wheels" "$1"
}

make_wheels() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || fail "$python is older than 3.12: set PYTHON to another one"
  [[ -x "$folder/tools/bin/pip" ]] || "$python" -m venv "$folder/tools"
  "$folder/tools/bin/pip" install --quiet cmake ninja nanobind scikit-build-core
  local wanted
  wanted="$(sed -n 's/^  "\(llama-cpp-python==[^"]*\)".*/\1/p' "$source_dir/pyproject.toml")"
  compgen -G "$wheels/llama_cpp_python-*aarch64.whl" >/dev/null ||
    cross_wheel "$wanted" -DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16
  rm -f "$wheels"/edgemoe-*
  cross_wheel "$source_dir"
  "$folder/tools/bin/pip" download --quiet --only-binary :all: --python-version "$(inside python3 -c \
    'import sys; print("%d.%d" % sys.version_info[:2])')" --platform linux_aarch64 --platform manylinux2014_aarch64 \
    --platform manylinux_2_28_aarch64 --dest "$wheels" --find-links "$wheels" "edgemoe[test]"
}

inside() { # COMMAND... in the root
  chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-xterm}" PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    QEMU_CPU="${QEMU_CPU:-max}" OMP_NUM_THREADS=1 "$@"
}

run_tests() { # [FILE...] of tests/, those that did not pass yet
  local names=("$@") name failed=0
  [[ $# -gt 0 ]] || mapfile -t names < <(cd "$source_dir/tests" && ls test_*.py)
  mkdir -p "$folder/passed" "$folder/failed"
  for name in "${names[@]##*/}"; do
    [[ ! -e "$folder/passed/$name" ]] || continue
    if inside sh -c 'cd /venv && exec timeout 7200 pytest -c /source/pyproject.toml --rootdir /source -p no:cacheprovider -q "$@"' \
      pytest "/source/tests/$name" >"$folder/failed/$name" 2>&1; then
      mv "$folder/failed/$name" "$folder/passed/$name"
      echo "$name: $(tail -n 1 "$folder/passed/$name")"
    else
      failed=1
      echo "$name: FAILED, see $folder/failed/$name: $(tail -n 1 "$folder/failed/$name")"
    fi
  done
  return "$failed"
}

leave() {
  local place
  for place in wheels source dev/pts dev sys proc; do umount -l "$root/$place" 2>/dev/null || true; done
}

[[ "$(uname -sm)" == "Linux x86_64" ]] || fail "nothing to emulate on $(uname -sm): run the tests"
mkdir -p "$folder" "$wheels"
install_tools
register_emulator
make_root
make_wheels
trap leave EXIT
mkdir -p "$root/source" "$root/wheels"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --make-rslave "$root/sys"
mount --bind /dev "$root/dev"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount --bind "$source_dir" "$root/source"
mount --bind "$wheels" "$root/wheels"

inside python3 -m venv /venv
inside sh -c 'pip install --quiet --no-index --force-reinstall --no-deps /wheels/edgemoe-*.whl'
inside pip install --quiet --no-index --find-links /wheels "edgemoe[test]"
inside uname -m
inside edgemoe chat --max-tokens 16 -p "Once upon a time"
run_tests "$@"
