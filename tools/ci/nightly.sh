#!/bin/bash
# What takes longer than a push should: a 5 GB model under real memory limits, long fuzzing, figures beside stock llama.cpp.
#   tools/ci/nightly.sh FOLDER [TEXT]
# FOLDER needs 16 GB; TEXT is English prose to evaluate. Needs root and control groups of version 1 for the limits, an X
# server in memory (Xvfb) for the window, and apt-get for Chromium where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?"usage: tools/ci/nightly.sh FOLDER [TEXT]"}
text=${2:-README.md}
python="$PWD/.venv/bin/python"
tools/bootstrap.sh
.venv/bin/pip install --quiet ".[test,desktop]"
.venv/bin/pytest tests/test_examples.py -k desktop -rs
if ! command -v chromedriver >/dev/null 2>&1; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver
fi
.venv/bin/pytest tests/test_server_page.py -rs
.venv/bin/pip install --quiet ".[train]"
.venv/bin/pytest tests/test_default_model.py -rs
mkdir -p "$folder"
model="$folder/synthetic-30b-12l.gguf"
[ -f "$model" ] || "$python" tools/synthesize_moe.py "$model"
"$python" tools/prove_budget.py "$model" --memory 60%,40%,25% --prompt-tokens 512 --tokens 200 --ctx 4096
for kind in slices t16; do
  pack="$folder/synthetic-$kind.mwq.gguf"
  [ -f "$pack" ] || .venv/bin/edgemoe pack "$model" -o "$pack" $([ "$kind" = slices ] || echo --requantize)
  .venv/bin/edgemoe verify "$pack"
done
"$python" tools/serve_load.py --memory 500MiB --clients 50 --minutes "${EDGEMOE_LOAD_MINUTES:-5}"
EDGEMOE_SCHEMA_EXAMPLES=${EDGEMOE_SCHEMA_EXAMPLES:-500} .venv/bin/pytest tests/test_server_schema.py
EDGEMOE_FUZZ_FILES=${EDGEMOE_FUZZ_FILES:-3000} .venv/bin/pytest tests/test_bad_input.py -k flipped
PYTHON="$python" tools/ci/fuzz.sh 600 build/native-tests
"$python" tools/compare_stock.py "$model" --text "$text" --memory none,50%,30% --repeat 5
"$python" tools/compare_limits.py "$model" --text "$text" --pack "$pack" --cache 50%,25%,10% --disk 300MB --memory auto \
  --repeat 3 --warm 40 --tokens 40 --quality balanced --quality fast
if command -v fio >/dev/null 2>&1; then
  "$python" tools/io_bound.py "$model" --text "$text"
fi
