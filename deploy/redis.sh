#!/bin/sh
# Starts the Redis of compose.yaml with the users of redis.acl. Each gets a password that is made here, and that is kept
# in memory only. A service finds its URL in a folder that no other service has.
set -eu

folder=/run/tailrace
users=/tmp/users.acl
cp /etc/tailrace/redis.acl "$users"
# For an operator, and for the health check: docker compose exec redis sh -c 'redis-cli -u "$(cat /tmp/redis-url)"'
echo 'user admin on ~* &* +@all' >>"$users"

for user in api worker admin; do
  file=$folder/$user/redis-url
  [ "$user" != admin ] || file=/tmp/redis-url
  # A Redis that is started again has the passwords that the services know.
  if ! [ -s "$file" ]; then
    password=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    echo "redis://$user:$password@redis:6379/0" >"$file.new"
    mv "$file.new" "$file"
  fi
  hash=$(sed 's/.*:\(.*\)@.*/\1/' "$file" | tr -d '\n' | sha256sum | cut -d ' ' -f 1)
  sed -i "s/^user $user on /&#$hash /" "$users"
done

exec redis-server --aclfile "$users" "$@"
