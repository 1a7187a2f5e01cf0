# 2026-10-10 18:35:03 by RouterOS 7.16
# software id = 
#
/interface bridge
add name=HOTSPOT comment="/user-manager user in a comment"
/user-manager limitation
add name="4 Jam" rate-limit-burst-rx=5000000B rate-limit-burst-threshold-rx=\
    2000000B rate-limit-burst-threshold-tx=2000000B rate-limit-burst-time-rx=\
    5s rate-limit-burst-time-tx=5s rate-limit-burst-tx=6000000B \
    rate-limit-min-rx=1000000B rate-limit-min-tx=1000000B \
    rate-limit-priority=1 rate-limit-rx=3000000B rate-limit-tx=4000000B \
    uptime-limit=4h
add download-limit=1000000000B name=Monthly reset-counters-interval=monthly \
    transfer-limit=2000000000B
add name=Slow rate-limit-rx=512000B rate-limit-tx=1000000B
add name=Fast rate-limit-rx=10000000B rate-limit-tx=20000000B
add download-limit=10000000000B name=Night upload-limit=10000000000B
/user-manager profile
add name="4 Jam" name-for-users="4 hours" price=200 starts-when=first-auth \
    validity=4w3d
add name="Soir\E9e" name-for-users="Soir\E9e" override-shared-users=3 \
    validity=1d
add name=Family name-for-users=Family override-shared-users=unlimited \
    starts-when=first-auth validity=unlimited
add name=Hours name-for-users=Hours starts-when=first-auth validity=unlimited
add name=Plain name-for-users=Plain starts-when=first-auth
/user-manager user group
add attributes=Mikrotik-Rate-Limit:1M/2M name=slow outer-auths=pap,chap
/user-manager user
add name=anna password="quo\"te \\ \$5 \C4\8D" shared-users=2
add disabled=yes name=bob password=secret
add name=carl password=secret shared-users=2
add name=nor8278 password=nor8278
add name=NOR9999 password=NOR9999
add caller-id=AA:BB:CC:00:11:22 name=dora password=secret
add attributes=Tunnel-Type:13,Tunnel-Medium-Type:6,Tunnel-Private-Group-ID:34,Framed-IP-Address:198.51.100.9,Reply-Message:hi \
    name=eve password=secret
add group=slow name=fay password=secret
add name=hidden
add name=otp otp-secret=NV4XG5LQMVZHGZLD password=secret
add name=nobody password=secret
/user-manager profile-limitation
add limitation="4 Jam" profile="4 Jam"
add from-time=23h limitation=Night profile="Soir\E9e" till-time=7h weekdays=\
    friday,saturday
add limitation=Monthly profile=Family
add from-time=8h limitation=Slow profile=Hours till-time=22h
add from-time=22h limitation=Fast profile=Hours till-time=8h
/user-manager router
add address=127.0.0.1 name=router1 shared-secret=secret
/user-manager user-profile
add profile="4 Jam" user=anna
add profile="Soir\E9e" user=bob
add profile="4 Jam" user=carl
add profile=Family user=carl
add profile="4 Jam" user=nor8278
add profile="4 Jam" user=NOR9999
add profile="4 Jam" user=dora
add profile=Plain user=eve
add profile=Plain user=fay
add profile=Plain user=hidden
add profile=Plain user=otp
