#!/bin/sh
# Writes test certificates into a folder: a CA with a server certificate and client certificates (one URI, two, none), and
# another CA with a server certificate of the same names and a client certificate of the same URI.
# Usage: certs.sh DIR
set -eu
cd "$1"

new_ca() { # name
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
    -keyout "$1.key" -out "$1.pem" 2>/dev/null
}

new_cert() { # name, subject alternative names, CA
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
    -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf 'subjectAltName=%s\n' "$2" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days 2 -extfile "$1.ext" \
    -out "$1.pem" 2>/dev/null
}

new_ca ca
new_ca other-ca
new_cert server "DNS:localhost,DNS:server.test" ca
new_cert other-server "DNS:localhost,DNS:server.test" other-ca
new_cert client "DNS:agent.test,URI:spiffe://test/agent" ca
new_cert two-names "URI:spiffe://test/one,URI:spiffe://test/two" ca
new_cert no-name "DNS:agent.test" ca
new_cert forged "URI:spiffe://test/agent" other-ca
