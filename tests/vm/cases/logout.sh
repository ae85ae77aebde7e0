# as: root
# A container in the background and the end of the login that started it: it stays where its user lingers, as alice does;
# otherwise it ends with the user's manager, and is there to be started again. That it will is said, once. What a session
# leaves is killed by logind where it is told to: nothing of such a container is left in the session.
for user in alice bob; do
    cp -a bb "/home/$user/bb"
    chown -R "$user:" "/home/$user/bb"
done
login() { if [ "$1" = alice ]; then as session "${@:2}"; else as "$@"; fi; }
begin() { login "$1" rl run -d --name "$1" --network none --rootfs "/home/$1/bb" sleep 1000 2>&1 >/dev/null; }
away() { ! loginctl list-sessions --no-legend | grep -qw "$1"; }
state() { login "$1" rl ps -a --filter "name=$1" --format '{{.State}}'; }
running() { pgrep -u "$1" -x rl; }

same "what alice is told" "$(begin alice)" ""
wait_for "alice has left" away alice
same "hers" "$(state alice)" running
login alice rl rm -f alice >/dev/null

# logind(8) reads its configuration anew.
mkdir -p /etc/systemd/logind.conf.d
printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/kill.conf
systemctl kill -s HUP systemd-logind
kills() { busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses | grep -q true; }
wait_for "logind kills" kills
login alice sh -c 'setsid sleep 98765 >/dev/null 2>&1 & sleep 1' || true
wait_for "what alice left is gone" sh -c '! pgrep -f "[s]leep 98765"'

# With all that is started beside a container: its network's helper, checks, further commands, the switch.
stay="--rootfs /home/alice/bb sleep 1000"
login alice sh -euc "exec >/dev/null
    rl run -d --name pasta --network pasta -p 127.0.0.1:8081:80 --health-cmd true --health-interval 1s $stay
    rl run -d --name slirp --network slirp4netns -p 127.0.0.1:8082:80 $stay
    rl network create web
    rl run -d --name named --network web -p 127.0.0.1:8083:80 $stay
    rl run -d --name beside --network web $stay
    rl run -d --name again --network none --restart always --rootfs /home/alice/bb sh -c 'echo begun; sleep 2'
    rl run -d --name bare --network none --cgroups disabled $stay
    rl exec -d bare sleep 54321
    for name in pasta slirp named; do rl exec -d \$name httpd -f; done"
wait_for "alice has left" away alice
same "what of hers is left in a session" "$(grep -l session- /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs -r ps -o user=,args= -p | grep ^alice || true)" ""
for port in 8081 8082 8083; do
    # There is no such file, says the server, which is an answer.
    has "port $port" "$(busybox wget -O- http://127.0.0.1:$port/ 2>&1 || true)" 404
done
login alice sh -euc 'for n in pasta slirp named beside again bare; do test "$(rl inspect -f "{{.State.Status}}" $n)" = running; done'
has "its neighbour" "$(login alice rl exec beside wget -O- http://named/ 2>&1 || true)" 404
healthy() { [ "$(login alice rl inspect -f '{{.State.Health.Status}}' pasta)" = healthy ]; }
wait_for "the checks go on" healthy
begun() { [ "$(login alice rl logs again | wc -l)" -gt 2 ]; }
wait_for "it is started again" begun
check "the further command goes on" pgrep -f '^sleep 54321'
has "without a group" "$(sed -n 's/^0:://p' "/proc/$(pgrep -f '^sleep 54321')/cgroup")" "/user@1000.service/rl.slice/rl-apart-"
login alice sh -c 'rl rm -f pasta slirp named beside again bare; rl network rm web' >/dev/null

has "what bob is told" "$(begin bob)" "loginctl enable-linger bob"
wait_for "bob has left" away bob
stopped() { [ "$(systemctl is-active user@1001.service)" = inactive ]; }
wait_for "his manager's end" stopped
same "processes of his" "$(pgrep -u bob || true)" ""
has "his" "$(login bob rl ps -a)" Exited
has "what doctor says" "$(login bob rl doctor 2>&1 || true)" "loginctl enable-linger bob"
again='for _ in 1 2; do rl start bob; rl kill bob; rl wait bob; done 2>&1 >/dev/null'
same "once each time that he is there" "$(login bob sh -c "$again" | grep -c "enable-linger bob")" 1

loginctl enable-linger bob
same "what bob is told now" "$(login bob rl start bob 2>&1 >/dev/null)" ""
wait_for "bob has left again" away bob
check "his monitor goes on" running bob
same "his" "$(state bob)" running
login bob rl rm -f bob >/dev/null
