# The group of a container: where it lies, who is in it, what is left of it.
group() { rl inspect -f '{{.State.CgroupPath}}' "$1"; }
units() { systemctl --user list-units --all --plain --no-legend --no-pager 'rl*'; }
nothing_left() { [ -z "$(units)" ] && [ -z "$(find /sys/fs/cgroup -name 'rl*' -print -quit)" ]; }

# A scope in our slice, of the manager of a session that is not in it.
has "a login session" "$(cat /proc/self/cgroup)" session-
rl run -d --name a --network none --rootfs bb sleep 1000 >/dev/null
has "the group of a" "$(group a)" /user@1000.service/rl.slice/rl-
has "its scope" "$(units)" "rl container a"
same "where its first process is" "0::$(group a | sed 's,^/sys/fs/cgroup,,')/root" \
    "$(cat "/proc/$(rl inspect -f '{{.State.Pid}}' a)/cgroup")"
same "what it sees" "$(rl exec a cat /proc/self/cgroup)" 0::/
check "what it sees is the group" rl exec a test -e /sys/fs/cgroup/cgroup.procs
check "the monitor is beside" grep -q . "$(dirname "$(group a)")/monitor/cgroup.procs"
check "it divides its own group" rl exec a mkdir /sys/fs/cgroup/mine

# Further commands are in it, from another session too.
rl exec -d a sleep 777
wait_for "the second process" sh -c "[ \"\$(wc -l <'$(group a)/root/cgroup.procs')\" = 2 ]"

# Freezing: nothing moves, and nobody inside can tell.
rl pause a >/dev/null
has "frozen" "$(cat "$(group a)/cgroup.events")" "frozen 1"
same "state" "$(rl inspect -f '{{.State.Status}}' a)" paused
rl unpause a >/dev/null
has "thawed" "$(cat "$(group a)/cgroup.events")" "frozen 0"

# Two share the slice, which goes with the last.
rl run -d --name b --network none --rootfs bb sleep 1000 >/dev/null
rl rm -f a >/dev/null
check "b goes on" rl exec b true
rl rm -f b >/dev/null
wait_for "no unit and no group is left" nothing_left

# Neither after a monitor is killed.
rl run -d --name k --network none --rootfs bb sleep 1000 >/dev/null
kill -KILL "$(cat "$(dirname "$(group k)")/monitor/cgroup.procs")"
wait_for "the container has ended" sh -c 'rl ps -a --filter name=k --format "{{.State}}" | grep -q exited'
wait_for "no unit and no group is left" nothing_left
rl rm k >/dev/null

# What shares the machine's process ids ends with its first process.
rl run -d --name p --pid host --network none --rootfs bb sh -c 'sleep 987654 & sleep 987653' >/dev/null
wait_for "both run" sh -c 'pgrep -f "[s]leep 987654" && pgrep -f "[s]leep 987653"'
pkill -f '^sleep 987653'
wait_for "the one in the background has ended" sh -c '! pgrep -f "[s]leep 987654"'
rl rm -f p >/dev/null

# Found without a session's variables; by the bus, where the manager's own socket is not to be had.
plain() { env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS "$@"; }
same "as from cron" "$(plain rl run --rm --network none --memory 20m --rootfs bb cat /sys/fs/cgroup/memory.max)" 20971520
same "the driver" "$(rl info --format '{{.CgroupDriver}}')" systemd

# Where it is told to be.
other=$(rl run -d --cgroup-parent other.slice --network none --rootfs bb sleep 1000)
has "another slice" "$(group "$other")" /other.slice/rl-
rl rm -f "$other" >/dev/null
# What was made for it goes with it, at any depth; what somebody has configured, stays as it is.
slices() { systemctl --user list-units --all --plain --no-legend --no-pager 'other.slice' 'deep*' 'kept*'; }
gone() { [ -z "$(slices)" ]; }
wait_for "the other slice is gone" gone
rl run --rm --cgroup-parent deep-deeper.slice --network none --rootfs bb true
wait_for "the deep slices are gone" gone
systemctl --user set-property --runtime kept.slice MemoryMax=100M
rl run --rm --cgroup-parent kept.slice --network none --rootfs bb true
has "a slice with settings" "$(slices)" kept.slice
same "its settings" "$(systemctl --user show -p MemoryMax --value kept.slice)" 104857600
same "none" "$(rl run --rm --cgroups disabled --network none --rootfs bb cat /proc/self/cgroup)" 0::/
service() { systemd-run --user --quiet --pipe --wait -p Delegate=yes -E HOME="$HOME" -E PATH="$PATH" --same-dir "$@"; }
same "in a service" "$(service rl run --rm --network none --memory 20m --rootfs bb cat /sys/fs/cgroup/memory.max)" 20971520
same "below a service's" \
    "$(service rl run --rm --cgroups split --network none --memory 20m --rootfs bb cat /sys/fs/cgroup/memory.max)" 20971520
expect_fail 125 "systemd-run --user --scope -p Delegate=yes rl run" \
    rl run --rm --cgroups split --memory 20m --network none --rootfs bb true
same "in a scope made so" "$(systemd-run --user --quiet --scope -p Delegate=yes rl run --rm --cgroups split --memory 20m \
    --network none --rootfs bb cat /sys/fs/cgroup/memory.max)" 20971520
wait_for "no unit and no group is left" nothing_left
