# Sourced by scripts/run and scripts/test: makes $root/.venv once and keeps it up to date
# (or the folder in $venv, with the interpreter in $base, where a script sets both).
#
#   setup run     the project and its reports
#   setup test    the same and the tools of scripts/test
#   setup all     the same and what builds the site of docs/
#
# A stamp in .venv holds a checksum of what the set-up was made from. While it agrees, there is
# nothing to do and nothing is fetched. It is written last; an interrupted set-up starts afresh.

venv=${venv:-$root/.venv}
python=$venv/bin/python

say() { printf 'rdpjax: %s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 2
}

# The newest Python that the project is tested with, else whatever python3 is, if new enough.
find_python() {
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or newer with its venv module found (tried python3.13, python3.12," \
    "python3.11, python3, python); install one (on Debian and Ubuntu: python3 and python3-venv)" \
    "and run this again"
}

# Where an interpreter of a version is, if there is one: on the path, or kept by pyenv.
interpreter() {
  for candidate in "python$1" "$(pyenv root 2>/dev/null)/versions/$1".*/bin/python; do
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

stamp_of() { # the place of the checkout is part of it: the editable install points there
  { cat "$root/pyproject.toml" "$root/constraints.txt" && echo "$1 $root"; } | cksum
}

stamped() {
  [ -x "$python" ] && [ -f "$venv/.stamp-$1" ] && [ "$(cat "$venv/.stamp-$1")" = "$(stamp_of "$1")" ]
}

setup() {
  case $1 in # an extra, and the set-ups that hold all that it needs
    run) extra=report enough='all test run' ;;
    test) extra=test enough='all test' ;;
    all) extra=test,docs enough=all ;;
  esac
  for made in $enough; do
    if stamped "$made"; then return; fi
  done
  if [ -f "$venv/.unfinished" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
    base=${base:-$(find_python)} || exit
    say "set-up: making $venv with $base, $("$base" -c 'import sys; print(sys.version.split()[0])')"
    rm -rf "$venv" && mkdir "$venv" || die "cannot make $venv; is its folder writable?"
    : >"$venv/.unfinished"
    "$base" -m venv "$venv" || die "$base could not make $venv"
  fi
  rm -f "$venv"/.stamp-*
  : >"$venv/.unfinished"
  say "set-up: installing rdpjax[$extra] and what it needs; once, it may take some minutes"
  "$python" -m pip install --disable-pip-version-check --no-input \
    -c "$root/constraints.txt" -e "$root[$extra]" >"$venv/setup.log" 2>&1 || {
    tail -n 15 "$venv/setup.log" >&2
    die "the installation failed (all of it: $venv/setup.log); is there a network?"
  }
  stamp_of "$1" >"$venv/.stamp-$1"
  rm -f "$venv/.unfinished"
  say "set-up: done; this is not done again until pyproject.toml or constraints.txt changes"
}
