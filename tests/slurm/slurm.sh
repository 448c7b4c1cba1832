#!/usr/bin/env bash
# A real Slurm on this machine, on loopback: munge, MariaDB, slurmdbd, slurmctld and two slurmd (n1, n2), as root.
#
#   slurm.sh install      install Debian's packages where they are missing
#   slurm.sh up DIR       start everything below DIR; returns when both nodes are idle
#   slurm.sh down DIR     end what `up` started and remove what it made outside of DIR
#
# Both nodes are slurmd processes of this machine with two cores each. Where a memory cgroup can be made, jobs are
# held to their memory by the kernel and accounted by it (DIR/gather says `cgroup`); elsewhere Slurm polls (`linux`).
# `up` refuses where /etc/slurm has a configuration that is not its own.
set -euo pipefail

packages=(slurm-wlm slurmdbd mariadb-server munge)
programs=(slurmctld slurmd slurmdbd mariadbd munged sbatch sacct)

installed() { command -v "${programs[@]}" >/dev/null; }

install_packages() {
  installed && return
  command -v apt-get >/dev/null || { echo "needs Debian's packages ${packages[*]}: there is no apt-get" >&2; exit 1; }
  # Nothing of it may start by itself: an init system, where there is one, is told so.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.runmem
  local policy=
  [[ -e /usr/sbin/policy-rc.d ]] || { mv /usr/sbin/policy-rc.d.runmem /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; policy=ours; }
  apt-get update -qq >/dev/null &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  rm -f /usr/sbin/policy-rc.d.runmem
  [[ -z $policy ]] || rm -f /usr/sbin/policy-rc.d
  installed
}

# until_true SECONDS COMMAND...: wait for a command to succeed.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "slurm.sh: gave up waiting for: $*" >&2; return 1; }
    sleep 0.2
  done
}

lives() { # lives PID: a process that has ended and was not collected by its parent does not
  grep -q '^State:[[:space:]]*[^[:space:]ZX]' "/proc/$1/status" 2>/dev/null
}

end() { # end PIDFILE: end a process that `up` started and wait for it
  local pid
  [[ -s $1 ]] || return 0
  pid=$(<"$1")
  kill "$pid" 2>/dev/null || true
  for _ in {1..100}; do lives "$pid" || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}

configure() {
  local host gather=linux plugins version=v2
  host=$(hostname -s)
  # v1 as a mount of its own; of v2 Slurm 22.05 also wants a delegated systemd scope, which a container has not.
  if [[ -f /sys/fs/cgroup/memory/memory.limit_in_bytes ]] && mkdir -p /sys/fs/cgroup/memory/runmem-probe 2>/dev/null; then
    rmdir /sys/fs/cgroup/memory/runmem-probe
    gather=cgroup version=v1
  fi
  echo "$gather" >"$dir/gather"
  if [[ $gather == cgroup ]]; then
    plugins=$'ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\nJobAcctGatherType=jobacct_gather/cgroup'
  else
    plugins=$'ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/linux'
  fi
  cat >"$dir/slurm.conf" <<CONF
ClusterName=runmemtest
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
$plugins
JobAcctGatherFrequency=task=1
KillWait=30
MinJobAge=600
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
MessageTimeout=30
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 CoresPerSocket=2 RealMemory=8000 Feature=old
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 CoresPerSocket=2 RealMemory=8000 Feature=new
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=60:00 State=UP DefMemPerCPU=500
PartitionName=closed Nodes=n1,n2 MaxTime=60:00 State=INACTIVE
CONF
  cat >"$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile=$dir/slurmdbd.log
PidFile=$dir/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
  cat >"$dir/cgroup.conf" <<CONF
CgroupPlugin=cgroup/$version
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
AllowedRAMSpace=100
CONF
}

start_munge() {
  munge -n >/dev/null 2>&1 && return
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /var/lib/munge /var/log/munge
  [[ -s /etc/munge/munge.key ]] || { mungekey -c && chown munge:munge /etc/munge/munge.key; }
  setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
  until_true 10 munge -n
  cp /run/munge/munged.pid "$dir/munged.pid"
}

start_database() {
  local socket=$dir/mysql/m.sock
  mkdir -p "$dir"/mysql{,.tmp} && chown mysql:mysql "$dir"/mysql{,.tmp}
  local -x TMPDIR=$dir/mysql.tmp # /tmp may be closed, or be closed later, to the user that the database runs as
  mariadb-install-db --no-defaults --user=mysql --datadir="$dir/mysql" --auth-root-authentication-method=normal \
    --skip-test-db >"$dir/mysql_install.log" 2>&1
  setsid mariadbd --no-defaults --user=mysql --datadir="$dir/mysql" --socket="$socket" --port=13306 \
    --bind-address=127.0.0.1 --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --skip-log-bin >"$dir/mysql.log" 2>&1 </dev/null &
  echo $! >"$dir/mariadb.pid"
  until_true 60 mariadb-admin -S "$socket" ping
  mariadb -S "$socket" -e "create database slurm_acct_db;
    create user 'slurm'@'127.0.0.1' identified by 'slurm'; create user 'slurm'@'localhost' identified by 'slurm';
    grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'; grant all on slurm_acct_db.* to 'slurm'@'localhost'"
}

both_idle() { [[ $(sinfo -h -N -p debug -t idle -o %N | sort -u | wc -l) -eq 2 ]]; }

up() {
  for file in slurm.conf cgroup.conf slurmdbd.conf; do
    if [[ -e /etc/slurm/$file && ! -L /etc/slurm/$file ]]; then
      echo "slurm.sh: /etc/slurm/$file is there and not mine: this machine has a Slurm of its own" >&2
      exit 1
    fi
  done
  if [[ -L /etc/slurm/slurm.conf ]] && scontrol ping 2>/dev/null | grep -q UP; then
    echo "slurm.sh: the one of $(dirname "$(readlink /etc/slurm/slurm.conf)") is running" >&2
    exit 1
  fi
  rm -rf "$dir"/{state,spool.n1,spool.n2,mysql,mysql.tmp}
  mkdir -p "$dir"/{state,spool.n1,spool.n2} /etc/slurm
  chmod 755 "$dir"
  if ! setpriv --reuid=mysql --regid=mysql --clear-groups test -x "$dir"; then
    echo "slurm.sh: $dir is closed to the users that the daemons run as; give a folder below /var/tmp" >&2
    exit 1
  fi
  configure
  chmod 600 "$dir/slurmdbd.conf"
  for file in slurm.conf cgroup.conf slurmdbd.conf; do ln -sfn "$dir/$file" "/etc/slurm/$file"; done
  start_munge
  start_database
  slurmdbd
  until_true 60 sacctmgr -n list cluster
  sacctmgr -i add cluster runmemtest >/dev/null 2>&1 || true
  sacctmgr -i add account main Cluster=runmemtest >/dev/null 2>&1 || true
  sacctmgr -i add user root Account=main >/dev/null 2>&1 || true
  slurmctld
  until_true 30 bash -c 'scontrol ping | grep -q UP'
  slurmd -N n1
  slurmd -N n2
  until_true 60 both_idle
}

down() {
  if [[ -S $dir/mysql/m.sock && -s $dir/slurmctld.pid ]]; then
    timeout 20 scancel -u "$(id -un)" >/dev/null 2>&1 || true
    until_true 15 bash -c '[[ -z $(squeue -h) ]]' || true
  fi
  for name in slurmd.n1 slurmd.n2 slurmctld slurmdbd mariadb munged; do end "$dir/$name.pid"; done
  for file in slurm.conf cgroup.conf slurmdbd.conf; do
    [[ $(readlink "/etc/slurm/$file" 2>/dev/null) != "$dir/$file" ]] || rm -f "/etc/slurm/$file"
  done
  # The groups that slurmd made: named after its nodes where several share a machine.
  for group in /sys/fs/cgroup/*/slurm_n1 /sys/fs/cgroup/*/slurm_n2; do
    [[ -d $group ]] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

action=${1:-}
case $action in
  install) install_packages ;;
  up | down)
    dir=$(mkdir -p "${2:?DIR}" && cd "$2" && pwd)
    "$action"
    ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
