# as: root
# limit: 280
# root: mkdir -p /etc/systemd/logind.conf.d && printf '[Login]\nUserStopDelaySec=1\n' >/etc/systemd/logind.conf.d/delay.conf
# root: systemctl kill -s HUP systemd-logind
# Wherever its user comes from, a container gets a scope of that user's own manager; without one, a group in a subtree
# that is the user's; without that, a limit is an error that says what to do.
for user in alice bob; do
    cp -a bb "/home/$user/bb"
    chown -R "$user:" "/home/$user/bb"
done
cat >/usr/local/bin/try <<'SH'
#!/bin/sh
# What limits a container, and where it has its group.
cd || exit
rl run -d --name try --network none --memory 20m --rootfs bb sleep 1000 >/dev/null || exit
rl exec try cat /sys/fs/cgroup/memory.max
group=$(rl inspect -f '{{.State.CgroupPath}}' try)
cat "$group/memory.max"
echo "${group%/rl-*}"
rl pause try >/dev/null && rl unpause try >/dev/null && rl kill try >/dev/null
rl rm -f try >/dev/null
SH
chmod 755 /usr/local/bin/try
# tries WHAT GROUP CMD…: the command executes `try`, whose container has its group there.
tries() { same "$1" "$("${@:3}" </dev/null | tr -s '\r\n' ' ')" "20971520 20971520 /sys/fs/cgroup/$2 "; }
slice=user.slice/user-1000.slice/user@1000.service/rl.slice
bobs=user.slice/user-1001.slice/user@1001.service/rl.slice
# Without a session, as cron has it.
bare() { systemd-run --quiet --wait --pipe --collect --uid "$1" -E HOME="/home/$1" -E LC_ALL=C.UTF-8 "${@:2}"; }
is_gone() { [ "$(systemctl is-active user@1001.service)" = inactive ]; }

tries "a login" $slice as session try
tries "a service of the user's" $slice as user try
tries "a scope of the user's" $slice as session systemd-run --user --scope --quiet --collect try
tries "a service of the system's" $slice bare alice try
tries "su" $slice su alice -c try
tries "su, as at a login" $slice su - alice -c try
tries "su of somebody else's" $slice as bob su alice -c try

ssh-keygen -q -t ed25519 -N '' -f key
for user in alice bob; do install -D -m 600 -o "$user" key.pub "/home/$user/.ssh/authorized_keys"; done
mkdir -p /run/sshd
/usr/sbin/sshd -p 2222 -o ListenAddress=127.0.0.1 -o PidFile="$PWD/sshd.pid"
wait_for "sshd" test -s sshd.pid
by_ssh() { ssh -q -i key -p 2222 -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="$PWD/known" "$@"; }
has "ssh's session" "$(by_ssh alice@127.0.0.1 cat /proc/self/cgroup)" /session-
tries "ssh" $slice by_ssh alice@127.0.0.1 try
tries "ssh with a terminal" $slice by_ssh -tt alice@127.0.0.1 try
tries "ssh of who does not linger" $bobs by_ssh bob@127.0.0.1 try
kill "$(cat sshd.pid)"

mkdir tabs
echo '* * * * * env >env; try >out 2>&1; touch done' >tabs/alice
# What is due each minute is due at once.
date -s "@$((($(date +%s) / 60 + 1) * 60 - 2))" >/dev/null
busybox crond -f -c "$PWD/tabs" & crond=$!
wait_for "cron" test -e /home/alice/done
kill $crond
check "cron knows of no session" sh -c '! grep -E "^(XDG_|DBUS_)" /home/alice/env'
tries "cron" $slice cat /home/alice/out

# A user without a manager.
wait_for "the end of bob's manager" is_gone
same "no limit" "$(bare bob rl run --rm --network none --rootfs /home/bob/bb echo done 2>&1)" done
expect_fail 125 "loginctl enable-linger bob" bare bob try
expect_fail 125 "the controller \`memory\`" bare bob try
limited() { bare bob rl run --rm --network none "$@" --rootfs /home/bob/bb true; }
expect_fail 125 "the controller \`cpuset\`" limited --cpuset-cpus 0
expect_fail 125 "/etc/systemd/system/user@.service.d/delegate.conf" limited --cpuset-cpus 0

# Given a subtree, which no systemd knows of.
own=/sys/fs/cgroup/own
mkdir -p $own/shell
echo '+cpu +cpuset +io +memory +pids' >$own/cgroup.subtree_control
for group in $own $own/shell; do chown bob $group $group/cgroup.{procs,threads,subtree_control}; done
# within GROUP CMD…: as bob.
within() {
    sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec setpriv --reuid bob --regid bob --init-groups env HOME=/home/bob "$@"' sh "$@"
}
tries "a subtree" own within $own/shell try
same "what is left there" "$(find $own -mindepth 1 -type d)" $own/shell
within $own/shell rl run -d --name k --network none --memory 20m --rootfs /home/bob/bb sleep 1000 >/dev/null
monitor=$(ps -o ppid= -p "$(bare bob rl inspect -f '{{.State.Pid}}' k)" | tr -d ' ')
has "its group" "$(cat "/proc/$monitor/cgroup")" /own/shell
kill -KILL "$monitor"
wait_for "its container's end" sh -c "! pgrep -u bob -f 'sleep 1000'"
within $own/shell rl rm -f k >/dev/null
same "what is left after a kill" "$(find $own -mindepth 1 -type d)" $own/shell
same "who is left" "$(pgrep -u bob || true)" ""
