# as: bob
# A user whose manager has not been given all controllers: what it has is applied, what it lacks is an error with
# the line that mends it.
has "what doctor says" "$(rl doctor)" "no limits of"
same "tasks" "$(rl run --rm --network none --pids-limit 33 --rootfs bb cat /sys/fs/cgroup/pids.max)" 33
expect_fail 125 "the controller \`cpuset\` is not delegated" rl run --rm --network none --cpuset-cpus 0 --rootfs bb true
expect_fail 125 "delegate.conf" rl run --rm --network none --cpuset-cpus 0 --rootfs bb true
