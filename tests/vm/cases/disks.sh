# root: number=$(cat /sys/block/vda/dev)
# root: much="wbps=100000000 rseqiops=100000 rrandiops=100000 wseqiops=100000 wrandiops=100000"
# root: echo "$number ctrl=user model=linear rbps=8388608 $much" >/sys/fs/cgroup/io.cost.model
# root: echo "$number enable=1 ctrl=user rpct=0 wpct=0 min=100 max=100" >/sys/fs/cgroup/io.cost.qos
# The limits of disks are seen acting, on what goes past the page cache. Root has given the disk eight megabytes a second
# to be read, which shares are shares of.
group() { rl inspect -f '{{.State.CgroupPath}}' "$1"; }
on_disk() { rl run --network none -v "$PWD/files:/files" --rootfs bb "$@"; }
mkdir files
dd if=/dev/zero of=files/read bs=1M count=32 oflag=direct 2>/dev/null

# transfer OPTION… -- DD…: the milliseconds that it takes inside, the start of the container not among them.
transfer() {
    local options=() times
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    times=$(on_disk --rm "${options[@]}" \
        sh -c 'cat /proc/uptime && dd "$@" 2>/dev/null && cat /proc/uptime' dd "${@:2}")
    awk 'NR == 1 { begun = $1 } END { print int(($1 - begun) * 1000) }' <<<"$times"
}
# takes LEAST OPTION DD…: it takes so long with the option at least. Without, it is done in a quarter of that, as
# soon as the machine under the guest has time for it.
takes() {
    local least=$1 option=$2 held free
    shift 2
    held=$(transfer "$option" -- "$@")
    [ "$held" -ge $least ] || fail "$option: done in $held ms"
    in_a_quarter() { free=$(transfer -- "$@") && [ "$free" -le $((least / 4)) ]; }
    wait_for "no limit on $option" in_a_quarter "$@"
}
reading=(if=/files/read of=/dev/null iflag=direct) writing=(if=/dev/zero of=/files/written oflag=direct)
takes 2000 --device-read-bps=/dev/vda:1mb "${reading[@]}" bs=1M count=4
takes 2000 --device-write-bps=/dev/vda:1mb "${writing[@]}" bs=1M count=4
takes 2000 --device-read-iops=/dev/vda:20 "${reading[@]}" bs=4k count=60
takes 2000 --device-write-iops=/dev/vda:20 "${writing[@]}" bs=4k count=60

# Shares: two read what they can.
for name in more=600 less=200; do
    on_disk -d --name ${name%=*} --blkio-weight ${name#*=} \
        sh -c 'while :; do dd if=/files/read of=/dev/null bs=128k iflag=direct 2>/dev/null; done' >/dev/null
done
got() { sed -n 's/^[0-9:]* rbytes=\([0-9]*\).*/\1/p' "$(group $1)/io.stat"; }
same "weights" "$(cat "$(group more)/io.weight" "$(group less)/io.weight" | tr '\n' ' ')" "default 5960 default 1920 "
both() { [ "$(got more)" -gt 1000000 ] && [ "$(got less)" -gt 1000000 ]; }
wait_for "both read" both
more=$(got more) less=$(got less)
sleep 5
more=$(($(got more) - more)) less=$(($(got less) - less))
[ $((more * 100 / less)) -gt 200 ] && [ $((more * 100 / less)) -lt 450 ] || fail "310 parts and 100 are $more and $less"
rl rm -f more less >/dev/null
