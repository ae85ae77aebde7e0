# systemd as a container's first process: it is known by its name, or said to be it; it starts, is asked, and ends when it
# is told to.
mkdir -p root/{dev,etc,proc,root,run,sys,tmp,usr,var/log/journal}
for link in bin lib lib64 sbin; do ln -s "usr/$link" "root/$link"; done
printf 'root:x:0:0:root:/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n' >root/etc/passwd
printf 'root:x:0:\nmessagebus:x:101:\n' >root/etc/group
: >root/etc/machine-id
mkdir -p root/etc/systemd/system.conf.d
printf '[Manager]\nLogTarget=console\n' >root/etc/systemd/system.conf.d/log.conf
printf '#!/bin/sh\nexec /usr/lib/systemd/systemd\n' >root/etc/boot
chmod +x root/etc/boot
tar -C root -c . | rl import --change 'CMD ["/sbin/init"]' - booted >/dev/null

run() { rl run -d --name sys --network none -v /usr:/usr:ro "$@" >/dev/null; }
inside() { rl exec sys "$@"; }
state() { inside systemctl is-system-running 2>&1 || true; }
up() { [[ $(state) == running || $(state) == degraded ]]; }
# ends: it is up, and halts when it is told to.
ends() {
    if ! wait_for "systemd" up; then rl logs sys; state; fi
    same "the first process" "$(inside cat /proc/1/comm)" systemd
    same "what it is told" "$(inside cat /run/systemd/container)" rl
    local began=$SECONDS
    rl stop -t 60 sys >/dev/null
    [ $((SECONDS - began)) -lt 60 ] || fail "it did not end when told to"
    same "its end" "$(rl inspect -f '{{.State.OOMKilled}} {{.State.Status}}' sys)" "false exited"
    rl rm sys >/dev/null
}

# An image whose command it is.
run booted
if ! wait_for "systemd" up; then rl logs sys; state; fi
# Its services have groups of their own, below the container's.
has "its groups" "$(inside systemctl show -p ControlGroup systemd-journald.service)" /system.slice/systemd-journald.service
has "on the host" "$(ls "$(rl inspect -f '{{.State.CgroupPath}}' sys)"/root)" system.slice
check "a service" inside systemd-run --wait --quiet true
ends

# A script that becomes systemd has to be told of. What forgets is not there for who is not.
run --systemd=always booted /etc/boot
ends
forgets() { rl run --rm --network none -v /usr:/usr:ro "$@" booted sh -c 'grep -c " /run tmpfs" /proc/mounts'; }
same "not by itself" "$(forgets || true)" 0
same "told" "$(forgets --systemd=always)" 1
same "told not to" "$(forgets --systemd=false || true)" 0
no_groups() { [ "$(find /sys/fs/cgroup -name 'rl-*.scope' | wc -l)" = 0 ]; }
wait_for "the end of its groups" no_groups
