# Sourced by every case. It ends at the first check that fails, which says what was expected where, and what
# came instead. `rl` is the program under test; `bb` in the working directory is a root of busybox, which is the
# image `bb` as well once `image` has been called.

set -euo pipefail
trap 'echo "FAILED: ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR

# Ends the case.
fail() {
    local frame=0
    while [ "${BASH_SOURCE[frame]}" = "${BASH_SOURCE[0]}" ]; do frame=$((frame + 1)); done
    printf 'FAILED: %s:%s: %s\n' "${BASH_SOURCE[frame]##*/}" "${BASH_LINENO[frame - 1]}" "$*"
    exit 1
}

# check WHAT CMD…: the command succeeds.
check() {
    local what=$1 output
    shift
    output=$("$@" 2>&1) || fail "$what: \`$*\` ended with $?: $output"
}

# expect_fail STATUS TEXT CMD…: the command ends with this status, and says this.
expect_fail() {
    local expected=$1 text=$2 status=0 output
    shift 2
    output=$("$@" 2>&1) || status=$?
    [ "$status" = "$expected" ] || fail "\`$*\` ended with $status, not $expected: $output"
    [[ $output == *"$text"* ]] || fail "\`$*\` does not say \`$text\`: $output"
}

# same WHAT GOT EXPECTED
same() { [ "$2" = "$3" ] || fail "$1: \`$2\`, not \`$3\`"; }

# has WHAT TEXT PART: the text has this part.
has() { [[ $2 == *"$3"* ]] || fail "$1: no \`$3\` in: $2"; }

# wait_for WHAT CMD…: the command succeeds within a time that nothing needs, tried again and again.
wait_for() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited 60 s in vain for: $what (\`$*\`)"
        sleep 0.1
    done
}

# The image `bb`.
image() { rl inspect bb >/dev/null 2>&1 || tar -C bb -c . | rl import - bb >/dev/null; }

# How many processes there are of the program under test.
processes() { pgrep -c -x rl || true; }
