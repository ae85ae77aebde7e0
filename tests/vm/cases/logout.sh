# as: root
# root: mkdir -p /etc/systemd/logind.conf.d && printf '[Login]\nUserStopDelaySec=1\n' >/etc/systemd/logind.conf.d/delay.conf
# root: systemctl kill -s HUP systemd-logind
# A container in the background and the end of the login that started it: it stays where its user lingers, as alice does;
# otherwise it ends with the user's manager, and is there to be started again. That it will is said, once.
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
