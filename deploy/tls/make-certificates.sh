#!/usr/bin/env bash
# Makes an authority of your own, and with it certificates for Milvus (server/) and for Outcrop (client/), as an example and for
# networks of your own. What is there stays: to renew, remove server/server.pem or client/client.pem and run it again.
#
#   ./make-certificates.sh [NAME…]     names and addresses that clients use for the server; milvus and localhost always
set -euo pipefail
umask 077
cd "$(dirname "$0")"
days=825
mkdir -p authority server client

if [ ! -e authority/ca.key ]; then
  openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -subj "/CN=Outcrop authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout authority/ca.key -out authority/ca.pem 2>/dev/null
  echo "made an authority: keep authority/ca.key away from every server"
fi

# FOLDER NAME SUBJECT EXTENSIONS: a key, and a certificate for it that the authority signs.
certificate() {
  [ ! -e "$1/$2.pem" ] || return 0
  openssl req -newkey rsa:3072 -nodes -sha256 -subj "/CN=$3" -keyout "$1/$2.key" -out "$1/$2.csr" 2>/dev/null
  openssl x509 -req -in "$1/$2.csr" -CA authority/ca.pem -CAkey authority/ca.key -CAcreateserial -sha256 -days "$days" \
    -extfile <(printf '%s\n' "basicConstraints=CA:FALSE" "$4") -out "$1/$2.pem" 2>/dev/null
  rm "$1/$2.csr"
  chmod 644 "$1/$2.pem"
  echo "made $1/$2.pem and $1/$2.key, for $days days"
}

names="DNS:milvus,DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$|: ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done
certificate server server milvus "extendedKeyUsage=serverAuth
subjectAltName=$names"
certificate client client outcrop "extendedKeyUsage=clientAuth"
for folder in server client; do
  cp authority/ca.pem "$folder/ca.pem"
  chmod 644 "$folder/ca.pem"
done
cat <<'NEXT'
Now in .env: TLS_MODE=2 (1: the server alone shows a certificate), OUTCROP_URI=https://milvus:19530,
OUTCROP_TLS_CA=/etc/outcrop/tls/ca.pem, and for mode 2 OUTCROP_TLS_CERT=/etc/outcrop/tls/client.pem and
OUTCROP_TLS_KEY=/etc/outcrop/tls/client.key. Then: docker compose up -d --wait
NEXT
