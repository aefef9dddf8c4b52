#!/bin/sh
# Sets edgemoe up in a virtual environment of its own (.venv) and runs one thing in it:
#   tools/bootstrap.sh            install only
#   tools/bootstrap.sh chat ...   ... and chat; any other verb of the command line works too
#   tools/bootstrap.sh test ...   ... and run the tests
# Needs Python 3.10 or newer, git and a C++17 compiler. Compiling llama-cpp-python takes minutes, once.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${EDGEMOE_VENV:-$root/.venv}
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  say "edgemoe needs Python 3.10 or newer; $("$python" --version 2>&1) is too old (set PYTHON to another one)"
  exit 2
}
command -v "${CXX:-c++}" >/dev/null 2>&1 || {
  say "edgemoe needs a C++17 compiler: install g++ or clang, or set CXX"
  exit 2
}

if [ ! -x "$venv/bin/pip" ]; then
  say "making the environment $venv"
  # Debian's Python may lack ensurepip: then pip's own wheel, which can run from the archive, installs itself.
  "$python" -m venv "$venv" >/dev/null 2>&1 || {
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
    "$venv/bin/python" "$root/tools/ci/get_pip.py"
  }
fi

# The native module needs Python's headers, which Debian keeps in a package of their own. Without root, the package is
# unpacked into the environment.
headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [ ! -f "$headers/Python.h" ]; then
  name=$("$venv/bin/python" -c 'import sys; print("libpython%d.%d-dev" % sys.version_info[:2])')
  command -v apt-get >/dev/null 2>&1 || {
    say "Python's headers are missing ($headers/Python.h): install your system's package for them, such as python3-devel"
    exit 2
  }
  unpacked="$venv/headers"
  if [ ! -d "$unpacked" ]; then
    say "unpacking Python's headers from the package $name"
    mkdir -p "$unpacked"
    (cd "$unpacked" && { apt-get download -qq "$name" || { apt-get update -qq && apt-get download -qq "$name"; }; } &&
      dpkg-deb -x ./*.deb . && rm -f ./*.deb) || {
      rm -rf "$unpacked"
      say "cannot get the package $name: install it by hand"
      exit 2
    }
  fi
  found=$(dirname "$(find "$unpacked/usr/include" -name Python.h | head -n 1)")
  CPATH="$found:$unpacked/usr/include${CPATH:+:$CPATH}"
  CMAKE_ARGS="-DPython_INCLUDE_DIR=$found ${CMAKE_ARGS:-}"
  export CPATH CMAKE_ARGS
fi

# Installed again whenever a source changes; llama-cpp-python stays as it is once it has been compiled.
sources=$(cd "$root" && find edgemoe native models CMakeLists.txt pyproject.toml -type f ! -name '*.pyc' ! -name '*.so' \
  -exec cksum {} + | sort | cksum)
extra=""
[ "${1:-}" = test ] && extra="[test]"
stamp="$venv/.edgemoe$extra"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$sources" ]; then
  say "installing edgemoe (compiling llama-cpp-python takes some minutes the first time)"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$root$extra"
  printf '%s\n' "$sources" >"$stamp"
fi

case "${1:-}" in
  "") say "installed: $venv/bin/edgemoe" ;;
  test)
    shift
    # Not from the root, where programs that the tests start would import the sources and not what was installed.
    cd "$venv"
    exec "$venv/bin/pytest" -c "$root/pyproject.toml" --rootdir "$root" "$root/tests" "$@"
    ;;
  *) exec "$venv/bin/edgemoe" "$@" ;;
esac
