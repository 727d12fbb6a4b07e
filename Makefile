# relayd: make, make check, make soak, make power-cuts, make crash-states,
# make kill-points, make fault-sweep, make mutants, make lint, make asan,
# make bench, make fuzz, make fuzz-coverage, make coverage, make unsigned-char,
# make install, make install-mta
#
# Objects go to build/, the programs to the top of the tree.  Packagers set
# CFLAGS, WERROR= and the directories below, the same for make and for make
# install: they are compiled in.

PREFIX        = /usr/local
SYSCONFDIR    = /etc
LOCALSTATEDIR = /var
RUNSTATEDIR   = /run
DESTDIR       =

CC      = gcc
CFLAGS  = -O2 -g
WERROR  = -Werror
PYTHON  = /usr/bin/python3
BUILD   = build
BIN     = .
# Extra flags of special builds (asan).
SPECIAL =
# Of the tests of the programs: which, as pytest selects.
SELECT =
# With musl sendmail starts in a quarter of the time: glibc asks the CPU what it
# is, some forty times, and each time that takes a hypervisor microseconds.
# Special builds are of one compiler; MUSL_CC= is to have none of it.
MUSL_CC := $(if $(SPECIAL),,$(shell command -v musl-gcc))
# make V=1 shows the commands.
V =
Q = $(if $(V),,@)

WARNINGS = -Wall -Wextra $(WERROR) -Wshadow -Wconversion -Wstrict-prototypes \
    -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wcast-qual \
    -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wswitch-enum -Wnull-dereference
HARDENING = -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fPIE
PATHS = -DSYSCONFDIR='"$(SYSCONFDIR)"' -DLOCALSTATEDIR='"$(LOCALSTATEDIR)"' \
    -DRUNSTATEDIR='"$(RUNSTATEDIR)"' -DPREFIX='"$(PREFIX)"'
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE $(CFLAGS) $(WARNINGS) $(HARDENING) \
    $(SPECIAL) $(PATHS) -iquote . -MMD -MP
LINK = $(CC) $(CFLAGS) $(SPECIAL) -pie -Wl,--build-id -Wl,-z,relro,-z,now $(LDFLAGS)

# From the bottom layer to the top (README.md has the map).
LAYERS = log buf util checksum loop \
    smtp parameters text header encode mime_header mime downgrade \
    aliases addresses rewrite rewrite_header provider \
    config_lex config_scan config_text config_keys config_host config_secret \
    config_tls config_reading config_relay config_check config \
    config_edit config_show \
    envelope spool diagnosis open sync close spare queue commit keep entry move walk history convert setup \
    trust connector handle scram auth helper conn advice dns \
    wire transaction pipeline relay maildir \
    due age settle quota window limit pace pace_links throttle pool backlog dispatch sched flush \
    listen intake requeue notice ration reply dialogue session submit \
    bounce sweep report_text report_pace report http metrics client operate \
    verbs control
# Of these sendmail uses the first two layers only, without libraries.
SENDMAIL_LAYERS = log buf util smtp parameters text header aliases
SENDMAIL_PARTS = caller message connect talk

DAEMON_LIBS = -lcurl -lssl -lcrypto -lconfuse
RELAYCTL_LIBS = $(DAEMON_LIBS) -lresolv
OBJECTS = $(LAYERS:%=$(BUILD)/%.o)
ARCHIVE = $(BUILD)/librelayd.a
PROGRAMS = $(BIN)/relayd $(BIN)/sendmail $(BIN)/relayctl
LINKS = $(BIN)/mailq $(BIN)/newaliases

all: $(PROGRAMS) $(LINKS)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(BUILD)
	@echo '  CC    $@'
	$(Q)$(COMPILE) -c -o $@ $<

$(BUILD)/tests/%.o: tests/%.c Makefile
	@mkdir -p $(@D)
	@echo '  CC    $@'
	$(Q)$(COMPILE) -c -o $@ $<

$(ARCHIVE): $(OBJECTS)
	$(Q)rm -f $@ && ar rcs $@ $(OBJECTS)

RELAYD = relayd crash startup confine filter system
$(BIN)/relayd: $(RELAYD:%=$(BUILD)/%.o) $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS)

SENDMAIL = $(SENDMAIL_PARTS:%=sendmail_%) sendmail $(SENDMAIL_LAYERS)
$(BUILD)/musl/%.o: %.c Makefile
	@mkdir -p $(BUILD)/musl
	@echo '  CC    $@'
	$(Q)$(COMPILE) -c -o $@ $<

# musl-gcc does not know -static-pie: this is what it means.
STATIC_PIE = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text -l:rcrt1.o
$(BIN)/sendmail: override CC := $(or $(MUSL_CC),$(CC))
$(BIN)/sendmail: $(SENDMAIL:%=$(BUILD)/$(if $(MUSL_CC),musl/)%.o)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(if $(MUSL_CC),$(STATIC_PIE))

RELAYCTL = relayctl relayctl_ask relayctl_list relayctl_operate \
    relayctl_show relayctl_history relayctl_config relayctl_check \
    relayctl_explain relayctl_online relayctl_session relayctl_probe relayctl_domain \
    relayctl_steps
$(BIN)/relayctl: $(RELAYCTL:%=$(BUILD)/%.o) $(BUILD)/system.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(RELAYCTL_LIBS)

$(LINKS): $(BIN)/sendmail
	ln -sf sendmail $@

# Calls that a test replaces stand in a line "wrap: name name ..." at its top.
wraps = $$(sed -n 's/^.*wrap: *//p' $(1) | tr ' ' '\n' | \
    sed -n 's/^[A-Za-z_].*/-Wl,--wrap=&/p')

# Unit tests: tests/test_NAME.c tests NAME.c.
UNIT_SOURCES := $(wildcard tests/test_*.c)
UNITS = $(UNIT_SOURCES:tests/%.c=$(BUILD)/tests/%)

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(RELAYCTL_LIBS) -lcmocka \
	    $(call wraps,tests/test_$*.c)

# A spool's recovery alone, for tests/crash_states.py.
RECOVER = $(BUILD)/tests/recover
$(RECOVER): $(BUILD)/tests/recover.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS) $(call wraps,tests/recover.c)

# sendmail with the system's C library, for tests that load another before it.
PRELOADABLE = $(BUILD)/tests/sendmail
$(PRELOADABLE): $(SENDMAIL:%=$(BUILD)/%.o)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^

check: check-unit check-fuzz check-system

check-unit: $(UNITS)
	@set -e; for t in $(UNITS); do \
	    $$t >$$t.log 2>&1 || { cat $$t.log; exit 1; }; \
	    echo "$$t: $$(grep -h PASSED $$t.log)"; \
	done

# The programs that the tests talk to are unpacked, not installed.
check-system: all $(RECOVER) $(PRELOADABLE)
	tests/peers.sh
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	RELAYD_BIN=$(abspath $(BIN)) RELAYD_BUILD=$(abspath $(BUILD)) \
	PYTEST_DEBUG_TEMPROOT=$$scratch \
	PYTHONDONTWRITEBYTECODE=1 tests/own-root.sh \
	    $(PYTHON) -m pytest -q -n 4 -rs -p no:cacheprovider $(SELECT) tests

# Power cuts on two file systems, and that each forgotten sync shows.  Needs
# root and loop devices.
CUTS = 200
power-cuts: all
	@set -e; for kind in ext4 xfs; do \
	    for without in nothing file directory; do \
	        RELAYD_BIN=$(abspath $(BIN)) PYTHONDONTWRITEBYTECODE=1 \
	            tests/own-root.sh $(PYTHON) tests/power_cuts.py \
	            --cuts $(CUTS) --without $$without $$kind; \
	    done; \
	done

# Every point of what "make check" only takes samples of: some minutes each.
kill-points:
	$(MAKE) check-system \
	    SELECT='-m sweep -rP -k test_kill_points --least 1000'

fault-sweep:
	$(MAKE) check-system \
	    SELECT='-m sweep -rP -k "fault_sweep or exhaustion" --least 5000'

# Are planted faults caught by the tests?  MUTANTS: some of tests/mutants/.
MUTANTS =
mutants: all $(UNITS)
	tests/peers.sh
	$(PYTHON) -B tests/mutants.py $(MUTANTS)

# All that a power cut may leave of the spool, at any moment: 10,000 states and
# more, recovered.  Needs root.
crash-states: all $(RECOVER)
	RELAYD_BIN=$(abspath $(BIN)) RELAYD_BUILD=$(abspath $(BUILD)) \
	PYTHONDONTWRITEBYTECODE=1 tests/own-root.sh \
	    $(PYTHON) tests/crash_states.py

# What the benchmark needs besides: a relayhost, a load, the machine's limit.
BENCH = $(patsubst %.c,$(BUILD)/%,$(wildcard bench/*.c))

$(BUILD)/bench/%.o: bench/%.c Makefile
	@mkdir -p $(BUILD)/bench
	@echo '  CC    $@'
	$(Q)$(COMPILE) -c -o $@ $<

$(BENCH): $(BUILD)/bench/%: $(BUILD)/bench/%.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS) $(call wraps,bench/$*.c)

# The tests that take too long for every change; they print their figures.
soak: $(BENCH)
	$(MAKE) check-system SELECT='-m soak -rP'

# BENCHMARKS.md says how to read what it prints.  Needs root.
bench: all $(BENCH)
	bench/peers.sh
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) bench/bench.py

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all \
    -fno-omit-frame-pointer -U_FORTIFY_SOURCE
asan:
	$(MAKE) BUILD=build/asan BIN=build/asan HARDENING=-fPIE \
	    SPECIAL='$(ASAN)' check

# Fuzzing: tests/fuzz/fuzz_NAME.c is a target, tests/fuzz/corpus/NAME has its
# inputs, tests/fuzz/NAME.dict its words.  Built with replay.c it only tries
# those inputs.
FUZZ_NAMES = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS = $(FUZZ_NAMES:%=$(BUILD)/tests/fuzz/fuzz_%)
FUZZ_MAIN = $(BUILD)/tests/fuzz/replay.o
FUZZ_LIBRARY =
FUZZ_CORPUS = tests/fuzz/corpus

$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) \
    $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(ARCHIVE) $(FUZZ_LIBRARY) \
	    $(RELAYCTL_LIBS) \
	    $(call wraps,tests/fuzz/fuzz_$*.c)

# Another program's main() becomes a function of the target's.
$(BUILD)/tests/fuzz/fuzz_sendmail: $(BUILD)/tests/fuzz/sendmail_main.o \
    $(SENDMAIL_PARTS:%=$(BUILD)/sendmail_%.o)
$(BUILD)/tests/fuzz/sendmail_main.o: $(BUILD)/sendmail.o
	@mkdir -p $(@D)
	$(Q)objcopy --redefine-sym main=sendmail_main $< $@

replay-corpus: $(FUZZERS)
	@set -e; for name in $(FUZZ_NAMES); do \
	    $(BUILD)/tests/fuzz/fuzz_$$name $(FUZZ_CORPUS)/$$name; \
	done

# What earlier fuzzing has found, under the sanitizers: a matter of seconds.
check-fuzz:
	$(MAKE) BUILD=build/asan HARDENING=-fPIE SPECIAL='$(ASAN)' replay-corpus

# What is new goes to build/fuzz/corpus, what fails to build/fuzz/found.
# The slow ones are begun first, so that all end together.
FUZZ_SLOW = header relay history address mime session config aliases
run-fuzzers: $(FUZZERS)
	tests/fuzz/run.sh $(BUILD) $(filter $(FUZZ_NAMES),$(FUZZ_SLOW)) \
	    $(filter-out $(FUZZ_SLOW),$(FUZZ_NAMES))

# Comparisons are not traced: most are the sanitizers' own, and what is worth
# knowing of the others is in the dictionaries.
FUZZ = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
    -fno-sanitize-coverage=trace-cmp -fno-omit-frame-pointer -U_FORTIFY_SOURCE
fuzz:
	$(MAKE) CC=clang BUILD=build/fuzz HARDENING=-fPIE SPECIAL='$(FUZZ)' \
	    FUZZ_MAIN= FUZZ_LIBRARY=-fsanitize=fuzzer run-fuzzers

# The lines of each parser that the inputs kept here run through.  Not of files
# that are more about descriptors and directories: http, control, entry ...
PARSERS = smtp parameters text header encode mime_header mime downgrade \
    aliases addresses rewrite rewrite_header provider config_lex config_scan \
    config_text config_keys config_check config config_edit envelope spool \
    diagnosis history convert wire transaction pipeline relay dialogue client \
    operate verbs sendmail scram auth dns
fuzz-coverage:
	rm -f build/coverage/*.gcda
	$(MAKE) BUILD=build/coverage HARDENING=-fPIE SPECIAL='--coverage -O0' \
	    replay-corpus
	@tests/fuzz/coverage.sh build/coverage $(PARSERS)

# The lines and branches that all tests together run through.  The counters are
# written by whatever user a program runs as; what no test can run, an assert
# that fails, counts for nothing.  Left out is what counting itself disturbs.
COUNTED = $(abspath build/counted)
COUNT = $(MAKE) BUILD=$(COUNTED) BIN=$(COUNTED) HARDENING=-fPIE \
    SPECIAL='--coverage -O0' \
    LDFLAGS='-Wl,--wrap=syscall,--wrap=_exit $(COUNTED)/counting.a.o'
coverage:
	mkdir -p $(COUNTED)
	rm -f $(COUNTED)/*.gcda
	$(CC) -O2 -D_GNU_SOURCE -DCOUNTERS='"$(COUNTED)"' -c \
	    -o $(COUNTED)/counting.a.o tests/counting.c
	$(COUNT) all
	for notes in $(COUNTED)/*.gcno; do : >$${notes%.gcno}.gcda; done
	chmod a+rw $(COUNTED)/*.gcda
	$(COUNT) check-unit
	$(COUNT) check-system SELECT='-k "not buffers_are_guarded and \
	    not C29-fsize and not c29_no_descriptor"'
	gcovr -r . --object-directory $(COUNTED) -f '[a-z_]*\.c' \
	    --exclude-branches-by-pattern '.*\bassert\(' --print-summary \
	    --fail-under-line 90 --fail-under-branch 80 $(COUNTED)

# char is signed on some machines and not on others: both are to be the same.
unsigned-char:
	$(MAKE) BUILD=build/unsigned SPECIAL=-funsigned-char check-unit
	$(MAKE) BUILD=build/signed SPECIAL=-fsigned-char check-unit

# gcc's own analysis; clang's is one of clang-tidy's.
analyze:
	$(MAKE) BUILD=build/analyzed SPECIAL=-fanalyzer \
	    $(patsubst %.c,build/analyzed/%.o,$(wildcard *.c))

# Everything with the other compiler too, then what only linters see.
C_FILES = $(wildcard *.c *.h tests/*.[ch] tests/fuzz/*.[ch] \
    bench/*.[ch])
MAN_PAGES = $(wildcard man/*.[1-9])
lint: all $(UNITS:%=%.o) $(BENCH)
	$(MAKE) CC=clang BUILD=build/clang BIN=build/clang MUSL_CC= \
	    build/clang/relayd build/clang/sendmail build/clang/relayctl \
	    $(UNITS:$(BUILD)/%=build/clang/%.o)
	$(MAKE) analyze
	tests/layers.sh $(BUILD) $(LAYERS) system filter confine startup crash relayd
	clang-format --dry-run -Werror $(C_FILES)
	ls *.c | xargs -P 2 -I FILE clang-tidy -quiet FILE -- -std=c11 \
	    -D_GNU_SOURCE -iquote . $(PATHS) 2>/dev/null
	cppcheck -q --std=c11 -j 2 --enable=warning,performance,portability \
	    --inline-suppr --error-exitcode=1 -D_GNU_SOURCE $(PATHS) *.c
	mandoc -T lint -W warning $(MAN_PAGES)
	shellcheck .ci/run tests/*.sh tests/fuzz/*.sh bench/*.sh

format:
	clang-format -i $(C_FILES)

# ---- installing ----

BIN_DIR = $(PREFIX)/bin
SBIN_DIR = $(PREFIX)/sbin
MAN_DIR = $(PREFIX)/share/man
SCHEMA_DIR = $(PREFIX)/share/relayd/schema
UNIT_DIR = $(PREFIX)/lib/systemd/system
fill_in = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' \
    -e 's|@LOCALSTATEDIR@|$(LOCALSTATEDIR)|g' \
    -e 's|@RUNSTATEDIR@|$(RUNSTATEDIR)|g' systemd/$(1).in \
    >$(DESTDIR)$(2) && chmod 644 $(DESTDIR)$(2)

install: all
	install -d $(DESTDIR)$(SBIN_DIR) $(DESTDIR)$(BIN_DIR) \
	    $(DESTDIR)$(MAN_DIR)/man5 $(DESTDIR)$(MAN_DIR)/man8 \
	    $(DESTDIR)$(SCHEMA_DIR) $(DESTDIR)$(UNIT_DIR) \
	    $(DESTDIR)$(PREFIX)/lib/sysusers.d \
	    $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	# One that is there keeps its mode.
	[ -d $(DESTDIR)$(SYSCONFDIR)/relayd ] || \
	    install -d $(DESTDIR)$(SYSCONFDIR)/relayd
	install -m 755 $(PROGRAMS) $(DESTDIR)$(SBIN_DIR)
	ln -sf ../sbin/sendmail $(DESTDIR)$(BIN_DIR)/mailq
	ln -sf ../sbin/sendmail $(DESTDIR)$(BIN_DIR)/newaliases
	install -m 644 man/*.5 $(DESTDIR)$(MAN_DIR)/man5
	install -m 644 man/*.8 $(DESTDIR)$(MAN_DIR)/man8
	install -m 644 schema/*.json $(DESTDIR)$(SCHEMA_DIR)
	@echo '  UNITS $(DESTDIR)$(PREFIX)/lib'
	$(Q)$(call fill_in,relayd.service,$(UNIT_DIR)/relayd.service)
	$(Q)$(call fill_in,relayd.socket,$(UNIT_DIR)/relayd.socket)
	$(Q)$(call fill_in,sysusers.conf,$(PREFIX)/lib/sysusers.d/relayd.conf)
	$(Q)$(call fill_in,tmpfiles.conf,$(PREFIX)/lib/tmpfiles.d/relayd.conf)
	[ -e $(DESTDIR)$(SYSCONFDIR)/relayd/relayd.conf ] || install -m 644 \
	    relayd.conf.example $(DESTDIR)$(SYSCONFDIR)/relayd/relayd.conf

# Become the machine's sendmail; another mail system's files are not touched.
MTA_LINKS = /usr/sbin/sendmail=$(SBIN_DIR)/sendmail \
    /usr/lib/sendmail=$(SBIN_DIR)/sendmail \
    /usr/bin/mailq=$(BIN_DIR)/mailq /usr/bin/newaliases=$(BIN_DIR)/newaliases
install-mta:
	@for link in $(MTA_LINKS); do \
	    path=$${link%%=*}; ours=$${link#*=}; there=$(DESTDIR)$$path; \
	    [ "$$path" != "$$ours" ] || continue; \
	    [ ! -e "$$there" ] && [ ! -L "$$there" ] || \
	    [ "$$(readlink "$$there")" = "$$ours" ] || { \
	        echo "$$there is not relayd's: remove the other mail system" \
	            "first" >&2; exit 1; }; \
	done
	@for link in $(MTA_LINKS); do \
	    path=$${link%%=*}; ours=$${link#*=}; there=$(DESTDIR)$$path; \
	    [ "$$path" != "$$ours" ] || continue; \
	    mkdir -p "$$(dirname "$$there")" && ln -sfn "$$ours" "$$there" && \
	    echo "$$there -> $$ours" || exit 1; \
	done

clean:
	rm -rf build
	rm -f relayd sendmail relayctl mailq newaliases

.PHONY: all check check-unit check-fuzz check-system soak power-cuts \
    crash-states kill-points fault-sweep mutants coverage unsigned-char \
    analyze asan bench \
    fuzz fuzz-coverage replay-corpus run-fuzzers lint format install \
    install-mta clean
.SECONDARY:

-include $(wildcard $(BUILD)/*.d $(BUILD)/musl/*.d $(BUILD)/tests/*.d \
    $(BUILD)/tests/fuzz/*.d $(BUILD)/bench/*.d)
