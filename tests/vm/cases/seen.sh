# What holds is shown: limits in inspect, what is used in stats; and shares are seen where two want one processor.
group() { rl inspect -f '{{.State.CgroupPath}}' "$1"; }
config() { rl inspect -f "{{.HostConfig.$2}}" "$1"; }
file() { cat "$(group "$1")/$2"; }
busy='while :; do :; done'

# Three parts and one.
rl run -d --name more --network none --cpu-weight 300 --rootfs bb sh -c "$busy" >/dev/null
rl run -d --name less --network none --cpu-weight 100 --rootfs bb sh -c "$busy" >/dev/null
used() { sed -n 's/^usage_usec //p' "$(group "$1")/cpu.stat"; }
# What systemd does with its units in the meantime changes nothing.
systemctl --user daemon-reload
sleep 1
more=$(used more) less=$(used less)
sleep 6
ratio=$((($(used more) - more) * 100 / ($(used less) - less)))
[ $ratio -gt 200 ] && [ $ratio -lt 400 ] || fail "300 against 100 is $ratio against 100"

# Both wait for the processor, which is told.
pressed() { [ "$(rl stats --no-stream --format '{{.Pressure}}' less | cut -d. -f1)" -gt 5 ]; }
wait_for "pressure" pressed
rl rm -f more less >/dev/null

rl run -d --name all --network none --memory 64m --memory-swap 96m --memory-reservation 8m --cpus 0.5 --cpuset-cpus 0 \
    --cpuset-mems 0 --pids-limit 77 --blkio-weight 500 --device-read-bps /dev/vda:1mb --device-write-bps /dev/vda:2mb \
    --device-read-iops /dev/vda:100 --device-write-iops /dev/vda:200 --oom-score-adj 300 \
    --cgroup-conf memory.high=50331648 --cgroup-parent other.slice --rootfs bb sleep 1000 >/dev/null
has "disks" "$(file all io.max)" "rbps=1048576 wbps=2097152 riops=100 wiops=200"
same "nodes" "$(file all cpuset.mems.effective)" 0
same "nodes inside" "$(rl exec all grep Mems_allowed_list /proc/self/status | tr -d '\t')" Mems_allowed_list:0
for pair in Memory=67108864 MemorySwap=100663296 MemoryReservation=8388608 CpuQuota=50000 CpuPeriod=100000 CpusetCpus=0 \
    CpusetMems=0 PidsLimit=77 BlkioWeight=500 OomScoreAdj=300 CgroupParent=other.slice Cgroups=enabled; do
    same "${pair%=*}" "$(config all "${pair%=*}")" "${pair#*=}"
done
has "a disk" "$(config all BlkioDeviceWriteIOps)" Rate:200
has "a file" "$(config all CgroupConf)" memory.high:50331648

shown() { rl stats --no-stream --format "{{.$1}}" all; }
has "memory" "$(shown MemUsage)" "/ 64MiB"
same "tasks" "$(shown PIDs)" 1
for field in CPUPerc MemPerc; do has "$field" "$(shown $field)" %; done
for field in NetIO BlockIO; do has "$field" "$(shown $field)" " / "; done

# All of it changes while it runs, and is there after the next start.
rl update --memory 32m --memory-swap 48m --memory-reservation 4m --cpu-shares 2048 --cpuset-cpus 0 --cpuset-mems 0 \
    --cpus 0.4 --pids-limit 66 --blkio-weight 100 --device-read-bps /dev/vda:3mb --device-write-bps /dev/vda:4mb \
    --device-read-iops /dev/vda:300 --device-write-iops /dev/vda:400 all >/dev/null
for _ in 1 2; do
    same "memory" "$(file all memory.max) $(file all memory.swap.max) $(file all memory.low)" "33554432 16777216 4194304"
    same "the rest" "$(file all pids.max) $(file all cpu.weight) $(file all io.weight)" "66 79 default 910"
    has "disks" "$(file all io.max)" "rbps=3145728 wbps=4194304 riops=300 wiops=400"
    same "processors" "$(file all cpu.max) $(file all cpuset.cpus) $(file all cpuset.mems)" "40000 100000 0 0"
    same "what was not changed" "$(file all memory.high) $(rl exec all cat /proc/1/oom_score_adj)" "50331648 300"
    has "its slice" "$(group all)" /other.slice/rl-
    same "what it has beside others" "$(file all ../cpu.weight) $(file all ../io.weight) $(file all ../memory.low)" \
        "79 default 910 4194304"
    same "what is shown" "$(config all Memory) $(config all PidsLimit)" "33554432 66"
    rl kill all >/dev/null
    rl wait all >/dev/null
    rl start all >/dev/null
done
rl rm -f all >/dev/null
