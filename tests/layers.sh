#!/bin/sh
# Fail when a file uses a function of a file above it, or includes a header
# that another file keeps to itself.
#
# usage: tests/layers.sh DIRECTORY_OF_OBJECTS LAYER ...  (the lowest first)
set -eu

objects=$1
shift
# header=the only files that may include it
owners="sys/epoll.h=loop sys/signalfd.h=loop confuse.h=config
    dirent.h=queue,walk,metrics curl/=conn,connector,handle
    openssl/=config_tls,trust,conn,handle,scram,relayctl_probe
    conn.h=connector,handle,conn helper.h=helper,conn,relayctl_check,relayctl_online,relayctl_session,startup,relayd
    auth.h=scram,auth,conn
    header.h=header,mime_header,downgrade,aliases,rewrite_header,notice
    mime.h=encode,mime_header,mime,downgrade,convert convert.h=convert,transaction
    rewrite.h=rewrite,rewrite_header spool.h=envelope,spool,diagnosis,open,sync,close,spare,queue,commit,keep,entry,move,walk,history
    crash.h=crash,relayd history.h=history,settle,sched,relayctl_history
    setup.h=setup,trust wire.h=wire,relay transaction.h=transaction,pipeline,relay,maildir
    sched.h=due,age,settle,quota,window,limit,pace,pace_links,throttle,pool,backlog,dispatch,sched,flush submit.h=listen,intake,requeue,submit,bounce,http
    notice.h=notice,ration,bounce http.h=http,metrics metrics.h=metrics,verbs,startup
    session.h=reply,dialogue,session control.h=client,operate,verbs,control
    report.h=report_text,report_pace,report,relayctl system.h=system,startup,relayctl_check startup.h=startup,relayd confine.h=filter,confine,startup,relayd
    relayctl.h=relayctl,relayctl_ask,relayctl_check,relayctl_config,relayctl_explain,relayctl_history,relayctl_list,relayctl_online,relayctl_operate,relayctl_show
    online.h=relayctl_domain,relayctl_online,relayctl_probe,relayctl_session,relayctl_steps
    sendmail.h=sendmail,sendmail_caller,sendmail_connect,sendmail_message,sendmail_talk
    config_parts.h=config,config_check,config_edit,config_show,config_host,config_keys,config_lex,config_reading,config_relay,config_scan,config_secret,config_text,config_tls"
bad=0

for layer in "$@"; do
	nm -g "$objects/$layer.o" | awk -v layer="$layer" '
	    $2 ~ /^[TDBR]$/ { print "defines", $3, layer }
	    $1 == "U" { print "uses", $2, layer }'
done | awk -v order="$*" '
BEGIN { n = split(order, o); for (i = 1; i <= n; i++) rank[o[i]] = i }
$1 == "defines" { home[$2] = $3 }
$1 == "uses" { name[++k] = $2; user[k] = $3 }
END {
	for (i = 1; i <= k; i++) {
		h = home[name[i]]
		if (h != "" && rank[h] > rank[user[i]]) {
			printf "%s.c uses %s() of %s.c, which is above it\n",
			    user[i], name[i], h
			bad = 1
		}
	}
	exit bad
}' || bad=1

for owner in $owners; do
	header=${owner%=*}
	files=,${owner#*=},
	for user in ./*.c; do
		name=$(basename "$user" .c)
		grep -q "^#include [<\"]$header" "$user" || continue
		case $files in
		*,"$name",*) ;;
		*)
			echo "$name.c includes $header, which is for ${owner#*=}"
			bad=1
			;;
		esac
	done
done

for header in relayd.h mail.h; do
	lines=$(wc -l <$header)
	[ "$lines" -gt 800 ] || continue
	echo "$header has $lines lines; 800 is the most"
	bad=1
done
exit "$bad"
