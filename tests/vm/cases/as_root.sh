# as: root
image
# Root's containers are asked for of the system's own manager.
same "a limit" "$(rl run --rm --network none --memory 20m bb cat /sys/fs/cgroup/memory.max)" 20971520
rl run -d --name a --network none bb sleep 1000 >/dev/null
has "its group" "$(rl inspect -f '{{.State.CgroupPath}}' a)" /rl.slice/rl-
check "it is not root's to write" rl exec a sh -c '! mkdir /sys/fs/cgroup/mine 2>/dev/null'
rl rm -f a >/dev/null
wait_for "no group is left" sh -c '[ -z "$(find /sys/fs/cgroup -name "rl*")" ]'

# A process is born in its group; moving one is what takes long.
strace -f -qq -e trace=clone3 -o trace rl run --rm --network none --memory 20m bb true
has "born in its group" "$(cat trace)" CLONE_INTO_CGROUP
# Where a process cannot be born in a group, it goes there before it does anything.
old() { strace -f -o /dev/null -e inject=clone3:error=ENOSYS rl "$@"; }
shown='cat /proc/self/cgroup /sys/fs/cgroup/memory.max'
same "without clone3" "$(old run --rm --network none --memory 20m bb sh -c "$shown" | tr '\n' ' ')" "0::/ 20971520 "
rl run -d --name b --network none bb sleep 1000 >/dev/null
same "a command in it" "$(old exec b sh -c "$shown" | tr '\n' ' ')" "0::/ max "
rl pause b >/dev/null && rl unpause b >/dev/null
rl rm -f b >/dev/null
