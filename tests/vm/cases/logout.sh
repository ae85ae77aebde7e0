# as: root
# A container in the background and the end of the login that started it: it stays where its user lingers, as alice does;
# otherwise it ends with the user's manager, and is there to be started again.
for user in alice bob; do
    cp -a bb "/home/$user/bb"
    chown -R "$user:" "/home/$user/bb"
done
login() { if [ "$1" = alice ]; then as session "${@:2}"; else as "$@"; fi; }
begin() { login "$1" rl run -d --name "$1" --network none --rootfs "/home/$1/bb" sleep 1000 >/dev/null; }
away() { ! loginctl list-sessions --no-legend | grep -qw "$1"; }
state() { login "$1" rl ps -a --filter "name=$1" --format '{{.State}}'; }
running() { pgrep -u "$1" -x rl; }

begin alice
wait_for "alice has left" away alice
same "hers" "$(state alice)" running
login alice rl rm -f alice >/dev/null

begin bob
wait_for "bob has left" away bob
stopped() { [ "$(systemctl is-active user@1001.service)" = inactive ]; }
wait_for "his manager's end" stopped
same "processes of his" "$(pgrep -u bob || true)" ""
has "his" "$(login bob rl ps -a)" Exited
has "what he is told" "$(login bob rl doctor 2>&1 || true)" "loginctl enable-linger bob"

loginctl enable-linger bob
login bob rl start bob >/dev/null
wait_for "bob has left again" away bob
check "his monitor goes on" running bob
same "his" "$(state bob)" running
login bob rl rm -f bob >/dev/null
