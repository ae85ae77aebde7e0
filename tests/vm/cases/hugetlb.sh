# as: root
# limit: 100
# Huge pages, whose controller systemd hands on to nobody: refused with the line that gives it, applied once that was done.
echo 8 >/proc/sys/vm/nr_hugepages
mkdir /mnt/huge
mount -t hugetlbfs -o pagesize=2M,mode=1777 huge /mnt/huge
chown -R alice: bb

# alice SCRIPT: in a login session, in this directory.
alice() { as session env -C "$PWD" bash -euc "$1"; }
limited="--network none --hugetlb 2MB=4m -v /mnt/huge:/huge --rootfs bb"

expect_fail 125 "the controller \`hugetlb\` is not delegated" alice "rl run --rm $limited true"
line=$(alice "rl run --rm $limited true" 2>&1 | sed -n 's/.*as root: \(.*\), where PID is .*/\1/p') || true
has "the line for root" "$line" "+hugetlb"

# A shell of alice's in the group, whose name is in the line; systemd is there all the same.
group=/sys/fs/cgroup/rl-1000
mkfifo ready
chown alice: ready .
echo 'echo $$ >ready; read -r _ <ready; . ./script' >begin
alice '. ./begin' >out 2>&1 & shell=$!
read -r pid <ready
sh -ec "${line/PID/$pid}"
cat >script <<SH
for size in 3MB 2MB=x 2=4m; do ! rl run --rm --network none --hugetlb \$size --rootfs bb true 2>/dev/null; done
rl run --rm $limited cat /sys/fs/cgroup/hugetlb.2MB.max
rl run -d --name h $limited sleep 1000 >/dev/null
rl exec h fallocate -l 4m /huge/fits
! rl exec h fallocate -l 6m /huge/more 2>/dev/null
echo \$(rl inspect -f '{{.HostConfig.HugepageLimits}}' h)
rl rm -f h >/dev/null

rl create --name later --memory 30m $limited sleep 1000 >/dev/null
for _ in 1 2; do
    rl start later >/dev/null
    top=\$(rl inspect -f '{{.State.CgroupPath}}' later)
    echo \$top \$(cat \$top/hugetlb.2MB.max \$top/hugetlb.2MB.rsvd.max \$top/memory.max)
    rl kill later >/dev/null
    rl wait later >/dev/null
done
SH
echo >ready
wait $shell || fail "$(cat out)"
id=$(as session rl inspect -f '{{.Id}}' later)
later="$group/rl-$id/container 4194304 4194304 31457280"
same "what the shell saw" "$(cat out)" "4194304
[map[Limit:4194304 PageSize:2MB]]
$later
$later"

# From elsewhere there is no such group: that is said, and not passed over.
expect_fail 1 "\`hugetlb\` is not delegated" alice "rl start later"
as session rl rm later >/dev/null
same "what is left" "$(find $group -mindepth 1 -type d)" $group/shell
