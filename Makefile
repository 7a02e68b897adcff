# pam_pkcs11: `make` says what can be made. Only Go and make must be there before; the rest comes by `make deps`.

SHELL := /bin/bash
GO ?= go
BUILD := build
FUZZTIME ?= 10m
SOAKTIME ?= 30m
# For each package. It ends what hangs, not what is slow: test/endings takes minutes on a quiet machine.
TEST_TIMEOUT ?= 60m
PREFIX ?= /usr
MULTIARCH := $(shell dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || $(CC) -print-multiarch 2>/dev/null)
PAMDIR ?= $(if $(MULTIARCH),$(PREFIX)/lib/$(MULTIARCH)/security,$(PREFIX)/lib64/security)
LIBEXECDIR ?= $(PREFIX)/libexec/pam_pkcs11
MANDIR ?= $(PREFIX)/share/man
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
PAM_PKCS11_SHARED ?= ../shared

# Not from a checkout's state: a clone that root made for another user would stop the build.
export GOFLAGS := $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false
export GO

STATICCHECK := v0.8.2

# Debian packages, by what they are for. doc/development.md says what each is needed for.
# Building, installing and the demo need DEPS_BUILD and nothing else.
DEPS_BUILD := gcc libc6-dev libpam0g-dev ca-certificates
DEPS_PKCS11 := softhsm2 opensc-pkcs11
DEPS_TEST := $(DEPS_PKCS11) pkg-config git libpam-modules libpam-runtime opensc openssl pamtester libpam-pkcs11 libpam-wrapper slapd ldap-utils \
	openssh-server openssh-client sudo login passwd libpcsclite-dev pcscd libccid pcsc-tools \
	python3-cryptography-vectors yubico-piv-tool gnutls-bin gettext expect strace iproute2 procps bc usbutils kmod \
	util-linux shellcheck mandoc man-db bsdextrautils dbus-daemon vsmartcard-vpcd python3-pyscard gpg scdaemon yubikey-manager systemd udev libxml2-utils \
	polkitd rpm
DEPS_FRESH := debootstrap
DEPS_USB := qemu-system-x86 busybox-static xz-utils libnss3-tools

# Names of pam_pkcs11's tools that pam-pkcs11 answers to as well.
OLD_TOOLS := pklogin_finder pkcs11_inspect pkcs11_listcerts pkcs11_make_hash_link pkcs11_setup

.DEFAULT_GOAL := help
.PHONY: help deps deps-build toolchain build check test test-reference test-stack test-pcscd test-hosts test-fresh test-usb test-vm soak soak-login \
	demo demo-pkcs11 bench-login bench-card bench-map bench-crl bench-ccid bench-pcsc fuzz install install-pcscd uninstall uninstall-pcscd pot clean

help: ## say what can be made
	@sed -nE 's/^([a-z0-9-]+):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

deps: ## install the Debian packages that the tests need and that are missing (elsewhere: name them); starts no daemon
	@.ci/toolchain go
	@.ci/deps $(DEPS_BUILD) $(DEPS_TEST)

deps-build: ## install of these only what building and the demo need: a compiler and two headers
	@.ci/toolchain go
	@.ci/deps $(DEPS_BUILD)

toolchain: deps-build
	@.ci/toolchain cc

build: toolchain ## build everything under build/
	@mkdir -p $(BUILD)
	pam/build.sh $(BUILD)
	$(GO) build -trimpath -ldflags '-s -w -X pam_pkcs11/pcsc/access.Program=$(abspath $(BUILD))/pcscd' -o $(BUILD)/pam-pkcs11 ./cmd/pam-pkcs11
	@for d in $(patsubst cmd/%/main.go,%,$(wildcard cmd/pcscd/main.go cmd/pcscd-sim/main.go)); do \
		echo "$(GO) build $$d" && $(GO) build -trimpath -ldflags '-s -w' -o $(BUILD)/$$d ./cmd/$$d || exit 1; done

check: deps toolchain ## gofmt, go vet with and without cgo, a build for arm64 and 386, staticcheck, how the code reads, shellcheck, rpm spec, manual pages
	@.ci/lint $(STATICCHECK)

# Without cgo only packages that have nothing of cgo themselves are tested; all others are vetted by `check`.
test: deps build ## all tests that need nothing but Debian packages; closes with the counts and the slowest packages
	@set -o pipefail; { $(GO) test -timeout $(TEST_TIMEOUT) -json ./... && \
		CGO_ENABLED=0 $(GO) test -timeout $(TEST_TIMEOUT) -json $$($(GO) list -f '{{if not .CgoFiles}}{{.ImportPath}}{{end}}' ./... \
			| grep -v '^pam_pkcs11/test'); } | $(GO) run ./test/tally

test-reference: deps build ## tests that read the folder of reference data, PAM_PKCS11_SHARED
	@[ -d '$(PAM_PKCS11_SHARED)' ] || { echo "PAM_PKCS11_SHARED=$(PAM_PKCS11_SHARED) is not a directory" >&2; exit 1; }
	PAM_PKCS11_SHARED="$$(cd '$(PAM_PKCS11_SHARED)' && pwd)" $(GO) test -timeout $(TEST_TIMEOUT) -tags reference \
		$$(grep -rlE --exclude-dir=build --include='*_test.go' '^//go:build .*\breference\b' . | xargs -r -n 1 dirname | sort -u)

test-stack: deps build ## logins through libpam, worker, built-in card, daemon and driver, with all that can happen to a card meanwhile
	@set -o pipefail; $(GO) test -timeout $(TEST_TIMEOUT) -count=1 -v ./test/stack | grep -vE '^=== '

test-pcscd: deps toolchain ## the rules of PC/SC asked of Debian's pcscd, over the simulated readers that ours is tested with (root)
	PCSCD_UNDER_TEST=system $(GO) test -timeout $(TEST_TIMEOUT) -count=1 -v -run 'TestConformance|OnTheWire|HangsUp|FourFour' ./pcsc | \
		grep -vE '^=== '

test-hosts: deps build ## Debian's sshd, sudo, su and login with a card, in private namespaces (root; 5 to 8 minutes)
	$(GO) test -count=1 -timeout 30m -tags hosts ./test/hosts

test-usb: deps toolchain ## the CCID driver on Debian's kernel in a virtual machine: QEMU's reader and simulated ones (root)
	@.ci/deps $(DEPS_USB)
	@mkdir -p $(BUILD)/usb
	$(GO) test -c -o $(BUILD)/usb/usb.test ./test/usb
	$(GO) build -o $(BUILD)/usb/vm ./test/usb/vm
	$(GO) build -o $(BUILD)/usb/pcscd ./cmd/pcscd
	cd test/usb && PAM_PKCS11_TEST_USB_PCSCD='$(abspath $(BUILD))/usb/pcscd' '$(abspath $(BUILD))/usb/vm' '$(abspath $(BUILD))/usb' '$(abspath $(BUILD))/usb/usb.test' -test.v -test.timeout 50m

# What make install and make install-pcscd make is installed in the virtual machine, one after the other.
VM := $(abspath $(BUILD))/vm

test-vm: deps toolchain ## login, sudo and sshd with a card on Debian's kernel in a virtual machine: bundled daemon, our pcscd, Debian's (root)
	@.ci/deps $(DEPS_USB)
	@rm -rf $(VM) && mkdir -p $(VM) $(BUILD)/usb
	$(MAKE) --no-print-directory install PREFIX=/usr DESTDIR=$(VM)/login
	$(MAKE) --no-print-directory install-pcscd PREFIX=/usr DESTDIR=$(VM)/daemon
	$(GO) test -c -tags machine -o $(VM)/machine.test ./test/machine
	$(GO) build -o $(BUILD)/usb/vm ./test/usb/vm
	cd test/machine && PAM_PKCS11_TEST_MACHINE='$(VM)' '$(abspath $(BUILD))/usb/vm' '$(abspath $(BUILD))/usb' '$(VM)/machine.test' -test.v -test.timeout 50m

test-fresh: ## make demo and make test in a new Debian 12 made by debootstrap (root)
	@.ci/toolchain go
	@.ci/deps $(DEPS_FRESH)
	test/fresh/run

# What is downloaded and compiled before it is timed apart from it: demo-began says when that began.
demo: demo-clock build ## alice logs in with a PIV card, from libpam to the USB transfers, and is refused for many reasons; leaves nothing behind
	@$(GO) build -o $(BUILD)/demo ./test/demo
	@$(BUILD)/demo -began "$$(cat $(BUILD)/demo-began)" $(DEMOFLAGS) $(BUILD)

.PHONY: demo-clock
demo-clock:
	@mkdir -p $(BUILD) && date +%s >$(BUILD)/demo-began

demo-pkcs11: build ## the same with a PKCS#11 library of others, SoftHSM2
	@.ci/deps $(DEPS_PKCS11)
	@$(GO) run ./test/demopkcs11 $(BUILD)

bench-card: deps build ## a login with the built-in card against opensc-pkcs11 and against Debian's libpam-pkcs11, on the same card (root)
	@$(GO) build -o $(BUILD)/bench ./test/bench && $(BUILD)/bench -card $(BUILD)

bench-login: deps build ## this module against Debian's libpam-pkcs11 on the same card (root)
	@$(GO) run ./test/bench $(BUILD)

bench-map: deps build ## what mapping a certificate adds to a login, against Debian's libpam-pkcs11 (root)
	@$(GO) run ./test/benchmap $(BUILD)

bench-crl: deps build ## what CRLs of up to 5,000,000 entries cost, beside libpam-pkcs11, openssl and others (root)
	@$(GO) run ./test/bench -crl $(BUILD)

bench-ccid: deps toolchain ## what the CCID driver costs for each APDU, and how often it wakes up while nothing happens (root)
	$(GO) test -timeout $(TEST_TIMEOUT) -v -count=1 -tags bench -run '^TestBench' ./ccid ./test/usb
	$(GO) test -timeout $(TEST_TIMEOUT) -run '^$$' -bench . -benchmem ./ccid

bench-pcsc: deps build ## our PC/SC daemon against Debian's pcscd, through the same libpcsclite and an instant card (root)
	@$(GO) build -o $(BUILD)/bench-pcsc ./test/pcsc/bench && $(BUILD)/bench-pcsc $(BUILD)

soak: deps toolchain ## 200 PC/SC clients on 4 readers for SOAKTIME (30m): transactions, kills, removals, restarts of the daemon
	PCSC_SOAK=$(SOAKTIME) $(GO) test -count=1 -v -timeout 0 ./test/pcsc/soak

soak-login: deps toolchain ## 1,000 logins on different cards, 50 at once on one, 200 rounds beside other programs (30 minutes)
	DESK_LOGINS=1000 DESK_CROWD=50 DESK_ROUNDS=200 $(GO) test -count=1 -v -timeout 0 ./test/desk

fuzz: deps toolchain ## every fuzz target for FUZZTIME (10m) each
	@.ci/fuzz $(FUZZTIME)

# Of the programs: SYMBOLS=keep leaves the symbols in, and GOPROGRAM and GOLINK are more flags of `go build` and of its
# linker, PCSCDLINK for the daemon alone. They are for builds of packages.
SYMBOLS ?= strip
GOPROGRAM ?=
GOLINK ?=
PCSCDLINK ?=
export SYMBOLS
go_program = $(GO) build -trimpath $(GOPROGRAM) -ldflags "$(if $(filter keep,$(SYMBOLS)),,-s -w) $(1) $(GOLINK)"
SHELLS := bash zsh fish

# Files of packages are not overwritten nor removed, unless FORCE=1: packaging/guard says whose they are.
install: toolchain ## install under DESTDIR and PREFIX (/usr); no package's file is overwritten, unless FORCE=1
	@$(MAKE) --no-print-directory install-build
	@packaging/guard install '$(DESTDIR)' '$(FORCE)' $(MAKE) --no-print-directory install-files
	@$(MAKE) --no-print-directory install-files

# Apart from `install`: it takes the place of the distribution's pcscd.
install-pcscd: toolchain ## install the PC/SC daemon, its units, udev rule, user and polkit actions in place of another pcscd
	@$(MAKE) --no-print-directory install-pcscd-build
	@packaging/guard install '$(DESTDIR)' '$(FORCE)' $(MAKE) --no-print-directory install-pcscd-files
	@$(MAKE) --no-print-directory install-pcscd-files

# What follows in four parts installs no Debian package: builds of packages call it by these names.
.PHONY: install-build install-files install-pcscd-build install-pcscd-files

# The module's path to its worker is compiled in, so what is installed is built for the place where it will be.
install-build:
	@mkdir -p $(BUILD)/install
	PAM_PKCS11_LIBEXECDIR=$(LIBEXECDIR) pam/build.sh $(BUILD)/install
	$(call go_program,-X pam_pkcs11/pcsc/access.Program=$(LIBEXECDIR)/pcscd) -o $(BUILD)/install/pam-pkcs11 ./cmd/pam-pkcs11
	$(call go_program,) -o $(BUILD)/install/pcscd ./cmd/pcscd
	sed 's|/usr/libexec/pam_pkcs11|$(LIBEXECDIR)|' packaging/systemd/pam-pkcs11-pcscd.service >$(BUILD)/install/pam-pkcs11-pcscd.service
	@for shell in $(SHELLS); do $(BUILD)/install/pam-pkcs11 completion $$shell >$(BUILD)/install/completion.$$shell || exit 1; done

# The worker's parts come before the module: a new launcher serves the module of a release before, an old one not a new one.
install-files:
	install -D -m 0644 $(BUILD)/install/pam_pkcs11_worker.so $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker.so
	install -D -m 0755 $(BUILD)/install/pam_pkcs11_worker $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker
	install -D -m 0644 $(BUILD)/install/pam_pkcs11.so $(DESTDIR)$(PAMDIR)/pam_pkcs11.so
	install -D -m 0755 $(BUILD)/install/pcscd $(DESTDIR)$(LIBEXECDIR)/pcscd
	install -D -m 0755 $(BUILD)/install/pam-pkcs11 $(DESTDIR)$(PREFIX)/bin/pam-pkcs11
	install -D -m 0644 doc/pam_pkcs11.8 $(DESTDIR)$(MANDIR)/man8/pam_pkcs11.8
	install -D -m 0644 doc/pam_pkcs11.conf.5 $(DESTDIR)$(MANDIR)/man5/pam_pkcs11.conf.5
	install -D -m 0644 doc/pam-pkcs11.1 $(DESTDIR)$(MANDIR)/man1/pam-pkcs11.1
	for name in $(OLD_TOOLS); do \
		ln -sf pam-pkcs11 $(DESTDIR)$(PREFIX)/bin/$$name && ln -sf pam-pkcs11.1 $(DESTDIR)$(MANDIR)/man1/$$name.1 || exit 1; done
	install -D -m 0644 $(BUILD)/install/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pam-pkcs11
	install -D -m 0644 $(BUILD)/install/completion.zsh $(DESTDIR)$(ZSHDIR)/_pam-pkcs11
	install -D -m 0644 $(BUILD)/install/completion.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pam-pkcs11.fish
	install -D -m 0644 pam_pkcs11.conf.example $(DESTDIR)$(PREFIX)/share/doc/pam_pkcs11/pam_pkcs11.conf.example
	install -d -m 0755 $(DESTDIR)/etc/pam_pkcs11 $(DESTDIR)/etc/pam_pkcs11/cacerts $(DESTDIR)/etc/pam_pkcs11/crls
	install -D -m 0644 packaging/systemd/pam-pkcs11-crl.service $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-crl.service
	install -D -m 0644 packaging/systemd/pam-pkcs11-crl.timer $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-crl.timer
	install -D -m 0644 $(BUILD)/install/pam-pkcs11-pcscd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-pcscd.service
	install -D -m 0644 packaging/systemd/pam-pkcs11-pcscd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-pcscd.socket
	install -d -m 0755 $(DESTDIR)/var/lib/pam_pkcs11
	install -d -m 0700 $(DESTDIR)/var/cache/pam_pkcs11
	install -d -m 0700 $(DESTDIR)/var/lib/pam_pkcs11/ocsp

install-pcscd-build:
	@mkdir -p $(BUILD)/install
	$(call go_program,$(PCSCDLINK)) -o $(BUILD)/install/pcscd.system ./cmd/pcscd
	sed 's|/usr/sbin/pcscd|$(PREFIX)/sbin/pcscd|' packaging/systemd/pcscd.service >$(BUILD)/install/pcscd.service

install-pcscd-files:
	install -D -m 0755 $(BUILD)/install/pcscd.system $(DESTDIR)$(PREFIX)/sbin/pcscd
	install -D -m 0644 $(BUILD)/install/pcscd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/pcscd.service
	install -D -m 0644 packaging/systemd/pcscd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/pcscd.socket
	install -D -m 0644 packaging/systemd/pcscd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/pcscd.conf
	install -D -m 0644 packaging/udev/60-pcscd.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d/60-pcscd.rules
	install -D -m 0644 packaging/polkit/org.debian.pcsc-lite.policy $(DESTDIR)$(PREFIX)/share/polkit-1/actions/org.debian.pcsc-lite.policy
	install -D -m 0644 packaging/pcscd.conf.example $(DESTDIR)$(PREFIX)/share/doc/pam_pkcs11/pcscd.conf.example
	install -D -m 0644 doc/pcscd.8 $(DESTDIR)$(MANDIR)/man8/pcscd.8

uninstall-pcscd: ## remove what install-pcscd put there; the configuration stays
	@packaging/guard uninstall '$(DESTDIR)' '$(FORCE)' $(PREFIX)/sbin/pcscd
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,sbin/pcscd lib/systemd/system/pcscd.service lib/systemd/system/pcscd.socket \
		lib/sysusers.d/pcscd.conf lib/udev/rules.d/60-pcscd.rules share/polkit-1/actions/org.debian.pcsc-lite.policy \
		share/doc/pam_pkcs11/pcscd.conf.example) $(DESTDIR)$(MANDIR)/man8/pcscd.8

uninstall: ## remove what install put there, unless a file of /etc/pam.d names the module (FORCE=1); the configuration stays
	@packaging/guard uninstall '$(DESTDIR)' '$(FORCE)' $(PAMDIR)/pam_pkcs11.so $(PREFIX)/bin/pam-pkcs11
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-pcscd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-pcscd.socket
	rm -f $(DESTDIR)$(LIBEXECDIR)/pcscd
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-crl.service $(DESTDIR)$(PREFIX)/lib/systemd/system/pam-pkcs11-crl.timer
	rm -f $(DESTDIR)$(PAMDIR)/pam_pkcs11.so $(DESTDIR)$(PREFIX)/bin/pam-pkcs11
	rm -f $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker.so
	rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/bin/%,$(OLD_TOOLS)) $(patsubst %,$(DESTDIR)$(MANDIR)/man1/%.1,$(OLD_TOOLS))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pam-pkcs11 $(DESTDIR)$(ZSHDIR)/_pam-pkcs11 \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pam-pkcs11.fish
	rm -f $(DESTDIR)$(MANDIR)/man8/pam_pkcs11.8 $(DESTDIR)$(MANDIR)/man5/pam_pkcs11.conf.5 $(DESTDIR)$(MANDIR)/man1/pam-pkcs11.1
	rm -f $(DESTDIR)$(PREFIX)/share/doc/pam_pkcs11/pam_pkcs11.conf.example
	-rmdir $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(PREFIX)/share/doc/pam_pkcs11 2>/dev/null

# Debian packages. What building them needs is apart from what the programs need.
DEPS_DEB := debhelper dpkg-dev fakeroot xz-utils
DEPS_LINT_DEB := lintian

.PHONY: deb lint-deb test-packages
deb: toolchain ## build Debian packages in build/deb, as a build of the distribution's would: from vendored modules, without network
	@.ci/deps $(DEPS_DEB)
	@packaging/build-deb $(BUILD)/deb

lint-deb: deb ## lintian on the Debian packages: nothing but what an override explains
	@.ci/deps $(DEPS_LINT_DEB)
	lintian --allow-root --info --display-info --pedantic --fail-on error,warning,info --tag-display-limit 0 $(BUILD)/deb/*.changes

test-packages: deb ## setup and undo in a clean Debian 12, autopkgtests, upgrades from Debian's packages, removal (root, network; 8 minutes)
	@.ci/deps $(DEPS_FRESH)
	$(GO) build -trimpath -ldflags '-s -w' -o $(BUILD)/pcscd-sim ./cmd/pcscd-sim
	test/packages/run $(BUILD)/deb $(BUILD)/pcscd-sim

MSGMERGE := msgmerge --quiet --update --backup=none --no-fuzzy-matching --no-wrap

pot: deps toolchain ## write the templates of the translations anew, merge them into the catalogues, and these into Go
	$(GO) run ./po/genpot
	for f in po/*.po; do $(MSGMERGE) "$$f" po/pam_pkcs11.pot || exit 1; done
	for f in po/tool/*.po; do $(MSGMERGE) "$$f" po/tool/pam-pkcs11.pot || exit 1; done
	$(GO) run ./po/gencatalogs

.PHONY: picture
picture: toolchain ## draw doc/login.svg, the way of a login, and doc/floors.svg, the packages, anew
	$(GO) run ./doc/picture

clean: ## remove build/
	rm -rf $(BUILD)
