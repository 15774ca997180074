#!/bin/sh
# Writes secret.yaml beside this file (or where told): a self-signed certificate for shop.localhost. Needs openssl.
set -eu
out="${1:-$(dirname "$0")/secret.yaml}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=shop.localhost \
  -addext subjectAltName=DNS:shop.localhost -keyout "$folder/key" -out "$folder/crt" 2>"$folder/said" || {
  cat "$folder/said" >&2
  exit 1
}
umask 077
cat >"$out" <<SECRET
apiVersion: v1
kind: Secret
metadata: {name: shop-tls, namespace: shop}
type: kubernetes.io/tls
data:
  tls.crt: $(base64 -w0 <"$folder/crt")
  tls.key: $(base64 -w0 <"$folder/key")
SECRET
echo "$out"
