#!/bin/sh
# README's demonstration: relayd between sendmail and a small relayhost of its
# own, which asks for STARTTLS and a login and prints what it receives.
# Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."

place=$(mktemp -d /tmp/relayd-demo.XXXXXX)
chmod 755 "$place"
pids=
clean_up() {
	for pid in $pids; do
		kill "$pid" 2>/dev/null || :
	done
	wait
	rm -rf "$place"
}
trap clean_up EXIT
trap 'exit 130' HUP INT PIPE TERM

# Until FILE is there, or its maker is gone.
await() {
	tries=0
	until [ -e "$1" ]; do
		tries=$((tries + 1))
		if [ "$tries" -gt 300 ] || ! kill -0 "$2" 2>/dev/null; then
			cat "$place"/*.log >&2
			exit 1
		fi
		sleep 0.1
	done
}

/usr/bin/python3 tests/relayhost.py --demo "$place" --count 1 \
    --user demo@example.com --password secret >"$place/relayhost.log" 2>&1 &
relayhost=$!
pids=$relayhost
await "$place/port" "$relayhost"

echo secret >"$place/password"
chmod 600 "$place/password"
[ "$(id -u)" -ne 0 ] || chown nobody "$place/password"
echo 'root: you@example.com' >"$place/aliases"
cat >"$place/relayd.conf" <<END
hostname = "demo.example.com"
aliases  = "$place/aliases"
spool    = "$place/spool"
control  = "unix:$place/run/control.sock"
user     = "nobody"
listen "unix:$place/run/submit.sock" {}
relay "demo" {
	host          = "localhost"
	port          = $(cat "$place/port")
	user          = "demo@example.com"
	password_file = "$place/password"
	tls_ca_file   = "$place/ca.pem"
}
END

./relayd -f "$place/relayd.conf" >"$place/relayd.log" 2>&1 &
relayd=$!
pids="$pids $relayd"
await "$place/run/submit.sock" "$relayd"

printf '%s\n' '$ printf "Subject: disk full\n\n/var is full.\n" | ./sendmail root'
printf 'Subject: disk full\n\n/var is full.\n' |
    RELAYD_SOCKET="$place/run/submit.sock" ./sendmail root
wait "$relayhost"

echo
echo 'The mail as it arrived at the relayhost:'
echo
sed 's/^/    /' "$place/relayhost.log"
kill "$relayd"
wait "$relayd" || :
echo 'The log line:'
echo
sed -n 's/.*relayd\/smtp\[/    relayd\/smtp[/p' "$place/relayd.log"
cat <<'END'

The same with a real provider takes these lines in /etc/relayd/relayd.conf:

    relay "gmail" {                              relay "ses" {
        host = "smtp.gmail.com"                      host = "email-smtp.eu-west-1.amazonaws.com"
        user = "you@gmail.com"                       user = "AKIA..."   # SMTP user name
        password_file = "/etc/relayd/password"       password_file = "/etc/relayd/password"
    }                                            }
                                                 from = "verified@your.domain"

Gmail wants an app password, SES its SMTP password (not the secret key).
END
