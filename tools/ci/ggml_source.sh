#!/usr/bin/env bash
# Prints the folder of ggml's source (vendor/llama.cpp/ggml) in the llama-cpp-python that pyproject.toml names, which is
# downloaded unless EDGEMOE_GGML_SOURCE says where it is.
#
#   tools/ci/ggml_source.sh BUILD_FOLDER
#
# PYTHON  the Python whose pip downloads it (python3)
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build_dir="${1:?"usage: tools/ci/ggml_source.sh BUILD_FOLDER"}"
version="$(sed -n 's/.*"llama-cpp-python==\([^"]*\)".*/\1/p' "$source_dir/pyproject.toml")"
name="llama_cpp_python-$version"
folder="${EDGEMOE_GGML_SOURCE:-$build_dir/$name/vendor/llama.cpp/ggml}"
if [[ ! -e "$folder/src/ggml-backend-impl.h" && -z "${EDGEMOE_GGML_SOURCE:-}" ]]; then
  mkdir -p "$build_dir"
  "${PYTHON:-python3}" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$build_dir" \
    "llama-cpp-python==$version" >&2
  tar -xzf "$build_dir/$name.tar.gz" -C "$build_dir" "$name/vendor/llama.cpp/ggml" "$name/vendor/llama.cpp/include"
  rm "$build_dir/$name.tar.gz"
fi
[[ -e "$folder/src/ggml-backend-impl.h" ]] || {
  echo "ggml_source.sh: $folder has no src/ggml-backend-impl.h" >&2
  exit 1
}
echo "$folder"
