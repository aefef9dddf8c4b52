#!/usr/bin/env bash
# Builds the image of docs/deploy.md with buildah, starts what it starts, and asks it. There may be no registry of images: the base is
# a Debian of this machine's release, with its mirrors and its Python under the name of the official image. Needs root.
#
#   tools/ci/container.sh FOLDER      (2 GB; EDGEMOE_WHEELS is a folder of wheels that need not be built)
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(realpath -m "${1:?"usage: tools/ci/container.sh FOLDER"}")"
dockerfile="$folder/Dockerfile"
root="$folder/root"
key=secret
port=8080

missing=()
for tool in buildah debootstrap curl; do command -v $tool >/dev/null || missing+=($tool); done
[[ ${#missing[@]} -eq 0 ]] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" crun; }

buildah=(buildah --root "$folder/storage" --runroot "$folder/run" --storage-driver vfs)
image() { "${buildah[@]}" "$@"; }

base() { # a Debian with pip, called as the Dockerfile calls it
  local release name container file
  release="$(. /etc/os-release && echo "$VERSION_CODENAME")"
  name="$(sed -n 's/^FROM \(\S*\) AS build$/\1/p' "$dockerfile")"
  image inspect --type image "docker.io/library/$name" >/dev/null 2>&1 && return
  [[ -e "$root/usr/bin/pip3" ]] ||
    debootstrap --variant=minbase --include=ca-certificates,python3-dev,python3-pip "$release" "$root" >/dev/null
  rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
  ln -sf python3 "$root/usr/bin/python"
  for file in /etc/apt/apt.conf.d /etc/apt/sources.list /etc/apt/sources.list.d /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [[ ! -e "$file" ]] || { mkdir -p "$root$(dirname "$file")" && cp -rL "$file" "$root$(dirname "$file")"; }
  done
  container="$(image from scratch)"
  image add --quiet "$container" "$root" /
  image config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env PIP_ROOT_USER_ACTION=ignore \
    --env "PIP_FIND_LINKS=${EDGEMOE_WHEELS:+/given}" "$container"
  image commit --quiet "$container" "docker.io/library/$name" >/dev/null
  image rm "$container" >/dev/null
}

ask() { # PATH [MORE of curl...]
  curl --silent --show-error --fail --max-time 120 -H "Authorization: Bearer $key" "http://127.0.0.1:$port$1" "${@:2}"
}

mkdir -p "$folder"
python3 - "$source_dir/docs/deploy.md" >"$dockerfile" <<'PY'
import re, sys
[text] = re.findall(r"```text\n(FROM.*?)```", open(sys.argv[1]).read(), re.DOTALL)
print(text, end="")
PY
base
given=()
[[ -z "${EDGEMOE_WHEELS:-}" ]] || given=(--volume "$EDGEMOE_WHEELS:/given:ro")
image bud --format docker --isolation chroot --pull-never "${given[@]}" --tag edgemoe --file "$dockerfile" "$source_dir"

container="$(image from --pull-never localhost/edgemoe)"
mapfile -t command < <(image inspect --format '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$container" | sed '/^$/d')
mkdir -p "$folder/models"
cp "$source_dir/models/tinystories-moe.mwq.gguf" "$folder/models/model.gguf"
setsid "${buildah[@]}" run --isolation chroot --env EDGEMOE_API_KEY=$key --volume "$folder/models:/models:ro" "$container" "${command[@]}" &
server=$!
finish() { # the server is killed, which is no failure of this script
  kill -- -$server 2>/dev/null || true
  wait $server 2>/dev/null || true
  image rm --all >/dev/null || true
}
trap finish EXIT
for _ in $(seq 120); do ask /health >/dev/null 2>&1 && break || sleep 0.5; done

mapfile -t health < <(image inspect --format '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' "$container" | sed '/^$/d')
image run --isolation chroot "$container" "${health[@]:1}"
[[ "$(image run --isolation chroot "$container" id -un)" == edgemoe ]]
if curl --silent --fail "http://127.0.0.1:$port/v1/models" >/dev/null; then
  echo "container.sh: it answers without a key" >&2
  exit 1
fi
ask /v1/chat/completions -H "Content-Type: application/json" -d '{"max_tokens": 20, "messages": [{"role": "user", "content": "Tell me a story."}]}'
echo
echo "container.sh: the image builds, starts, and answers"
