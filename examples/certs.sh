#!/usr/bin/env bash
# Makes the throw-away certificates that the examples name: an authority, and a key pair for localhost and the host
# names in the examples. Keeps what is there already.
set -euo pipefail
certs="$(cd "$(dirname "$0")" && pwd)/certs"
mkdir -p "$certs"
if [ -f "$certs/gateway.pem" ]; then
    echo "there already: $certs"
    exit 0
fi
umask 077

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -keyout "$certs/ca.key" -out "$certs/ca.pem" -subj "/CN=shoal examples" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout "$certs/gateway.key" -out "$certs/gateway.csr" -subj "/CN=localhost" 2>/dev/null
openssl x509 -req -in "$certs/gateway.csr" -CA "$certs/ca.pem" -CAkey "$certs/ca.key" -CAcreateserial -days 90 \
    -out "$certs/gateway.crt" -extfile <(
        printf 'subjectAltName=DNS:localhost,DNS:*.localhost,DNS:shop.example.com,IP:127.0.0.1,IP:::1\n'
        printf 'extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n'
    ) 2>/dev/null
# The chain as it is sent: the certificate, then who signed it.
cat "$certs/gateway.crt" "$certs/ca.pem" >"$certs/gateway.pem"
rm "$certs/gateway.crt" "$certs/gateway.csr" "$certs/ca.srl"
echo "made: $certs (trust $certs/ca.pem, for instance with curl --cacert)"
