#!/bin/bash
# What takes longer than a push should: a 5 GB model under real memory limits, long fuzzing, load, figures beside stock
# llama.cpp. Prints what each step took; the first that fails ends it.
#   tools/ci/nightly.sh FOLDER [STEP...]      (steps: see below; all of them unless named)
# FOLDER needs 16 GB. EDGEMOE_TEXT is English prose to evaluate (the README unless set). Needs root and control groups of
# version 1 for the limits, an X server in memory (Xvfb) for the window, and apt-get for Chromium where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?"usage: tools/ci/nightly.sh FOLDER [STEP...]"}
shift
text=${EDGEMOE_TEXT:-README.md}
python="$PWD/.venv/bin/python"
model="$folder/synthetic-30b-12l.gguf"

checked() { # a file of tests, not from the root, where programs would import the sources and not what was installed
  local file=$1
  shift
  (cd .venv && bin/pytest -c ../pyproject.toml --rootdir .. "../tests/$file" -rs "$@")
}

desktop() { # the example with a window
  .venv/bin/pip install --quiet ".[test,desktop]"
  checked test_examples.py -k desktop
}

ray() { # replicas on a real Ray
  .venv/bin/pip install --quiet ".[test,ray]"
  checked test_serving_ray.py
  checked test_serving_tasks.py
}

train() { # a tiny default model, trained, stopped, resumed and exported
  .venv/bin/pip install --quiet ".[test,train]"
  checked test_default_model.py
}

page() { # the server's page in a browser
  command -v chromedriver >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; }
  checked test_server_page.py
}

container() { # the image of docs/deploy.md, built and asked
  tools/ci/container.sh "$folder/container"
}

load() { # fifty clients for five minutes
  "$python" tools/serve_load.py --memory 500MiB --clients 50 --minutes "${EDGEMOE_LOAD_MINUTES:-5}"
}

schema() { # requests made from the server's schema
  EDGEMOE_SCHEMA_EXAMPLES=${EDGEMOE_SCHEMA_EXAMPLES:-500} checked test_server_schema.py
}

flipped() { # models and packs with flipped bits
  EDGEMOE_FUZZ_FILES=${EDGEMOE_FUZZ_FILES:-3000} checked test_bad_input.py -k flipped
}

fuzz() { # ten minutes of libFuzzer
  PYTHON="$python" tools/ci/fuzz.sh 600 build/native-tests
}

cross() { # the native library for macOS and Windows, compiled
  .venv/bin/pip install --quiet ".[cross]"
  PYTHON="$python" tools/ci/cross.sh build/native-tests
}

synthetic() { # the model that the steps below use
  [ -f "$model" ] || "$python" tools/synthesize_moe.py "$model"
}

packs() { # both kinds, made and read back
  local kind pack
  for kind in slices t16; do
    pack="$folder/synthetic-$kind.mwq.gguf"
    [ -f "$pack" ] || .venv/bin/edgemoe pack "$model" -o "$pack" $([ "$kind" = slices ] || echo --requantize)
    .venv/bin/edgemoe verify "$pack"
  done
}

budget() { # the peak of memory in control groups
  "$python" tools/prove_budget.py "$model" --memory 60%,40%,25% --prompt-tokens 512 --tokens 200 --ctx 4096
}

stock() { # beside stock llama.cpp
  "$python" tools/compare_stock.py "$model" --text "$text" --memory none,50%,30% --repeat 5
}

limits() { # with a slow disk
  "$python" tools/compare_limits.py "$model" --text "$text" --pack "$folder/synthetic-t16.mwq.gguf" \
    --cache 50%,25%,10% --disk 300MB --memory auto --repeat 3 --warm 40 --tokens 40 --quality balanced --quality fast
}

disk() { # what of the disk's speed is used
  command -v fio >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends fio; }
  "$python" tools/io_bound.py "$model" --text "$text"
}

wheels() { # what a release publishes, as far as this machine makes it
  tools/ci/wheels.sh "$folder/wheels"
}

arm64() { # wheels for ARM and all tests with them, emulated: hours, and it goes on where it was stopped
  tools/ci/arm64_root.sh "$folder/arm64"
}

steps=(desktop ray train page container load schema flipped fuzz cross synthetic packs budget stock limits disk wheels arm64)
[ $# = 0 ] || steps=("$@")
for step in "${steps[@]}"; do
  [ "$(type -t "$step")" = function ] || { echo "nightly.sh: there is no step '$step'" >&2; exit 2; }
done
tools/bootstrap.sh
mkdir -p "$folder"
for step in "${steps[@]}"; do
  echo "== $step"
  began=$SECONDS
  "$step"
  echo "== $step: passed in $((SECONDS - began)) s"
done
