# systemd as a container's first process: it starts, is asked, and ends when it is told to.
mkdir -p root/{dev,etc,proc,root,run,sys,tmp,usr,var/log/journal}
for link in bin lib lib64 sbin; do ln -s "usr/$link" "root/$link"; done
printf 'root:x:0:0:root:/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n' >root/etc/passwd
printf 'root:x:0:\nmessagebus:x:101:\n' >root/etc/group
: >root/etc/machine-id
rl run -d --name sys --network none -v /usr:/usr:ro --rootfs root /usr/lib/systemd/systemd --log-target=console >/dev/null
inside() { rl exec sys "$@"; }
state() { inside systemctl is-system-running 2>&1 || true; }
up() { [[ $(state) == running || $(state) == degraded ]]; }
if ! wait_for "systemd" up; then rl logs sys; state; fi
same "the first process" "$(inside cat /proc/1/comm)" systemd
# Its services have groups of their own, below the container's.
has "its groups" "$(inside systemctl show -p ControlGroup systemd-journald.service)" /system.slice/systemd-journald.service
has "on the host" "$(ls "$(rl inspect -f '{{.State.CgroupPath}}' sys)"/root)" system.slice
check "a service" inside systemd-run --wait --quiet true
began=$SECONDS
rl stop -t 60 sys >/dev/null
[ $((SECONDS - began)) -lt 60 ] || fail "it did not end when told to"
same "its end" "$(rl inspect -f '{{.State.OOMKilled}} {{.State.Status}}' sys)" "false exited"
rl rm sys >/dev/null
same "its groups are gone" "$(find /sys/fs/cgroup -name 'rl-*.scope' | wc -l)" 0
