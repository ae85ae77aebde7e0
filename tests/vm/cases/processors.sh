# processors: 2
# Which processors a container may use: at its start, for who joins it, changed while it runs, and after the next start.
allowed() { awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$(rl inspect -f '{{.State.Pid}}' "$1")/status"; }
run() { rl run --rm --network none --rootfs bb "$@"; }

same "this guest" "$(nproc)" 2
same "all" "$(run nproc)" 2
for list in 0 1 0-1; do
    same "of $list" "$(run --cpuset-cpus $list sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)" $list
done
rl run -d --name c --network none --cpuset-cpus 1 --rootfs bb sleep 1000 >/dev/null
same "one" "$(allowed c)" 1
same "who joins" "$(rl exec c nproc)" 1
rl update --cpuset-cpus 0 c >/dev/null
same "changed" "$(allowed c)" 0
rl stop -t 0 c >/dev/null
rl start c >/dev/null
same "started again" "$(allowed c)" 0
rl rm -f c >/dev/null
expect_fail 125 "--cpuset-cpus" run --cpuset-cpus 2 true

# One after the other, each as the slice of the last is about to go.
for n in {1..8}; do check "again, $n" run --memory 50m true; done
