# relayd: make, make check, make lint, make asan, make install, make install-mta
#
# Objects go to build/, the programs to the top of the tree.  Packagers set
# CFLAGS, WERROR= and the directories below.

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
LINK = $(CC) $(CFLAGS) $(SPECIAL) -pie -Wl,-z,relro,-z,now $(LDFLAGS)

# From the bottom layer to the top (README.md has the map).
LAYERS = log buf util loop \
    smtp text header aliases rewrite \
    config_scan config_text config_keys config_host config_secret \
    config_check config \
    spool queue entry walk setup conn \
    wire transaction pipeline relay \
    due settle sched \
    listen intake reply dialogue session submit report client control
# Of these sendmail uses the first two layers only, without libraries.
SENDMAIL_LAYERS = log buf util smtp text header

DAEMON_LIBS = -lcurl -lssl -lcrypto -lconfuse
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
	@mkdir -p $(BUILD)/tests
	@echo '  CC    $@'
	$(Q)$(COMPILE) -c -o $@ $<

$(ARCHIVE): $(OBJECTS)
	$(Q)rm -f $@ && ar rcs $@ $(OBJECTS)

$(BIN)/relayd: $(BUILD)/relayd.o $(BUILD)/system.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS)

$(BIN)/sendmail: $(BUILD)/sendmail.o $(BUILD)/sendmail_message.o \
    $(BUILD)/sendmail_connect.o $(BUILD)/sendmail_talk.o \
    $(SENDMAIL_LAYERS:%=$(BUILD)/%.o)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^

$(BIN)/relayctl: $(BUILD)/relayctl.o $(BUILD)/relayctl_list.o \
    $(BUILD)/relayctl_check.o $(BUILD)/system.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS)

$(LINKS): $(BIN)/sendmail
	ln -sf sendmail $@

# Unit tests: tests/test_NAME.c tests NAME.c.  Calls to replace stand in a
# line "wrap: name name ..." at the top of the test.
UNIT_SOURCES := $(wildcard tests/test_*.c)
UNITS = $(UNIT_SOURCES:tests/%.c=$(BUILD)/tests/%)

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(ARCHIVE)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(DAEMON_LIBS) -lcmocka $$(sed -n \
	    's/^.*wrap: *//p' tests/test_$*.c | tr ' ' '\n' | \
	    sed -n 's/^[a-z].*/-Wl,--wrap=&/p')

check: check-unit check-system

check-unit: $(UNITS)
	@set -e; for t in $(UNITS); do echo "== $$t"; $$t; done

check-system: all
	RELAYD_BIN=$(abspath $(BIN)) $(PYTHON) -m pytest -q -n 4 tests

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all \
    -fno-omit-frame-pointer -U_FORTIFY_SOURCE
asan:
	$(MAKE) BUILD=build/asan BIN=build/asan HARDENING=-fPIE \
	    SPECIAL='$(ASAN)' check

clean:
	rm -rf build
	rm -f relayd sendmail relayctl mailq newaliases

.PHONY: all check check-unit check-system asan clean
.SECONDARY:

-include $(wildcard $(BUILD)/*.d $(BUILD)/tests/*.d)
