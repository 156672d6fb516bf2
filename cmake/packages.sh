# cmake/packages.sh - what cmake/run and .ci/run share: messages, packages, compilers, job counts.
# To be sourced by bash.

say() { printf '==> %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# How many compilers to run at once: one a processor, and 1.5 GiB of free memory for each.
job_count() {
  if [ -n "${IOPT_JOBS:-}" ]; then
    echo "$IOPT_JOBS"
    return
  fi
  local processors free_kib fit
  processors=$(nproc 2>/dev/null || echo 1)
  free_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null || true)
  fit=$((${free_kib:-3145728} / 1572864))
  [ "$fit" -ge 1 ] || fit=1
  echo $((processors < fit ? processors : fit))
}

# install_packages NAME...: by apt-get. The network is used only here.
install_packages() {
  local names="$*" log as_root=()
  command -v apt-get >/dev/null || die "missing: $names (and no apt-get here to install them)"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing: $names (install them as root, then run this again)"
    as_root=(sudo)
  fi
  say "installing $names"
  log=$(mktemp)
  local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q)
  local install=("${get[@]}" install --no-install-recommends "$@")
  # The lists at hand may do; where they are absent or old, fetch them and try once more.
  if ! "${install[@]}" </dev/null >"$log" 2>&1; then
    if ! { "${get[@]}" update && "${install[@]}"; } </dev/null >>"$log" 2>&1; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      die "could not install: $names"
    fi
  fi
  rm -f "$log"
}

have_command() { command -v "$1" >/dev/null; }
# have_header HEADER...: whether the compiler finds one of them.
have_header() {
  local header
  for header in "$@"; do
    if printf '#include <%s>\n' "$header" |
      "$compiler" "${cross_flags[@]}" -std=c++17 -x c++ -M - >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

# The package that a compiler comes in, by Debian's names.
package_of_compiler() {
  case "${1##*/}" in
    clang++ | clang++-*) echo "clang${1##*clang++}" ;;
    g++ | g++-*) echo "${1##*/}" ;;
    *-linux-gnu*-g++) echo "g++-$(basename "$1" -g++)" ;;
    *) have_command "$1" || die "no such compiler: $1" ;;
  esac
}

# choose_compiler: sets `compiler` from IOPT_CXX, and says why not where it is too old.
choose_compiler() {
  compiler=${IOPT_CXX:-g++}
  local version major minor rest package
  if ! have_command "$compiler"; then
    package=$(package_of_compiler "$compiler") || exit 1
    install_packages "$package"
    have_command "$compiler" || die "no such compiler: $compiler"
  fi
  if "$compiler" --version | grep -qi clang; then
    version=$("$compiler" -dumpversion)
    [ "${version%%.*}" -ge 19 ] ||
      die "$compiler is Clang $version; Clang 19 or GCC 12.2 is needed (IOPT_CXX chooses)"
  else
    version=$("$compiler" -dumpfullversion)
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    [ "$major" -gt 12 ] || { [ "$major" -eq 12 ] && [ "$minor" -ge 2 ]; } ||
      die "$compiler is GCC $version; GCC 12.2 or Clang 19 is needed (IOPT_CXX chooses)"
  fi
}

# choose_emulator: where the compiler is for another processor than this one, sets `emulator` to
# what runs its programs. They are linked statically, so that it needs no libraries of theirs; what
# is only headers (Catch2 2, Boost.ICL) they take from this system, after their own.
emulator='' cross_flags=()
choose_emulator() {
  local processor
  processor=$("$compiler" -dumpmachine)
  processor=${processor%%-*}
  [ "$processor" != "$(uname -m)" ] || return 0
  have_command "qemu-$processor" || install_packages qemu-user
  emulator=$(command -v "qemu-$processor") || die "nothing here runs programs for $processor"
  cross_flags=(-idirafter /usr/include)
}

# need_build_tools: a compiler, CMake, and Ninja or make.
need_build_tools() {
  local missing=() package
  package=$(package_of_compiler "${IOPT_CXX:-g++}") || exit 1
  have_command "${IOPT_CXX:-g++}" || missing+=("$package")
  have_command cmake || missing+=(cmake)
  have_command ninja || have_command make || missing+=(ninja-build)
  [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
  choose_compiler
  choose_emulator
}
