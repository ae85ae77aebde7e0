# as: root
# Where logind is told to kill what a session leaves, containers in the background go on all the same: nothing of them
# is left in the session that started them.
cp -a bb /home/alice/bb
chown -R alice: /home/alice/bb
login() { as session "$@"; }
away() { ! loginctl list-sessions --no-legend | grep -qw alice; }

# logind(8) reads its configuration anew.
mkdir -p /etc/systemd/logind.conf.d
printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/kill.conf
systemctl kill -s HUP systemd-logind
kills() { busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses | grep -q true; }
wait_for "logind kills" kills
login sh -c 'setsid sleep 98765 >/dev/null 2>&1 & until pgrep -f "^sleep 98765"; do :; done' >/dev/null
wait_for "what alice left is gone" sh -c '! pgrep -f "^sleep 98765"'

# With all that is started beside a container: its network's helper, checks, further commands, the switch.
stay="--rootfs /home/alice/bb sleep 1000"
check "they start" login sh -euc "exec >/dev/null
    rl run -d --name pasta --network pasta -p 127.0.0.1:8081:80 --health-cmd true --health-interval 1s $stay
    rl run -d --name slirp --network slirp4netns -p 127.0.0.1:8082:80 $stay
    rl network create web
    rl run -d --name named --network web -p 127.0.0.1:8083:80 $stay
    rl run -d --name beside --network web $stay
    rl run -d --name again --network none --restart always --rootfs /home/alice/bb sh -c 'echo begun; sleep 2'
    rl run -d --name bare --network none --cgroups disabled $stay
    rl exec -d bare sleep 54321
    for name in pasta slirp named; do rl exec -d \$name httpd -f; done"
wait_for "alice has left" away
same "what of hers is left in a session" "$(grep -sl session- /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs -r ps -o user=,args= -p | grep ^alice || true)" ""
for port in 8081 8082 8083; do
    # There is no such file, says the server, which is an answer.
    has "port $port" "$(busybox wget -O- http://127.0.0.1:$port/ 2>&1 || true)" 404
done
check "they run" login sh -euc 'for n in pasta slirp named beside bare; do test "$(rl inspect -f "{{.State.Status}}" $n)" = running; done'
has "its neighbour" "$(login rl exec beside wget -O- http://named/ 2>&1 || true)" 404
healthy() { [ "$(login rl inspect -f '{{.State.Health.Status}}' pasta)" = healthy ]; }
wait_for "the checks go on" healthy
begun() { [ "$(login rl logs again | wc -l)" -gt 2 ]; }
wait_for "it is started again" begun
check "the further command goes on" pgrep -f '^sleep 54321'
has "without a group" "$(sed -n 's/^0:://p' "/proc/$(pgrep -f '^sleep 54321')/cgroup")" "/user@1000.service/rl.slice/rl-apart-"
check "removal" login sh -euc 'rl rm -f pasta slirp named beside again bare; rl network rm web'
