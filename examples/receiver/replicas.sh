#!/usr/bin/env bash
# Starts three receivers that share one durable queue, behind nginx, on one machine:
#
#	B24_APPLICATION_TOKEN=… QUEUE_URL=postgres://postgres@127.0.0.1:5432/test bash examples/receiver/replicas.sh
#	B24_APPLICATION_TOKEN=… QUEUE_URL=nats://127.0.0.1:4222 bash examples/receiver/replicas.sh
# Events go to http://127.0.0.1:8080/bitrix24/events; PORT sets another port. Each line of the output
# begins with the number of the receiver that printed it. Kill a receiver (its process ID is in the
# output), and the others take over its events. Ctrl+C stops all in order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${QUEUE_URL:?set QUEUE_URL to a PostgreSQL or NATS server, such as postgres://postgres@127.0.0.1:5432/test}"
port=${PORT:-8080}
nginx=$(PATH="$PATH:/usr/sbin" command -v nginx) || { echo "nginx is missing: apt-get install nginx-light" >&2; exit 1; }

work=$(mktemp -d)
pids=()
stop() {
	trap - EXIT INT TERM
	kill -TERM "${pids[@]}" 2>/dev/null || true
	wait "${pids[@]}" 2>/dev/null || true
	rm -rf "$work"
}
trap stop EXIT
trap 'exit 0' INT TERM

go build -o "$work/receiver" ./examples/receiver
for i in 1 2 3; do
	LISTEN="127.0.0.1:$((port + i))" "$work/receiver" \
		> >(sed -u "s/^/$i /") 2> >(sed -u "s/^/$i /" >&2) &
	pids+=($!)
	echo "receiver $i listens on 127.0.0.1:$((port + i)), process $!" >&2
done

# The example's nginx.conf, with these addresses.
sed "s/listen 8080/listen 127.0.0.1:$port/" examples/receiver/nginx.conf >"$work/site.conf"
for i in 1 2 3; do
	sed -i "s/receiver-$i:8080/127.0.0.1:$((port + i))/" "$work/site.conf"
done
cat >"$work/nginx.conf" <<-END
	daemon off;
	error_log stderr warn;
	pid $work/nginx.pid;
	events {}
	http {
		access_log off;
		client_body_temp_path $work/body;
		proxy_temp_path $work/proxy;
		fastcgi_temp_path $work/fastcgi;
		uwsgi_temp_path $work/uwsgi;
		scgi_temp_path $work/scgi;
		include $work/site.conf;
	}
END
"$nginx" -p "$work" -c "$work/nginx.conf" &
pids+=($!)
echo "nginx listens on 127.0.0.1:$port" >&2
wait
