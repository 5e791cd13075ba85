#!/usr/bin/env bash
# services.sh: the real servers that Linkspan's tests need, without Docker and without touching servers that run already.
#
#   services.sh list                 the names it knows
#   services.sh install [names...]   installs what is missing
#   services.sh up [names...]        installs, starts, waits until ready; again is harmless
#   services.sh env [names...]       `export LINKSPAN_TEST_...` lines of what runs
#   services.sh status               name, pid, port
#   services.sh down [--wipe]        stops what it started; --wipe removes the data too
#
# Programs are kept under ${LINKSPAN_CACHE:-~/.cache/linkspan}/tools; data, logs and pids under
# $LINKSPAN_SERVICES_DIR (default: linkspan-services-<user> in the temp folder). Everything listens on 127.0.0.1 only,
# on a free port chosen at the first start.
set -uo pipefail

CACHE=${LINKSPAN_CACHE:-$HOME/.cache/linkspan}
TOOLS=$CACHE/tools
ROOT=${LINKSPAN_SERVICES_DIR:-${TMPDIR:-/tmp}/linkspan-services-$(id -un)}
NAMES=(postgres s3 mariadb mysql)
PASSWORD='linkspan-Secret_1'
ACCESS_KEY=LINKSPANTESTKEY
SECRET_KEY='linkspan/Test+Secret/0123456789abcdef'
BUCKET=linkspan
S3S_VERSION=0.14.1

say() { printf '%s\n' "$*" >&2; }
die() { say "services.sh: $*"; exit 1; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
alive() { local pid; pid=$(cat "$ROOT/$1/pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
port_of() { cat "$ROOT/$1/port"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
# PostgreSQL refuses to run as root: as root its programs run as the account that the package made. Does not return.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid="$(id -gn postgres)" --init-groups "$@"; else exec "$@"; fi
}
own_postgres() { if [ "$(id -u)" = 0 ]; then chown -R postgres "$1"; fi; }

pick_port() { # pick_port <name>: a free one, the same at every start
  local file=$ROOT/$1/port port
  if [ ! -s "$file" ]; then
    while port=$((20000 + RANDOM % 12000)); answers "$port"; do :; done
    echo "$port" > "$file"
  fi
  cat "$file"
}

apt_install() { # apt_install <packages...>: without starting the system's own server
  local rc policy=/usr/sbin/policy-rc.d made=
  as_root true 2>/dev/null || die "root or sudo is needed to install: $*"
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
    made=1
  fi
  {
    if [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 2>/dev/null | head -n 1)" ]; then as_root apt-get update -qq; fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  } >> "$ROOT/install.log" 2>&1
  rc=$?
  if [ -n "$made" ]; then as_root rm -f "$policy"; fi
  [ $rc = 0 ] || die "apt-get install $* failed, see $ROOT/install.log"
}

# ---- PostgreSQL ----
postgres_bin() { find /usr/lib/postgresql -maxdepth 2 -name bin -type d 2>/dev/null | sort -V | tail -n 1; }
postgres_there() { [ -x "$(postgres_bin)/postgres" ] && command -v openssl > /dev/null; }
postgres_install() { postgres_there || apt_install postgresql openssl; }
postgres_start() {
  local dir=$ROOT/postgres bin port
  bin=$(postgres_bin)
  port=$(pick_port postgres)
  if [ ! -s "$dir/data/PG_VERSION" ]; then
    certificates
    echo "$PASSWORD" > "$dir/password"
    own_postgres "$dir"
    (as_postgres "$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --locale=C.UTF-8 -A scram-sha-256 --pwfile="$dir/password") \
      > "$dir/initdb.log" 2>&1 || die "initdb failed: $(tail -n 2 "$dir/initdb.log")"
    cp "$ROOT/certs/server.crt" "$ROOT/certs/server.key" "$dir/data/"
    chmod 600 "$dir/data/server.key"
    cat >> "$dir/data/postgresql.conf" << CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir'
wal_level = logical
max_connections = 300
shared_buffers = 128MB
max_wal_size = 2GB
# The tests kill Linkspan, not this server.
fsync = off
full_page_writes = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
timezone = 'UTC'
CONF
    own_postgres "$dir"
  fi
  launch postgres as_postgres "$bin/postgres" -D "$dir/data" -p "$port"
}
postgres_ready() {
  PGPASSWORD="$PASSWORD" PGCONNECT_TIMEOUT=2 psql -qAtX -h 127.0.0.1 -p "$(port_of postgres)" -U postgres -d postgres -c 'SELECT 1' \
    > /dev/null 2>&1
}
postgres_env() {
  echo "export LINKSPAN_TEST_POSTGRES_URL='postgresql://postgres:$PASSWORD@127.0.0.1:$(port_of postgres)/postgres'"
  echo "export LINKSPAN_TEST_POSTGRES_CA='$ROOT/certs/ca.crt'"
}
certificates() {
  local dir=$ROOT/certs
  [ -s "$dir/server.crt" ] && return
  mkdir -p "$dir"
  (
    cd "$dir" || exit 1
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=linkspan test CA' -keyout ca.key -out ca.crt
    openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > extensions
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile extensions -out server.crt
  ) >> "$ROOT/install.log" 2>&1 || die "the test certificates could not be made, see $ROOT/install.log"
  chmod 644 "$dir"/*.crt
}

# ---- S3: s3s-fs, which checks signatures and conditional writes ----
s3_install() {
  [ -x "$TOOLS/bin/s3s-fs" ] && return
  # The debug profile builds in half the time and is fast enough for tests.
  CARGO_TARGET_DIR=$TOOLS/build cargo install --quiet --debug --locked --root "$TOOLS" --version "$S3S_VERSION" --features binary s3s-fs \
    >> "$ROOT/install.log" 2>&1 || die "cargo install s3s-fs failed, see $ROOT/install.log"
  rm -rf "$TOOLS/build"
}
s3_start() {
  mkdir -p "$ROOT/s3/data/$BUCKET"
  launch s3 "$TOOLS/bin/s3s-fs" --host 127.0.0.1 --port "$(pick_port s3)" --access-key "$ACCESS_KEY" --secret-key "$SECRET_KEY" "$ROOT/s3/data"
}
s3_ready() { answers "$(port_of s3)"; }
s3_env() {
  echo "export LINKSPAN_TEST_S3_URL='http://127.0.0.1:$(port_of s3)'"
  echo "export LINKSPAN_TEST_S3_ACCESS_KEY='$ACCESS_KEY'"
  echo "export LINKSPAN_TEST_S3_SECRET_KEY='$SECRET_KEY'"
  echo "export LINKSPAN_TEST_S3_BUCKET='$BUCKET'"
}

# ---- MariaDB: Debian's ----
# It refuses to run as root: as root it runs as the account that its package made.
as_mysql() { if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=mysql --regid="$(id -gn mysql)" --init-groups "$@"; else exec "$@"; fi; }
own_mysql() { if [ "$(id -u)" = 0 ]; then chown -R mysql "$1"; fi; }
mysql_login() { # mysql_login <folder>: the statements that make the tests' login and database at the first start
  cat > "$1/init.sql" << SQL
CREATE USER IF NOT EXISTS 'linkspan'@'%' IDENTIFIED BY '$PASSWORD';
GRANT ALL PRIVILEGES ON *.* TO 'linkspan'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;
SQL
}

mariadb_install() { [ -x /usr/sbin/mariadbd ] || apt_install mariadb-server mariadb-client; }
mariadb_start() {
  local dir=$ROOT/mariadb port
  port=$(pick_port mariadb)
  certificates
  cp "$ROOT"/certs/{ca.crt,server.crt,server.key} "$dir/"
  mysql_login "$dir"
  mkdir -p "$dir/data"
  own_mysql "$dir"
  if [ ! -d "$dir/data/mysql" ]; then
    (as_mysql mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal --skip-test-db) \
      > "$dir/install.log" 2>&1 || die "mariadb-install-db failed: $(tail -n 2 "$dir/install.log")"
  fi
  # The tests kill Linkspan, not this server.
  launch mariadb as_mysql /usr/sbin/mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/sock" --pid-file="$dir/server.pid" \
    --bind-address=127.0.0.1 --port="$port" --skip-name-resolve --init-file="$dir/init.sql" --character-set-server=utf8mb4 \
    --ssl-ca="$dir/ca.crt" --ssl-cert="$dir/server.crt" --ssl-key="$dir/server.key" --innodb-flush-log-at-trx-commit=0
}
mariadb_ready() { answers "$(port_of mariadb)" && grep -q 'ready for connections' "$ROOT/mariadb/log"; }
mariadb_env() {
  echo "export LINKSPAN_TEST_MARIADB_URL='mysql://linkspan:$PASSWORD@127.0.0.1:$(port_of mariadb)/test'"
  echo "export LINKSPAN_TEST_MARIADB_CA='$ROOT/certs/ca.crt'"
}

# ---- MySQL: Debian has it in sid only. Fetched by apt with lists of its own into a folder of its own, run by that folder's loader ----
SID=$TOOLS/sid
mysql_install() {
  [ -e "$SID/complete" ] && return
  local own=$TOOLS/apt-sid mirror deb
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ')
  [ -n "$mirror" ] || die "MySQL comes from a Debian mirror, and this machine's apt names none"
  rm -rf "$SID"
  mkdir -p "$own"/{lists/partial,cache/archives/partial,etc/preferences.d,etc/apt.conf.d,state} "$SID"
  : > "$own/state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$own/etc/sources.list"
  cat > "$own/apt.conf" << CONF
Dir::State "$own/state"; Dir::State::lists "$own/lists"; Dir::State::status "$own/state/status"; Dir::Cache "$own/cache";
Dir::Etc "$own/etc"; Dir::Etc::sourcelist "$own/etc/sources.list"; Dir::Etc::sourceparts "-"; APT::Architecture "amd64";
Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; APT::Sandbox::User "root";
CONF
  {
    APT_CONFIG=$own/apt.conf apt-get update -qq &&
      APT_CONFIG=$own/apt.conf apt-get install -y -qq --no-install-recommends --download-only mysql-server-core
  } >> "$ROOT/install.log" 2>&1 || die "MySQL could not be fetched, see $ROOT/install.log"
  for deb in "$own"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$SID" || die "$deb cannot be unpacked"; done
  rm -rf "$own"
  chmod 755 "$SID"
  touch "$SID/complete"
}
mysql_start() {
  local dir=$ROOT/mysql port
  local lib=$SID/usr/lib/x86_64-linux-gnu
  local server=("$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$SID/usr/sbin/mysqld" --no-defaults --basedir="$SID/usr"
    --lc-messages-dir="$SID/usr/share/mysql" --plugin-dir="$SID/usr/lib/mysql/plugin" --datadir="$dir/data"
    --secure-file-priv= --user="$(id -un)")
  port=$(pick_port mysql)
  mysql_login "$dir"
  # Its program is below the home of whoever runs this, where no other account may go: it runs as that person, root or not.
  if [ ! -d "$dir/data/mysql" ]; then
    ("${server[@]}" --initialize-insecure) > "$dir/install.log" 2>&1 || die "mysqld --initialize failed: $(tail -n 2 "$dir/install.log")"
  fi
  launch mysql "${server[@]}" --socket="$dir/sock" --pid-file="$dir/server.pid" --bind-address=127.0.0.1 --port="$port" --mysqlx=OFF \
    --skip-name-resolve --init-file="$dir/init.sql" --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 --performance-schema=OFF
}
mysql_ready() { answers "$(port_of mysql)" && grep -q 'ready for connections' "$ROOT/mysql/log"; }
mysql_env() { echo "export LINKSPAN_TEST_MYSQL_URL='mysql://linkspan:$PASSWORD@127.0.0.1:$(port_of mysql)/test'"; }

# ---- verbs ----
launch() { # launch <name> command...: in the background, with log and pid; the command must exec, so that the pid is the server's
  local dir=$ROOT/$1
  shift
  "$@" >> "$dir/log" 2>&1 < /dev/null &
  echo $! > "$dir/pid"
}
up() {
  local name=$1 tries=0
  mkdir -p "$ROOT/$name"
  "${name}_install"
  if ! alive "$name"; then "${name}_start"; fi
  until "${name}_ready"; do
    alive "$name" || die "$name ended: $(tail -n 3 "$ROOT/$name/log")"
    [ $((tries += 1)) -lt 300 ] || die "$name is not ready after 60 s, see $ROOT/$name/log"
    sleep 0.2
  done
  say "$name is up on 127.0.0.1:$(port_of "$name")"
}
down() {
  local name=$1 pid
  alive "$name" || return 0
  pid=$(cat "$ROOT/$name/pid")
  # PostgreSQL's fast shutdown is SIGINT; the S3 server knows it too. MariaDB and MySQL stop at SIGTERM only.
  case $name in mariadb | mysql) kill -TERM "$pid" ;; *) kill -INT "$pid" ;; esac
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null
  rm -f "$ROOT/$name/pid"
}

verb=${1:-list}
shift || true
wipe=
if [ "${1:-}" = --wipe ]; then wipe=1; shift; fi
if [ $# -gt 0 ]; then chosen=("$@"); else chosen=("${NAMES[@]}"); fi
for name in "${chosen[@]}"; do
  case " ${NAMES[*]} " in *" $name "*) ;; *) die "no such server: $name (there are: ${NAMES[*]})" ;; esac
done
mkdir -p "$ROOT" "$TOOLS"
chmod 755 "$ROOT"

case $verb in
  list) printf '%s\n' "${NAMES[@]}" ;;
  install) for name in "${chosen[@]}"; do "${name}_install"; done ;;
  up) for name in "${chosen[@]}"; do up "$name"; done ;;
  env) for name in "${chosen[@]}"; do if alive "$name"; then "${name}_env"; fi; done ;;
  status)
    for name in "${chosen[@]}"; do
      if alive "$name"; then echo "$name pid $(cat "$ROOT/$name/pid") port $(port_of "$name")"; else echo "$name is down"; fi
    done
    ;;
  down)
    for name in "${chosen[@]}"; do down "$name"; done
    if [ -n "$wipe" ]; then rm -rf "$ROOT"; fi
    ;;
  *) die "unknown verb $verb: list, install, up, env, status or down" ;;
esac
